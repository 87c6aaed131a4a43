"""One attempt at one pod. Says whether the pod answered, or whether the request may be tried elsewhere and what that risks."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from taskfleet.api.agent import NOT_HERE_STATUS, READY_PATH
from taskfleet.gateway.connections import Connections
from taskfleet.gateway.errors import UpstreamTimedOutError
from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.trace_context import TraceContext
from taskfleet.gateway.wire import Connection, Head, NotConnectedError, WireError
from taskfleet.kube.errors import KubeError

REQUEST_ID = "x-request-id"
# Longest answer that is not a stream. Answers with log probabilities are long; one without end must not fill the memory.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# What an answer, or an event of a stream, may have before it counts as room that its caller takes: nearly all have less.
UNCOUNTED_BYTES = 64 * 1024


class PoolTokens(Protocol):
    """`kube.PoolTokens` has it."""

    async def get(self, audience: str) -> str:
        """A token of the gateway's own ServiceAccount that is good for one pool. Raises KubeError."""
        ...

    async def another(self, audience: str, refused: Collection[str]) -> str | None:
        """One that was not refused yet, or None. Raises KubeError."""
        ...


class ElsewhereError(Exception):
    """The pod did not answer; another may. `reason` is a label of metrics.

    `executed`: the engine may have begun. A request that kills engines would go from pod to pod, so such an attempt is repeated once only.
    """

    def __init__(self, reason: str, *, executed: bool = False, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.executed = executed


# What agents and engines answer when the request has not been worked on, by status.
_NOT_EXECUTED = {
    NOT_HERE_STATUS: "not-here",
    # The routes asked for are fixed, so it is the engine's word that it does not have the adapter: the agent had not noticed yet.
    404: "not-found",
    # Our token, not the client's. (401 is dealt with before: another token may do.)
    403: "unauthorized",
    503: "unavailable",
}


@dataclass(slots=True)
class Load:
    """Requests of this gateway in flight by pod, and pods that better rest for a moment."""

    in_flight: dict[str, int] = field(default_factory=dict)
    _resting: dict[tuple[str, str], float] = field(default_factory=dict)

    def enter(self, address: str) -> None:
        """A request goes to the pod."""
        self.in_flight[address] = self.in_flight.get(address, 0) + 1

    def leave(self, address: str) -> None:
        """It is over."""
        left = self.in_flight[address] - 1
        if left:
            self.in_flight[address] = left
        else:
            del self.in_flight[address]

    def rest(self, model: str, address: str, until: float) -> None:
        """The pod would not answer for the model just now."""
        self._resting[model, address] = until

    def rests(self, now: float) -> bool:
        """Whether any pod rests. Forgets those that have rested enough."""
        if self._resting:
            self._resting = {key: until for key, until in self._resting.items() if until > now}
        return bool(self._resting)

    def resting(self, model: str) -> set[str]:
        """Pods that are asked for the model only where nobody else is left."""
        return {address for name, address in self._resting if name == model}


class Answer:
    """A pod's answer, open: read it within `async with`. Leaving the block early breaks the connection, which ends the engine's work on it."""

    def __init__(self, head: Head, connection: Connection, give_back: Callable[[Connection], None]) -> None:
        self.status = head.status
        self.headers = head.headers
        self._connection = connection
        self._give_back = give_back

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back(self._connection)

    async def read(self, keep: Callable[[int], None] = lambda _: None) -> bytes:
        """The whole body; `keep` is told how much more of a long one is kept, and may raise. Raises ElsewhereError, UpstreamTimedOutError."""
        parts = []
        size = 0
        while part := await self.chunk():
            parts.append(part)
            size += len(part)
            if size > UNCOUNTED_BYTES:
                keep(len(part))
            if size > MAX_ANSWER_BYTES:
                raise ElsewhereError("broken", executed=True, message="an answer without end")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunk(self) -> bytes:
        """The next bytes of a stream; empty at its end. Raises ElsewhereError, UpstreamTimedOutError."""
        try:
            return await self._connection.some()
        except TimeoutError:
            raise UpstreamTimedOutError("The model took too long to answer") from None
        except WireError as error:
            raise ElsewhereError("broken", executed=True, message=str(error)) from error


class Upstream:
    """Sends requests to agents."""

    def __init__(self, tokens: PoolTokens, *, connect_seconds: float) -> None:
        self._tokens = tokens
        self._connections = Connections(connect_seconds=connect_seconds)

    def close(self) -> None:
        """Closes idle connections."""
        self._connections.close()

    async def ask(
        self, endpoint: Endpoint, path: str, body: bytes, *, request_id: str, trace: TraceContext | None, within: float, quiet: float
    ) -> Answer:
        """The pod's answer, whatever its status, but for those that mean another pod. Raises ElsewhereError, UpstreamTimedOutError.

        `within` seconds for all of it, and `quiet` seconds at most without a byte.
        """
        due = time.monotonic() + within
        refused: list[str] = []
        while True:
            token = await self._token(endpoint.pool_uid, refused)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {endpoint.address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
                f"{REQUEST_ID}: {request_id}\r\n{trace.lines() if trace else ''}Content-Length: {len(body)}\r\n\r\n"
            )
            answer = await self._send(endpoint, head.encode() + body, within=due - time.monotonic(), quiet=quiet)
            if answer.status != 401:
                break
            refused.append(token)
            async with answer:
                await answer.read()
        if answer.status == 502:
            async with answer:
                raise ElsewhereError("broken", executed=True, message=_text(await answer.read()))
        if reason := _NOT_EXECUTED.get(answer.status):
            async with answer:
                raise ElsewhereError(reason, message=_text(await answer.read()))
        return answer

    async def is_ready(self, endpoint: Endpoint, *, within: float) -> bool:
        """Whether the pod says that it is Ready, as it would to the kubelet; a pod that starts takes its time to say no."""
        try:
            answer = await self._send(
                endpoint, f"GET {READY_PATH} HTTP/1.1\r\nHost: {endpoint.address}\r\n\r\n".encode(), within=within, quiet=within
            )
            async with answer:
                await answer.read()
        except (ElsewhereError, UpstreamTimedOutError):
            return False
        return answer.status == 200

    async def _token(self, audience: str, refused: Sequence[str]) -> str:
        """Raises ElsewhereError where there is none that the pod has not refused."""
        try:
            token = await (self._tokens.another(audience, refused) if refused else self._tokens.get(audience))
        except KubeError as error:
            raise ElsewhereError("unauthorized" if refused else "no-token", message=str(error)) from error
        if token is None:
            raise ElsewhereError("unauthorized", message="the pod refuses the gateway's tokens")
        return token

    async def _send(self, endpoint: Endpoint, request: bytes, *, within: float, quiet: float) -> Answer:
        try:
            connection = await self._connections.take(endpoint)
        except NotConnectedError as error:
            raise ElsewhereError("refused", message=str(error)) from error

        def give_back(used: Connection) -> None:
            self._connections.give_back(endpoint, used)

        connection.request(request, within=within, quiet=quiet)
        try:
            return Answer(await connection.head(), connection, give_back)
        except TimeoutError:
            raise UpstreamTimedOutError("The model took too long to answer") from None
        except WireError as error:
            raise ElsewhereError("broken", executed=True, message=str(error)) from error
        except asyncio.CancelledError:
            connection.close()
            raise


def _text(refusal: bytes) -> str:
    return refusal[:500].decode("utf-8", "replace")
