"""The one way to the network for artifacts, whatever the source: what is sent where, and what an answer may take.

- Addresses are checked at every hop, redirects included (`addresses`, `connections`).
- https never goes on as http. Only what begins at a host that the administrator has named for plain http may go on over it.
- Credentials are headers for one origin (scheme, host and port). They are gone with the first redirect to another one, also if that leads back.
- Nothing of the environment is used: no proxies, no .netrc, no cookies.
- Bodies are read as they come: an encoding that nobody has asked for is never undone.
- Header fields are bounded by http.client (100 of them, 64 KiB each), bodies by who reads; no wait is without a limit, and neither is a server that sends drop by drop.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Self
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Timeout, Url, parse_url

from taskfleet import __version__
from taskfleet.artifacts import addresses
from taskfleet.artifacts.access import Access, TimeLimit
from taskfleet.artifacts.connections import PlainPool, TlsPool, Watchdog, connect_to, tls_context
from taskfleet.artifacts.errors import SourceUnavailable

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # between two pieces of an answer, not for all of it
ANSWER_SECONDS = 60.0  # for an answer's head, from the connection on
SLOW_SECONDS = 30.0  # what is slower for so long ...
SLOWEST_BYTES_PER_SECOND = 1024  # ... than this holds others up
MAX_REDIRECTS = 5
PIECE_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a credential is for."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises SourceUnavailable for what is no URL of http or https."""
        return cls._from(_parsed(url))

    @classmethod
    def _from(cls, parsed: Url) -> Self:
        scheme = parsed.scheme or ""
        return cls(scheme, (parsed.host or "").lower(), parsed.port or _PORTS[scheme])

    def __str__(self) -> str:
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


class Answer:
    """One answer, its body still to be read. To be closed."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, origin: Origin, limit: TimeLimit, watchdog: Watchdog) -> None:
        self._raw = raw
        self._time = limit
        self._watchdog = watchdog
        self.origin = origin
        self.status_code = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Also when it was not read to its end: the connection goes with it then."""
        self._raw.close()
        self._raw.release_conn()

    def pieces(self, *, limit: int) -> Iterator[bytes]:
        """The raw body, at most `limit` bytes and one piece more. Raises SourceUnavailable when it breaks off or takes too long."""
        received, mark, mark_at = 0, 0, time.monotonic()
        with told_as_unavailable(str(self.origin)):
            while received <= limit and (piece := self._piece()):
                received += len(piece)
                yield piece
                now = time.monotonic()
                if now - mark_at > SLOW_SECONDS:
                    if received - mark < SLOWEST_BYTES_PER_SECOND * (now - mark_at):
                        raise SourceUnavailable(f"{self.origin} is too slow: {received - mark} bytes in {now - mark_at:.0f} seconds")
                    mark, mark_at = received, now

    def _piece(self) -> bytes:
        with self._watchdog.limit(min(READ_SECONDS, self._time.remaining(str(self.origin))), str(self.origin)):
            return self._raw.read1(PIECE_BYTES, decode_content=False)

    def read(self, *, limit: int) -> bytes:
        """The whole body. Raises SourceUnavailable, also for more than `limit` bytes."""
        body = b"".join(self.pieces(limit=limit))
        if len(body) > limit:
            raise SourceUnavailable(f"{self.origin} answers with more than {limit} bytes")
        return body


class Transport:
    """A conversation, used by one thread."""

    def __init__(self, access: Access, limit: TimeLimit) -> None:
        self._access = access
        self._time = limit
        self._pools: dict[Origin, Any] = {}
        self._watchdog = Watchdog()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections."""
        self._watchdog.stop()
        for pool in self._pools.values():
            pool.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Any answer that is no redirect to somewhere. `credentials` are headers for the URL's own origin only. Raises SourceUnavailable, SourceNotAllowed."""
        first = origin = Origin.of(url)
        if first.scheme == "http" and str(first) not in self._access.insecure_hosts:
            raise SourceUnavailable(f"{first} is not asked over plain http: it is not in the chart's value insecureRegistries")
        secret: Mapping[str, str] = credentials or {}
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(method, url, origin, {**(headers or {}), **secret}, body)
            target = answer.headers.get("Location")
            # Without a target it is an answer like others: Amazon tells of a bucket in another region so.
            if answer.status_code not in _REDIRECTS or method not in {"GET", "HEAD"} or target is None:
                return answer
            answer.close()
            url = _joined(url, target)
            origin = self._redirected(answer.origin, url)
            secret = secret if origin == first else {}
        raise SourceUnavailable(f"{first} redirects too often")

    def get(self, url: str, *, headers: Mapping[str, str] | None = None, credentials: Mapping[str, str] | None = None) -> Answer:
        """`request` with GET."""
        return self.request("GET", url, headers=headers, credentials=credentials)

    def _redirected(self, before: Origin, url: str) -> Origin:
        origin = Origin.of(url)
        if origin.scheme == "http" and before.scheme == "https":
            raise SourceUnavailable(f"{before} redirects to plain http at {origin}, which is not followed")
        return origin

    def _send(self, method: str, url: str, origin: Origin, headers: dict[str, str], body: bytes | None) -> Answer:
        parsed = _parsed(url)
        addresses.check_host(origin.host)
        sent = {"User-Agent": f"taskfleet/{__version__}", **headers, "Accept-Encoding": "identity"}
        remaining = self._time.remaining(str(origin))
        with told_as_unavailable(str(origin)), self._watchdog.limit(min(ANSWER_SECONDS, remaining), str(origin)):
            raw = self._pool(origin).urlopen(
                method,
                parsed.request_uri,
                body=body,
                headers=sent,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=min(CONNECT_SECONDS, remaining), read=min(READ_SECONDS, remaining)),
                preload_content=False,
                decode_content=False,
            )
        return Answer(raw, origin, self._time, self._watchdog)

    def _pool(self, origin: Origin) -> Any:
        pool = self._pools.get(origin)
        if pool is None:
            guarded: dict[str, Any] = {"connect": self._connect, "opened": self._watchdog.guard}
            if origin.scheme == "https":
                guarded["ssl_context"] = self._access.tls or tls_context()
            kind = TlsPool if origin.scheme == "https" else PlainPool
            pool = kind(origin.host.removeprefix("[").removesuffix("]"), origin.port, **guarded)
            self._pools[origin] = pool
        return pool

    def _connect(self, host: str, port: int, seconds: float) -> Any:
        found = self._access.lookup(host, port)
        addresses.check_addresses(host, found, self._access.allowed_networks)
        return connect_to([str(address) for address in found], host, port, seconds)


@contextmanager
def told_as_unavailable(host: str) -> Iterator[None]:
    """Whatever the network layers raise, as SourceUnavailable."""
    try:
        yield
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        raise SourceUnavailable(f"{host} can't be read: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """The innermost error's words: the outer ones repeat URLs, which may carry signatures."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}"[:200]


def _parsed(url: str) -> Url:
    try:
        parsed = parse_url(url)
    except (LocationParseError, ValueError):
        raise SourceUnavailable("a source or a redirect names no URL that could be asked") from None
    if parsed.scheme not in _PORTS or not parsed.host or parsed.auth is not None:
        raise SourceUnavailable(
            f"a source or a redirect names {parsed.scheme or 'nothing'}:// at {parsed.host or 'no host'}, which is not followed"
        )
    return parsed


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise SourceUnavailable("a redirect names no URL that could be asked") from None
