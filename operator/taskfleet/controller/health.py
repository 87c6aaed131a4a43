"""The operator's own HTTP: probes on one port, metrics on another.

Live: the queue moves and the watches tell what happens. Ready: the replica watches; a replica that stands by is as ready as the leader, or an upgrade would wait for itself.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str | None]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Health:
    """`live` and `ready` answer None, or what is wrong."""

    def __init__(self, *, live: Check, ready: Check) -> None:
        self._live = live
        self._ready = ready
        self._runners: list[web.AppRunner] = []

    async def start(self, host: str, probe_port: int, metrics_port: int) -> None:
        """Listens. Raises OSError where a port is taken."""
        await self._serve(host, probe_port, [web.get("/livez", _probe(self._live)), web.get("/readyz", _probe(self._ready))])
        await self._serve(host, metrics_port, [web.get("/metrics", _metrics)])

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, host: str, port: int, routes: list[web.RouteDef]) -> None:
        application = web.Application()
        application.add_routes(routes)
        runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, host, port).start()


def _probe(check: Check) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(text="ok\n") if wrong is None else web.Response(status=503, text=f"{wrong}\n")

    return answer


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
