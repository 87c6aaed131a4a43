"""Many clients that have asked and wait, each with a connection of its own, until they leave: nobody reads, so it takes no threads."""

import json
import selectors
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection

from tests.cluster.load import Target
from tests.cluster.openai_client import Answer

ANSWER_SECONDS = 10.0


class Crowd:
    """Who still waits, and what the others were told."""

    def __init__(self, waiting: Sequence[HTTPConnection]) -> None:
        self._waiting = list(waiting)
        self.answers: list[Answer] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def listen(self) -> list[Answer]:
        """Takes the answers that have come, and gives all there were so far."""
        with selectors.DefaultSelector() as selector:
            for client in self._waiting:
                selector.register(client.sock, selectors.EVENT_READ, client)
            answered = [key.data for key, _ in selector.select(timeout=0)]
        for client in answered:
            reply = client.getresponse()
            self.answers.append(Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()))
            self._waiting.remove(client)
            client.close()
        return self.answers

    def leave(self) -> None:
        """All who wait close their connections."""
        for client in self._waiting:
            client.close()
        self._waiting.clear()


@contextmanager
def crowd(url: str, target: Target, count: int) -> Iterator[Crowd]:
    """So many clients ask at once; who still waits at the end of the block leaves."""
    gateway = urllib.parse.urlsplit(url)
    body = json.dumps({"model": target.model, "messages": [{"role": "user", "content": target.prompt}], "max_tokens": target.max_tokens})
    headers = {"content-type": "application/json", "authorization": f"Bearer {target.token}"}
    clients = [HTTPConnection(gateway.hostname or "", gateway.port, timeout=ANSWER_SECONDS) for _ in range(count)]
    found = Crowd(clients)
    try:
        for client in clients:
            client.request("POST", "/v1/chat/completions", body=body, headers=headers)
        yield found
    finally:
        found.leave()
