"""The internal port: metrics and probes, and for the operator alone the report of routes in force and the stream of measurements."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from taskfleet.api.measurements import MEASUREMENTS_PATH
from taskfleet.gateway.auth import Access
from taskfleet.gateway.errors import ApiError, BadRequestError, NotFoundError
from taskfleet.gateway.measurement_stream import MeasurementStreams
from taskfleet.gateway.routes import RouteTable
from taskfleet.names import GATEWAY_ROUTES_PATH

Health = Callable[[], str | None]  # None: well; else what is wrong


class InternalApi:
    """Handlers of the internal port."""

    def __init__(
        self,
        *,
        table: RouteTable,
        access: Access,
        operator_subject: str,
        registry: CollectorRegistry,
        streams: MeasurementStreams,
        ready: Health,
        live: Health,
    ) -> None:
        self._table = table
        self._access = access
        self._operator = operator_subject
        self._registry = registry
        self._streams = streams
        self._ready = ready
        self._live = live

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_get("/livez", _probe(self._live))
        app.router.add_get("/readyz", _probe(self._ready))
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get(GATEWAY_ROUTES_PATH, self._routes)
        app.router.add_get(MEASUREMENTS_PATH, self._measurements)
        app.on_shutdown.append(self._end_streams)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _routes(self, request: web.Request) -> web.Response:
        try:
            await self._only_operator(request.headers)
            namespace, name = request.query.get("namespace"), request.query.get("name")
            if not namespace or not name:
                raise BadRequestError("'namespace' and 'name' are needed", param="name" if namespace else "namespace")
        except ApiError as error:
            return _refusal(error)
        return web.Response(body=orjson.dumps({"traffic": traffic(self._table, namespace, name)}), content_type="application/json")

    async def _measurements(self, request: web.Request) -> web.StreamResponse:
        try:
            await self._only_operator(request.headers)
        except ApiError as error:
            return _refusal(error)
        return await self._streams.serve(request)

    async def _end_streams(self, _: web.Application) -> None:
        self._streams.end()

    async def _only_operator(self, headers: Mapping[str, str]) -> None:
        caller = await self._access.caller(headers)
        if caller.identity is None or caller.identity.username != self._operator:
            raise NotFoundError("There is nothing here for you")


def traffic(table: RouteTable, namespace: str, name: str) -> list[dict[str, Any]] | None:
    """What this replica does with requests for a task, in the form of `status.traffic`; None where it has no published route."""
    route = table.route((namespace, name))
    if route is None or not route.published:
        return None
    return [
        {"revision": target.revision.name, "uid": target.revision.uid, "pool": target.pool, "weightPercent": target.weight}
        | ({"shadowPercent": target.shadow} if target.shadow else {})
        for target in route.targets
    ]


def _refusal(error: ApiError) -> web.Response:
    return web.Response(body=error.body(), status=error.status, headers=error.headers(), content_type="application/json")


def _probe(health: Health) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        trouble = health()
        return web.Response(text=trouble or "ok", status=503 if trouble else 200)

    return answer
