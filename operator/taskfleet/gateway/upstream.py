"""One attempt at one pod. Says whether the pod answered, or whether the request may be tried elsewhere and what that risks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from yarl import URL

from taskfleet.api.agent import NOT_HERE_STATUS
from taskfleet.gateway.errors import UpstreamTimedOutError
from taskfleet.gateway.records import Endpoint
from taskfleet.kube.errors import KubeError

REQUEST_ID = "x-request-id"


class PoolTokens(Protocol):
    """`kube.PoolTokens` has it."""

    async def get(self, audience: str) -> str:
        """A token of the gateway's own ServiceAccount that is good for one pool. Raises KubeError."""
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
    # Our token, not the client's: an issuer's key that has not reached the pod, or an agent that has not got its document.
    401: "unauthorized",
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

    def resting(self, model: str, now: float) -> set[str]:
        """Pods that are asked for the model only where nobody else is left."""
        if not self._resting:
            return set()
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        return {address for name, address in self._resting if name == model}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds."""

    connect: float
    first_byte: float
    request: float


class Answer:
    """A pod's answer, open: read it within `async with`. Leaving the block early breaks the connection, which ends the engine's work on it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._response.release()
        else:
            self._response.close()

    async def read(self) -> bytes:
        """The whole body. Raises ElsewhereError, UpstreamTimedOutError."""
        try:
            return await self._response.read()
        except TimeoutError:
            raise UpstreamTimedOutError("The model took too long to answer") from None
        except aiohttp.ClientError as error:
            raise ElsewhereError("broken", executed=True, message=str(error)) from error

    async def chunk(self) -> bytes:
        """The next bytes of a stream; empty at its end. Raises ElsewhereError, UpstreamTimedOutError."""
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise UpstreamTimedOutError("The model took too long to go on") from None
        except aiohttp.ClientError as error:
            raise ElsewhereError("broken", executed=True, message=str(error)) from error


class Upstream:
    """Sends requests to agents, over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, tokens: PoolTokens, timeouts: Timeouts) -> None:
        self._session = session
        self._tokens = tokens
        self._urls: dict[tuple[str, str], URL] = {}
        self._whole = aiohttp.ClientTimeout(total=timeouts.request, sock_connect=timeouts.connect)
        self._stream = aiohttp.ClientTimeout(total=timeouts.request, sock_connect=timeouts.connect, sock_read=timeouts.first_byte)

    async def ask(self, endpoint: Endpoint, path: str, body: bytes, *, stream: bool, request_id: str) -> Answer:
        """The pod's answer, whatever its status, but for those that mean another pod. Raises ElsewhereError, UpstreamTimedOutError."""
        try:
            token = await self._tokens.get(endpoint.pool_uid)
        except KubeError as error:
            raise ElsewhereError("no-token", message=str(error)) from error
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", REQUEST_ID: request_id}
        response = await self._post(endpoint, path, body, headers, self._stream if stream else self._whole)
        if reason := _NOT_EXECUTED.get(response.status):
            # A refusal is short; reading it to its end keeps the connection.
            refusal = await Answer(response).read()
            raise ElsewhereError(reason, message=refusal[:500].decode("utf-8", "replace"))
        if response.status == 502:
            response.close()
            raise ElsewhereError("broken", executed=True)
        return Answer(response)

    async def _post(
        self, endpoint: Endpoint, path: str, body: bytes, headers: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session.post(
                self._url(endpoint.address, path), data=body, headers=headers, timeout=limits, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ElsewhereError("refused", message=str(error)) from error
        except TimeoutError:
            raise UpstreamTimedOutError("The model took too long to answer") from None
        except aiohttp.ClientError as error:
            raise ElsewhereError("broken", executed=True, message=str(error)) from error

    def _url(self, address: str, path: str) -> URL:
        if (url := self._urls.get((address, path))) is None:
            if len(self._urls) > 4096:  # addresses of pods that are long gone
                self._urls.clear()
            url = self._urls[address, path] = URL(f"http://{address}{path}", encoded=True)
        return url


def session() -> aiohttp.ClientSession:
    """The one session towards agents: no cookies, no proxies from the environment, as many connections as there are requests."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, use_dns_cache=False),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        read_bufsize=2**18,
        trust_env=False,
    )
