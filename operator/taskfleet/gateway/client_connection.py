"""A client's connection: aiohttp's HTTP server, with bounds on what a client may do slowly and with errors in OpenAI's shape.

What aiohttp bounds itself: the length of a line and of a field, the number of fields, requests that are pipelined, a connection that does nothing. What is added here costs
nothing while all goes well: a head that comes in drops, an answer that nobody takes, too many connections, and text of the client's in error answers and logs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from taskfleet.logs import fields

log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# All fields of one head together. aiohttp bounds each one and their number only.
MAX_HEAD_BYTES = 64 * 1024
# One field: a token of Kubernetes has one to four kilobytes, one with many groups more.
MAX_FIELD_BYTES = 16 * 1024
MAX_FIELDS = 100
# What the client of a refused request still sends is read and dropped so long, that it may read the refusal.
LINGER_SECONDS = 2.0
# A client that has been sent more than it takes must take this much of it in each `stall` seconds, and one part in so many, or it is cut off: what it leaves lying is kept here.
LEAST_PROGRESS_BYTES = 32 * 1024
LEAST_PROGRESS_PART = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """In seconds and connections. `idle`: between two requests; `head`: from a head's first byte to its last; `stall`: without the least progress in taking an answer."""

    idle: float = 75.0
    head: float = 10.0
    stall: float = 30.0
    connections: int = 10_000


class ClientConnection(RequestHandler):
    """One connection. `closed` is told why a connection was ended against its client's will."""

    __slots__ = ("_closed", "_head_bytes", "_head_timer", "_limits", "_resumed", "_stall_timer", "_unsent", "_wire")

    def __init__(self, server: "ClientServer", *, limits: ClientLimits, closed: Callable[[str], None], **arguments: Any) -> None:
        super().__init__(server, **arguments)
        self._limits = limits
        self._closed = closed
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._resumed = False
        self._wire: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows the type; servers make no other
        self._wire = transport
        if isinstance(self._manager, ClientServer) and self._manager.count > self._limits.connections:
            self._end("too-many", 503, "too_many_connections", "The gateway has too many connections", "Retry-After: 1\r\n")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_complete()
        self._stop_watching()
        super().connection_lost(exc)

    # A head that comes in drops

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiter is not None and not self._waiter.done():
            # Still waiting for a request, so what came was a part of a head.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end("head-too-large", 431, "headers_too_large", f"The request's head is longer than {MAX_HEAD_BYTES} bytes")
            elif self._head_timer is None and data:
                self._head_timer = self._loop.call_later(self._limits.head, self._head_is_late)
        elif self._head_timer is not None:
            self._head_complete()

    def _head_complete(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._waiter is not None and not self._waiter.done():
            self._end("head-timeout", 408, "request_timeout", "The request's head did not come in time")

    # An answer that nobody takes. asyncio's transports keep what they can't send yet, and closing one waits until it is sent, for ever if need be.

    async def start(self) -> None:
        await super().start()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._resumed = True

    def force_close(self) -> None:
        super().force_close()
        self._watch()

    def _watch(self) -> None:
        if self._stall_timer is None and (unsent := self._wire.get_write_buffer_size()):
            self._unsent, self._resumed = unsent, False
            self._stall_timer = self._loop.call_later(self._limits.stall, self._check_progress)

    def _stop_watching(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _check_progress(self) -> None:
        self._stall_timer = None
        taken = self._unsent - self._wire.get_write_buffer_size()
        # More may have been written meanwhile: that happens only after the client has taken nearly everything.
        if self._resumed or taken >= min(max(LEAST_PROGRESS_BYTES, self._unsent // LEAST_PROGRESS_PART), self._unsent):
            self._watch()
            return
        self._closed("stalled")
        self._wire.abort()

    # Errors

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is no HTTP. Neither the answer nor the log repeats what the client sent."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the client is gone, or has a part of an answer already") from exc
        self._closed("malformed")
        log.debug("not HTTP", extra=fields(error=type(exc).__name__))
        code, text = "invalid_http", "The request is not valid HTTP/1.1"
        if isinstance(exc, LineTooLong) or (message or "").startswith("Too many headers"):
            status, code = 431, "headers_too_large"
            text = f"A header may have {MAX_FIELD_BYTES} bytes, and a request {MAX_FIELDS} headers"
        elif message == "Missing 'Host' header in request.":
            text = "The request has no Host header"
        response = web.Response(status=status, body=_error(code, text), content_type="application/json", headers={"Server": "taskfleet"})
        response.force_close()
        return response

    def _end(self, reason: str, status: int, code: str, message: str, headers: str = "") -> None:
        self._closed(reason)
        self._head_complete()
        if self.transport is None:
            return
        body = _error(code, message)
        head = (
            f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"{headers}Server: taskfleet\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.force_close()


class ClientServer(web.Server):
    """Makes a ClientConnection for every client. A client that leaves cancels its handler, and with it the work on its request."""

    def __init__(self, handler: Handler, *, limits: ClientLimits, closed: Callable[[str], None]) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._limits = limits
        self._closed = closed

    @property
    def count(self) -> int:
        """Open connections."""
        return len(self._connections)

    def __call__(self) -> RequestHandler:
        return ClientConnection(
            self,
            limits=self._limits,
            closed=self._closed,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=self._limits.idle,
            lingering_time=LINGER_SECONDS,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
            # A short text can grow without end when it is decompressed; no client of OpenAI's API compresses.
            auto_decompress=False,
        )


def _error(code: str, message: str) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})
