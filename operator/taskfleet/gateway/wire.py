"""HTTP/1.1 towards agents: one request after the other on a connection, bodies by length, in chunks or to the connection's end. No more.

aiohttp's client is a good one and costs 160 µs of CPU a request; this one costs 33 (same machine, same run), which is a quarter of all that the gateway spends. Agents run
in their tenants' namespaces, so an answer is not trusted: it is bounded, and whatever is not as it should be ends the connection before anything else could be read from it.

WireError
├── NotConnectedError   nothing was sent
└── BrokenError         the connection ended, or what came was not HTTP; the request may have been worked on
"""

import asyncio
import string
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
# A pod that sends faster than the client reads is stopped here.
HIGH_WATER_BYTES = 256 * 1024

_HEX = frozenset(string.hexdigits.encode())
_TO_THE_END = -1


class WireError(Exception):
    """No answer."""


class NotConnectedError(WireError):
    """Nothing was sent."""


class BrokenError(WireError):
    """The connection ended, or what came was not HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; names in lower case."""

    status: int
    headers: Mapping[str, str]


class Connection(asyncio.Protocol):
    """One connection to an agent. `request`, then `head`, then `some` until it gives nothing; then it may be used again where `reusable` says so."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._raw = bytearray()  # not yet understood
        self._body = bytearray()  # not yet read
        self._head: Head | None = None
        self._failure: Exception | None = None
        self._left = 0  # of the body, or of the current chunk; or _TO_THE_END
        self._chunked = False
        self._in_chunk = False
        self._complete = True
        self._keep = False
        self._paused = False
        self._last = self._due = self._quiet = 0.0

    @property
    def reusable(self) -> bool:
        """The answer is complete, nothing is left over, and both sides stay."""
        return (
            self._complete
            and self._keep
            and not self._raw
            and not self._body
            and self._failure is None
            and not self._transport.is_closing()
        )

    def request(self, data: bytes, *, within: float, quiet: float) -> None:
        """Sends a whole request. From now `within` seconds for the answer, and `quiet` seconds at most without a byte of it; then TimeoutError."""
        self._head, self._complete, self._keep = None, False, False
        self._last = self._loop.time()
        self._due, self._quiet = self._last + within, quiet
        self._timer = self._loop.call_at(min(self._due, self._last + quiet), self._check_time)
        self._transport.write(data)

    async def head(self) -> Head:
        """The answer's head. Raises BrokenError, TimeoutError."""
        while self._head is None:
            await self._wait()
        return self._head

    async def some(self) -> bytes:
        """Bytes of the body as they come; none at its end. Raises BrokenError, TimeoutError."""
        while not self._body:
            if self._complete:
                return b""
            await self._wait()
        data = bytes(self._body)
        self._body.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """Ends the connection, and with it whatever is done on the other side."""
        self._fail(BrokenError("closed"))

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        self._stop_timer()
        self._transport.abort()
        self._wake()

    def _finish(self) -> None:
        self._complete = True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_time(self) -> None:
        # Re-armed only when it fires: setting a timer at every chunk would cost more than reading the chunk.
        now, due = self._loop.time(), min(self._due, self._last + self._quiet)
        if now >= due:
            self._fail(TimeoutError())
        else:
            self._timer = self._loop.call_at(due, self._check_time)

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows the type; create_connection makes no other
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._complete and self._head is not None and self._left == _TO_THE_END and exc is None:
            self._finish()
        if self._failure is None:
            self._failure = BrokenError(str(exc or "the connection was closed"))
        self._stop_timer()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._complete:
            # Unasked, or more than the answer's length: nothing on this connection can be trusted any more.
            self._fail(BrokenError("bytes that belong to no answer"))
            return
        self._last = self._loop.time()
        self._raw += data
        try:
            while self._step():
                pass
        except ValueError as error:
            self._fail(BrokenError(f"not HTTP: {error}"))
            return
        if self._complete and self._raw:
            self._fail(BrokenError("bytes that belong to no answer"))
            return
        if len(self._body) > HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    # The answer, step by step; each says whether there may be another. All raise ValueError.

    def _step(self) -> bool:
        if self._complete:
            return False
        if self._head is None:
            return self._read_head()
        if self._chunked and not self._in_chunk:
            return self._read_chunk_size()
        return self._read_body()

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self._raw) > MAX_HEAD_BYTES:
                raise ValueError("the head is too long")
            return False
        lines = bytes(self._raw[:end]).decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        version, status = lines[0][:9], lines[0][9:12]
        if version not in ("HTTP/1.1 ", "HTTP/1.0 ") or not (status.isascii() and status.isdigit() and status[0] in "12345"):
            raise ValueError("no status line")
        if status[0] == "1":
            return True
        headers = _headers(lines[1:])
        self._head = Head(int(status), headers)
        self._keep = version == "HTTP/1.1 " and headers.get("connection", "").lower() != "close"
        self._frame(self._head)
        return True

    def _frame(self, head: Head) -> None:
        """How the body's end will be known (RFC 9112, 6.3)."""
        encoding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        self._chunked = self._in_chunk = False
        self._left = 0
        if head.status in (204, 304):
            self._finish()
        elif encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise ValueError("two ways to find the body's end")
            self._chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise ValueError("no length")
            self._left = int(length)
            if not self._left:
                self._finish()
        else:
            self._left, self._keep = _TO_THE_END, False

    def _read_body(self) -> bool:
        if self._left == _TO_THE_END or len(self._raw) <= self._left:
            self._body += self._raw
            if self._left != _TO_THE_END:
                self._left -= len(self._raw)
            self._raw.clear()
        else:
            self._body += self._raw[: self._left]
            del self._raw[: self._left]
            self._left = 0
        if self._left:
            return False
        if not self._chunked:
            self._finish()
            return False
        if len(self._raw) < 2:
            return False
        if self._raw[:2] != b"\r\n":
            raise ValueError("a chunk without end")
        del self._raw[:2]
        self._in_chunk = False
        return True

    def _read_chunk_size(self) -> bool:
        end = self._raw.find(b"\r\n")
        if end < 0:
            if len(self._raw) > 1024:
                raise ValueError("a chunk's size is too long")
            return False
        size = bytes(self._raw[:end]).partition(b";")[0].strip()
        if not size or len(size) > 8 or not _HEX.issuperset(size):
            raise ValueError("a chunk without size")
        self._left = int(size, 16)
        if self._left:
            del self._raw[: end + 2]
            self._in_chunk = True
            return True
        return self._read_trailer(end)

    def _read_trailer(self, end: int) -> bool:
        # Nobody here sends trailers: after the last chunk's size line comes the empty line and nothing else.
        if len(self._raw) < end + 4:
            return False
        if self._raw[end : end + 4] != b"\r\n\r\n":
            raise ValueError("trailers")
        del self._raw[: end + 4]
        self._finish()
        return False


# What would end a line for somebody else: such a header must not go on to a client.
_LINE_ENDS = frozenset("\r\n\0")


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not _LINE_ENDS.isdisjoint(line):
            raise ValueError("a line end within a header")
        if not colon or not name or name != name.strip() or (name in headers and name in ("content-length", "transfer-encoding")):
            raise ValueError("a header that is none")
        headers[name] = value.strip(" \t")
    return headers
