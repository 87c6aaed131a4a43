"""One request at a time to the gateway, as an application would send it, with everything of the answer to look at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    @property
    def text(self) -> str:
        """The answer's text. Fails with the whole answer where it is an error."""
        assert self.status == 200, f"HTTP {self.status}: {self.raw[:1000].decode(errors='replace')}"
        return str(self.body["choices"][0]["message"]["content"])

    @property
    def error_code(self) -> str:
        """The `code` of an OpenAI-shaped error. Fails where the error has another shape."""
        error = self.body["error"]
        assert set(error) >= {"message", "type", "code"}, f"not an OpenAI-shaped error: {error}"
        return str(error["code"])


class OpenAiClient:
    """A client of one gateway with one token. `patience`: seconds that it waits for a sign of an answer."""

    def __init__(self, url: str, token: str = "", *, patience: float = 60) -> None:
        self.url = url
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=patience), maxsize=4)

    def request(self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        reply = self._pool.request(method, self.url + path, body=content, headers=self._headers | dict(headers or {}))
        return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.data)

    def chat(self, model: str, prompt: str, **more: object) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 48} | more
        return self.request("POST", "/v1/chat/completions", body)

    def models(self) -> list[str]:
        answer = self.request("GET", "/v1/models")
        assert answer.status == 200, answer.raw
        return [one["id"] for one in answer.body["data"]]
