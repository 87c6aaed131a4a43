"""The public API: addresses, identity, limits, and errors as OpenAI's clients expect them. What happens to a request behind that is the proxy's business.

Built on aiohttp's bare server: its application layer (resolver, middlewares, signals) costs a tenth of a request and gives nothing that five addresses need.
"""

import asyncio
import logging
import os
import re

import orjson
from aiohttp import ClientConnectionResetError, web

from taskfleet.gateway import feedback, keep_alive, media, models, responses
from taskfleet.gateway import request as requests
from taskfleet.gateway.answer_ids import AnswerIds
from taskfleet.gateway.auth import Access, Caller, evaluates
from taskfleet.gateway.body import BodyReader
from taskfleet.gateway.call import Call
from taskfleet.gateway.cors import Cors
from taskfleet.gateway.errors import (
    ApiError,
    MethodNotAllowedError,
    ModelNotFoundError,
    NotFoundError,
    TooLargeError,
    TooManyRequestsError,
    TooSlowError,
)
from taskfleet.gateway.meter import CLIENT_GONE, Meter
from taskfleet.gateway.model_name import parse
from taskfleet.gateway.paths import PATHS
from taskfleet.gateway.places import Place, Places
from taskfleet.gateway.proxy import Proxy
from taskfleet.gateway.routes import RouteTable
from taskfleet.gateway.shaping import Kind
from taskfleet.gateway.time_limits import TimeLimits
from taskfleet.gateway.trace_context import trace_context
from taskfleet.gateway.tracing import RequestSpan, Tracing
from taskfleet.gateway.upstream import REQUEST_ID
from taskfleet.logs import fields

log = logging.getLogger(__name__)

MODELS = "/v1/models"
_KINDS = {path: kind for kind, path in PATHS.items()}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_READING, _ASKING = "GET, HEAD, OPTIONS", "POST, OPTIONS"


class PublicApi:
    """Handles requests of clients. Set `closing` and connections are not kept alive any longer."""

    def __init__(
        self,
        *,
        table: RouteTable,
        access: Access,
        proxy: Proxy,
        meter: Meter,
        places: Places,
        reader: BodyReader,
        vote_reader: BodyReader,
        limits: TimeLimits,
        cors: Cors,
        ids: AnswerIds,
        votes: feedback.Feedback | None,
        tracing: Tracing | None,
    ) -> None:
        self._table = table
        self._access = access
        self._proxy = proxy
        self._meter = meter
        self._places = places
        self._reader = reader
        self._vote_reader = vote_reader
        self._limits = limits
        self._cors = cors
        self._ids = ids
        self._votes = votes
        self._tracing = tracing
        self.closing = False
        self._idle = asyncio.Event()

    @property
    def open_requests(self) -> int:
        """Requests in work."""
        return self._places.open

    async def idle(self) -> None:
        """Returns when, after `closing` was set, nothing is in work."""
        while self.open_requests:
            self._idle.clear()
            await self._idle.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        request_id = _request_id(request)
        place = self._places.enter()
        span = None if self._tracing is None else self._span(self._tracing, request)
        code = CLIENT_GONE
        try:
            response = await self._answer(request, place, request_id, span)
            code = response.status
            if not response.prepared:
                self._complete(request, response, request_id)
                # Here and not by the server, so that the request has its place until the client has its answer.
                await response.prepare(request)
                await response.write_eof()
        finally:
            place.leave()
            if span is not None:
                span.end(code)
            if self.closing and not self.open_requests:
                self._idle.set()
        return response

    def _complete(self, request: web.BaseRequest, response: web.StreamResponse, request_id: str) -> None:
        response.headers[REQUEST_ID] = request_id
        response.headers["Server"] = "taskfleet"
        for name, value in self._cors.headers(request.headers).items():
            response.headers[name] = value
        if self.closing:
            response.force_close()

    async def _answer(self, request: web.BaseRequest, place: Place, request_id: str, span: RequestSpan | None) -> web.StreamResponse:
        try:
            return await self._dispatch(request, place, request_id, span)
        except ApiError as error:
            self._meter.errors.labels(str(error.status)).inc()
            return _refusal(error)
        except (ClientConnectionResetError, ConnectionResetError):
            raise
        except Exception:
            log.exception("request failed", extra=fields(request_id=request_id, path=request.path))
            self._meter.errors.labels("500").inc()
            return _refusal(ApiError("The gateway failed; this is its fault"))

    async def _dispatch(self, request: web.BaseRequest, place: Place, request_id: str, span: RequestSpan | None) -> web.StreamResponse:
        path, method = request.path, request.method
        if method == "OPTIONS":
            return self._options(request)
        self._places.check()
        if kind := _KINDS.get(path):
            if method != "POST":
                raise MethodNotAllowedError(_ASKING)
            return await self._infer(request, place, kind, request_id, span)
        if path == feedback.PATH:
            if method != "POST":
                raise MethodNotAllowedError(_ASKING)
            return await self._vote(request, place)
        if _allowed(path) is None:
            raise NotFoundError(f"There is nothing at this address; the API is {', '.join(_KINDS)}, {MODELS} and {feedback.PATH}")
        if path.startswith(f"{responses.PATH}/"):
            raise NotFoundError(responses.NOT_STORED)
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowedError(_READING)
        caller = await self._caller(request, place)
        return await self._models(caller, path.removeprefix(MODELS).removeprefix("/"))

    def _options(self, request: web.BaseRequest) -> web.Response:
        """Without a token: browsers ask before they send one."""
        allowed = f"{_ASKING}, GET, HEAD" if request.path == "*" else _allowed(request.path)
        if allowed is None:
            raise NotFoundError("There is nothing at this address")
        return web.Response(status=204, headers={"Allow": allowed, **self._cors.preflight(request.headers, allowed)})

    async def _caller(self, request: web.BaseRequest, place: Place) -> Caller:
        caller = await self._access.caller(request.headers)
        if caller.username:
            place.of_caller(caller.username)
        return caller

    async def _models(self, caller: Caller, name: str) -> web.Response:
        if name:
            found = await models.one(self._table, self._access, caller, name)
        else:
            found = await models.listing(self._table, self._access, caller)
        return web.Response(body=orjson.dumps(found), content_type="application/json")

    async def _vote(self, request: web.BaseRequest, place: Place) -> web.Response:
        caller = await self._caller(request, place)
        if self._votes is None:
            raise NotFoundError("Verdicts are not taken here: the administrator has turned that off")
        self._votes.admit(caller)
        taken = await self._votes.take(caller, await self._vote_reader.read(request, place))
        return web.Response(body=orjson.dumps(taken), content_type="application/json")

    async def _infer(
        self, request: web.BaseRequest, place: Place, kind: Kind, request_id: str, span: RequestSpan | None
    ) -> web.StreamResponse:
        caller = await self._caller(request, place)
        limits = self._limits.shortened(request.headers)
        raw = await self._reader.read(request, place)
        inference = requests.parse(raw, kind)
        media.refuse_addresses(inference.body)
        name = parse(inference.model, own_namespace=caller.namespace)
        if name is None:
            raise ModelNotFoundError(inference.model)
        await models.authorise(self._table, self._access, caller, name, inference.model)
        place.of_namespace(name.namespace)
        if span is not None:
            span.about(request_id=request_id, model=name.public, namespace=name.namespace, stream=inference.stream)
        call = Call(
            name=name,
            raw=raw,
            inference=inference,
            request_id=request_id,
            limits=limits,
            comments=inference.stream and keep_alive.wanted(request.headers),
            client_headers=request.headers,
            answer_headers=self._cors.headers(request.headers),
            place=place,
            ids=self._ids,
            caller=caller.username,
            counted=not evaluates(caller, name.namespace),
            trace=trace_context(request.headers),
            span=span,
        )
        return await self._proxy.answer(request, call)

    def _span(self, tracing: Tracing, request: web.BaseRequest) -> RequestSpan | None:
        """Only addresses and methods that exist have one: names of spans must not be a client's to choose."""
        path = request.path
        if path not in _KINDS and path not in (MODELS, feedback.PATH):
            return None
        method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "_OTHER"
        return tracing.request(method, path, trace_context(request.headers))


def _allowed(path: str) -> str | None:
    """Methods that an address answers; None where there is nothing."""
    if path in _KINDS or path == feedback.PATH:
        return _ASKING
    if path == MODELS or path.startswith((f"{MODELS}/", f"{responses.PATH}/")):
        return _READING
    return None


def _refusal(error: ApiError) -> web.Response:
    response = web.Response(
        body=error.body(), status=error.status, headers={**error.of_call, **error.headers()}, content_type="application/json"
    )
    if isinstance(error, TooLargeError | TooSlowError | TooManyRequestsError):
        # What the client is still sending is not read.
        response.force_close()
    return response


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(12).hex()
