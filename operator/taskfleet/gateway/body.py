"""Reads a request's body, and refuses what could not be JSON before it is read."""

import asyncio
import re

from aiohttp import web

from taskfleet.gateway.errors import BadRequestError, ExpectationError, TooLargeError, TooSlowError, UnsupportedMediaError
from taskfleet.gateway.places import Place

_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})  # the second pair is a part of the first
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)


class BodyReader:
    """`max_bytes` of one body; `seconds` until all of it has come."""

    def __init__(self, *, max_bytes: int, seconds: float) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def read(self, request: web.BaseRequest, place: Place) -> bytes:
        """The body; `place` keeps count of it. Raises ApiError."""
        check_type(request)
        length = request.content_length
        if length is not None and length > self._max_bytes:
            raise self._too_large()
        if expectation := request.headers.get("Expect"):
            await _meet(expectation, request)
        if request.content.is_eof():
            return await self._read(request, place)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._read(request, place)
        except TimeoutError:
            raise TooSlowError("The request's body did not come in time") from None

    async def _read(self, request: web.BaseRequest, place: Place) -> bytes:
        chunks, size = [], 0
        try:
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large()
                place.grow(len(chunk))
                chunks.append(chunk)
        except (web.PayloadAccessError, web.RequestPayloadError) as error:
            raise BadRequestError("The body can't be read: it is not what the request's head announces", code="invalid_body") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"The body is longer than {self._max_bytes} bytes")


def check_type(request: web.BaseRequest) -> None:
    """Raises UnsupportedMediaError for anything but JSON in UTF-8, as it is. Other types are not guessed at: a web page can send them anywhere without asking."""
    headers = request.headers
    given = headers.get("Content-Type", "")
    if given != "application/json":
        kind, _, _ = given.partition(";")
        if kind.strip().lower() != "application/json":
            raise UnsupportedMediaError("The body must be JSON: Content-Type: application/json")
        charset = _CHARSET.search(given)
        if charset and charset[1].lower() not in _CHARSETS:
            raise UnsupportedMediaError("The body must be JSON in UTF-8; no other charset is read")
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaError("The body must not be compressed: no Content-Encoding is read", accept_encoding="identity")


async def _meet(expectation: str, request: web.BaseRequest) -> None:
    if request.version < (1, 1):
        return  # RFC 9110, 10.1.1: to be ignored
    if expectation.strip().lower() != "100-continue":
        raise ExpectationError("The only expectation that is met is 100-continue")
    if not request.content.is_eof():
        # Only now: a client that waits for it has not sent what it may not, or what is too long.
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
