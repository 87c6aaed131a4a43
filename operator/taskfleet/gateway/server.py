"""The public API: addresses, identity, limits, and errors as OpenAI's clients expect them. What happens to a request behind that is the proxy's business.

Built on aiohttp's bare server: its application layer (resolver, middlewares, signals) costs a tenth of a request and gives nothing that three addresses need.
"""

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import ClientConnectionResetError, web

from taskfleet.gateway import models
from taskfleet.gateway import request as requests
from taskfleet.gateway.auth import Access, Caller
from taskfleet.gateway.errors import (
    ApiError,
    BadRequestError,
    MethodNotAllowedError,
    ModelNotFoundError,
    NotFoundError,
    TooLargeError,
    TooManyRequestsError,
    TooSlowError,
)
from taskfleet.gateway.meter import Meter
from taskfleet.gateway.model_name import parse
from taskfleet.gateway.proxy import PATHS, Proxy
from taskfleet.gateway.routes import RouteTable
from taskfleet.gateway.shaping import Kind
from taskfleet.gateway.upstream import REQUEST_ID

log = logging.getLogger(__name__)

MODELS = "/v1/models"
_KINDS = {path: kind for kind, path in PATHS.items()}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class PublicApi:
    """Handles requests of clients. `open_requests` counts those in work; set `closing` and connections are not kept alive any longer."""

    def __init__(
        self,
        *,
        table: RouteTable,
        access: Access,
        proxy: Proxy,
        meter: Meter,
        max_body_bytes: int,
        body_seconds: float,
        max_open_requests: int,
    ) -> None:
        self._table = table
        self._access = access
        self._proxy = proxy
        self._meter = meter
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self._max_open_requests = max_open_requests
        self.open_requests = 0
        self.closing = False
        self._idle = asyncio.Event()

    async def idle(self) -> None:
        """Returns when, after `closing` was set, nothing is in work."""
        while self.open_requests:
            self._idle.clear()
            await self._idle.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        request_id = _request_id(request)
        self.open_requests += 1
        try:
            response = await self._dispatch(request, request_id)
        except ApiError as error:
            self._meter.errors.labels(str(error.status)).inc()
            response = _refusal(error)
        except (ClientConnectionResetError, ConnectionResetError):
            raise
        except Exception:
            log.exception("request failed")
            self._meter.errors.labels("500").inc()
            response = _refusal(ApiError("The gateway failed; this is its fault"))
        finally:
            self.open_requests -= 1
            if self.closing and not self.open_requests:
                self._idle.set()
        if not response.prepared:
            response.headers[REQUEST_ID] = request_id
            response.headers["Server"] = "taskfleet"
            if self.closing:
                response.force_close()
        return response

    async def _dispatch(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        if self.open_requests > self._max_open_requests:
            raise TooManyRequestsError("The gateway has too many requests in work", retry_after=1)
        path = request.path
        if kind := _KINDS.get(path):
            _only(request, "POST")
            return await self._infer(request, kind, request_id)
        if path == MODELS or path.startswith(f"{MODELS}/"):
            _only(request, "GET")
            caller = await self._access.caller(request.headers)
            return await self._models(caller, path.removeprefix(MODELS).removeprefix("/"))
        raise NotFoundError("There is nothing at this address; the API is /v1/chat/completions, /v1/completions and /v1/models")

    async def _models(self, caller: Caller, name: str) -> web.Response:
        if name:
            found = await models.one(self._table, self._access, caller, name)
        else:
            found = await models.listing(self._table, self._access, caller)
        return web.Response(body=orjson.dumps(found), content_type="application/json")

    async def _infer(self, request: web.BaseRequest, kind: Kind, request_id: str) -> web.StreamResponse:
        caller = await self._access.caller(request.headers)
        raw = await self._body(request)
        inference = requests.parse(raw, kind)
        name = parse(inference.model, own_namespace=caller.namespace)
        if name is None:
            raise ModelNotFoundError(inference.model)
        await models.authorise(self._table, self._access, caller, name, inference.model)
        return await self._proxy.answer(request, name, raw, inference, request_id=request_id)

    async def _body(self, request: web.BaseRequest) -> bytes:
        length = request.content_length
        if length is not None and length > self._max_body_bytes:
            raise self._too_large()
        if request.headers.get("Expect", "").lower() == "100-continue":
            # Only now: a client that waits for it has not sent what it may not, or what is too long.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        if request.content.is_eof():
            return await self._read(request)
        try:
            async with asyncio.timeout(self._body_seconds):
                return await self._read(request)
        except TimeoutError:
            raise TooSlowError("The request's body did not come in time") from None

    async def _read(self, request: web.BaseRequest) -> bytes:
        chunks, size = [], 0
        try:
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > self._max_body_bytes:
                    raise self._too_large()
                chunks.append(chunk)
        except web.PayloadAccessError as error:
            raise BadRequestError(f"The body can't be read: {error}", code="invalid_body") from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"The body is longer than {self._max_body_bytes} bytes")


def _only(request: web.BaseRequest, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowedError(method)


def _refusal(error: ApiError) -> web.Response:
    response = web.Response(body=error.body(), status=error.status, headers=error.headers(), content_type="application/json")
    if isinstance(error, TooLargeError | TooSlowError):
        # What the client is still sending is not read.
        response.force_close()
    return response


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(12).hex()


def server(handler: Handler) -> web.Server:
    """Aiohttp's server for a handler. A client that leaves cancels its handler, and with it the work on its request."""
    return web.Server(handler, access_log=None, handler_cancellation=True, keepalive_timeout=75)
