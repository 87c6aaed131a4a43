"""The pod's one open door: every route that the agent answers. What is not here is 404, the engine's administration above all."""

from aiohttp import web

from taskfleet.agent import proxy
from taskfleet.agent.administration import Administration
from taskfleet.agent.copies import Copies
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.proxy import Proxy
from taskfleet.agent.readiness import Readiness
from taskfleet.api.agent import (
    DESIRED_PATH,
    DRAIN_PATH,
    ENGINE_HEALTH_PATH,
    FILE_PATH,
    LIVE_PATH,
    MANIFEST_PATH,
    METRICS_PATH,
    READY_PATH,
    RESOLVE_PATH,
    STATE_PATH,
    UNDRAIN_PATH,
)


def application(
    *,
    inference: Proxy,
    administration: Administration,
    copies: Copies,
    readiness: Readiness,
    metrics: AgentMetrics,
    max_body_bytes: int,
) -> web.Application:
    """All routes."""

    async def engine_health(_request: web.Request) -> web.Response:
        return web.Response(text="ok") if await readiness.engine_answers() else web.Response(status=503, text="the engine does not answer")

    async def ready(_request: web.Request) -> web.Response:
        objection = await readiness.objection_to_probe()
        return web.Response(text="ok") if objection is None else web.Response(status=503, text=objection)

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(client_max_size=max_body_bytes)
    # For the gateway's token.
    for route in proxy.ROUTES:
        app.router.add_post(route, inference.handle)
    # For the operator's token.
    app.router.add_put(DESIRED_PATH, administration.put_desired)
    app.router.add_get(STATE_PATH, administration.get_state, allow_head=False)
    app.router.add_post(RESOLVE_PATH, administration.resolve)
    app.router.add_post(DRAIN_PATH, administration.drain)
    app.router.add_post(UNDRAIN_PATH, administration.undrain)
    # For the tokens of the pool's own pods.
    app.router.add_get(MANIFEST_PATH, copies.manifest, allow_head=False)
    app.router.add_get(FILE_PATH, copies.file, allow_head=False)
    # For the kubelet and whoever collects metrics: nothing of a tenant is in them.
    app.router.add_get(ENGINE_HEALTH_PATH, engine_health)
    app.router.add_get(READY_PATH, ready)
    app.router.add_get(LIVE_PATH, live)
    app.router.add_get(METRICS_PATH, exposition)
    return app
