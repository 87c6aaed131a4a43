"""The inference door: lets a request through to the engine if it may, and its answer back as it comes.

The body is read to find the model and passed on as it is. What the engine gets and gives back is chosen by name: headers of the caller, its token above all, end here.
"""

import logging
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from taskfleet.agent.drain import Drain
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.problems import engine_failed, engine_unavailable, no_such_route, not_here, problem, require
from taskfleet.agent.residents import Residents
from taskfleet.agent.tokens import Caller, TokenVerifier
from taskfleet.engines.web_errors import is_unknown_route
from taskfleet.logs import fields

log = logging.getLogger(__name__)

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")

_TO_ENGINE = ("Content-Type", "Accept", "X-Request-Id", "traceparent", "tracestate")
_FROM_ENGINE = ("Content-Type", "X-Request-Id", "Retry-After")
_CONNECT_SECONDS = 5.0
# A generation may be long, and whoever asked ends it by going away; this bounds what nobody ends.
_TOTAL_SECONDS = 3600.0
# vLLM's health route says 503 half a second after its core was killed (0.32.0, measured); until then only its 500s tell.
_DYING_SECONDS = 1.0
# Below the 5 s after which uvicorn, vLLM's server, closes an idle connection: a request on a connection that is just being closed would be lost.
_KEEP_ALIVE_SECONDS = 2.0


def engine_session() -> aiohttp.ClientSession:
    """Connections to the engine: as many as there are requests, which the gateway bounds."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class Proxy:
    """One handler for all inference routes."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        engine_url: str,
        verifier: TokenVerifier,
        residents: Residents,
        watch: EngineWatch,
        drain: Drain,
        metrics: AgentMetrics,
    ) -> None:
        self._session = session
        self._urls = {route: engine_url + route for route in ROUTES}
        self._verifier = verifier
        self._residents = residents
        self._watch = watch
        self._drain = drain
        self._metrics = metrics

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except web.HTTPException as error:
            self._metrics.requests.labels(str(error.status)).inc()
            raise
        except (ConnectionError, aiohttp.ClientPayloadError):
            self._metrics.requests.labels("broken").inc()
            raise
        self._metrics.requests.labels(str(response.status)).inc()
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        require(self._verifier, request, Caller.GATEWAY)
        body = await request.read()
        model = _model(body)
        if model is None:
            return problem(400, code="invalid_body", message="the body must be a JSON object with a text `model`")
        # From here to the count there is no await: a drain or an unload that begins now either sees this request or has refused it.
        if self._drain.on:
            return not_here(model, "the pod is draining")
        if not self._residents.serves(model):
            return not_here(model, "not proven")
        with self._residents.flight(model):
            if not await self._residents.at_hand(model):
                return not_here(model, "it could not be loaded just now")
            return await self._ask_engine(request, model, body)

    async def _ask_engine(self, request: web.Request, model: str, body: bytes) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in _TO_ENGINE if name in request.headers}
        headers["Accept-Encoding"] = "identity"
        try:
            upstream = await self._session.post(self._urls[request.path], data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._watch.suspect()
            log.warning("engine gave no answer", extra=fields(model=model, error=f"{type(error).__name__}: {error}"))
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                return engine_unavailable("the engine takes no connection")
            return engine_failed("the engine gave no answer")
        async with upstream:
            if upstream.status in (404, 405) and await _route_is_missing(upstream):
                # That says nothing of the adapter: a client must not be able to have it withdrawn by asking for what the model can't do.
                return no_such_route(request.path)
            if upstream.status == 404:
                # It doesn't know a model that it was proven to have. Nobody is told so: another pod, or this one in a moment, has it.
                self._residents.withdraw(model, "the engine does not know the adapter")
                return not_here(model, "the engine has lost it")
            if upstream.status >= 500:
                self._watch.suspect()
            if upstream.content_type == "text/event-stream":
                return await self._stream(request, upstream)
            return await self._whole(upstream)

    async def _whole(self, upstream: aiohttp.ClientResponse) -> web.Response:
        try:
            body = await upstream.read()
        except (aiohttp.ClientError, TimeoutError):
            self._watch.suspect()
            return engine_failed("the engine broke off its answer")
        # A dead engine's server answers 500 until it ends; that is told apart from a request's own 500, which would be the same elsewhere.
        if upstream.status == 500 and not await self._watch.survives(_DYING_SECONDS):
            return engine_failed("the engine has failed")
        return web.Response(status=upstream.status, body=body, headers=_passed_on(upstream))

    async def _stream(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers=_passed_on(upstream))
        await response.prepare(request)
        try:
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
        except (aiohttp.ClientError, TimeoutError):
            if request.transport is not None and not request.transport.is_closing():
                # The engine broke off. A clean end would pass half an answer off as a whole one.
                self._watch.suspect()
                request.transport.abort()
            raise
        await response.write_eof()
        return response


async def _route_is_missing(upstream: aiohttp.ClientResponse) -> bool:
    try:
        return is_unknown_route(upstream.status, await upstream.read())
    except (aiohttp.ClientError, TimeoutError):
        return False


def _passed_on(upstream: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: upstream.headers[name] for name in _FROM_ENGINE if name in upstream.headers}


def _model(body: bytes) -> str | None:
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    model = content.get("model") if isinstance(content, dict) else None
    return model if isinstance(model, str) else None
