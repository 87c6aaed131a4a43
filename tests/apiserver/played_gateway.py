"""The gateway's internal port, without a gateway: where conversations are shared, both revisions are asked time and again, and the operator is told what became of it."""

import asyncio
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from taskfleet.api.measurements import MEASUREMENTS_PATH, Counts, MeasurementBatch, RevisionCounts, latency_bucket
from taskfleet.names import GATEWAY_ROUTES_PATH
from tests.apiserver.conftest import ApiServer
from tests.apiserver.gateway_fleet import gateway_slice, reachable_address
from tests.cluster.api import TASK_MODEL, Api, Object

LOOK_SECONDS = 0.2
# More than a step needs.
ASKED = 40


@dataclass(slots=True)
class PlayedGateway:
    """`namespaces`: where its users' tasks are. `users_ask`: whether counts grow. `failing`: revisions all of whose answers are errors."""

    api: Api
    host: str
    namespaces: AbstractSet[str]
    port: int = 0
    users_ask: bool = True
    failing: set[str] = field(default_factory=set)
    _counts: dict[str, RevisionCounts] = field(default_factory=dict)  # by UID
    _runner: web.AppRunner | None = None

    def errors(self, revision: str) -> int:
        """How many of its answers were errors."""
        return sum(counts.live.errors for counts in list(self._counts.values()) if counts.revision == revision)

    async def start(self) -> None:
        application = web.Application()
        application.add_routes([web.get(MEASUREMENTS_PATH, self._stream), web.get(GATEWAY_ROUTES_PATH, self._routes)])
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            if self.users_ask:
                for namespace in tuple(self.namespaces):
                    for task in await asyncio.to_thread(self.api.list, TASK_MODEL, namespace):
                        self._ask(task)
            batch = MeasurementBatch(replica="played", revisions=tuple(self._counts.values()))
            await response.write(batch.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n")
            await asyncio.sleep(LOOK_SECONDS)

    def _ask(self, task: Object) -> None:
        targets = task.get("status", {}).get("traffic", [])
        for target in targets if len(targets) > 1 else ():
            before = self._counts[target["uid"]].live if target["uid"] in self._counts else Counts()
            requests = before.requests + ASKED
            errors = before.errors + (ASKED if target["revision"] in self.failing else 0)
            self._counts[target["uid"]] = RevisionCounts(
                namespace=task["metadata"]["namespace"],
                task_model=task["metadata"]["name"],
                revision=target["revision"],
                uid=target["uid"],
                live=Counts(requests=requests, errors=errors, latency=((latency_bucket(0.1), requests - errors),)),
            )

    async def _routes(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self.api.find, TASK_MODEL, request.query["name"], request.query["namespace"])
        return web.json_response({"traffic": (found or {}).get("status", {}).get("traffic")})


@contextmanager
def played_gateway(server: ApiServer, namespace: str, *, users: AbstractSet[str]) -> Iterator[PlayedGateway]:
    """One replica in the operator's namespace, in a thread of its own. `users`: namespaces whose tasks are asked; more may come."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    gateway = PlayedGateway(server.api, reachable_address(server), users)
    try:
        asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(timeout=30)
        server.api.apply(gateway_slice(namespace, gateway.host, gateway.port))
        yield gateway
    finally:
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
