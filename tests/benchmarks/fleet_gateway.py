"""The internal port of a gateway without users: what the operator hears of demand is what is set here."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from taskfleet.api.measurements import CHANGES_SECONDS, HEARTBEAT_SECONDS, MEASUREMENTS_PATH, MeasurementBatch, TaskDemand
from taskfleet.names import GATEWAY_ROUTES_PATH
from tests.cluster.api import TASK_MODEL, Api


@dataclass(slots=True)
class FleetGateway:
    """`asked`: namespaces and names of the tasks that have one request under way all the time, a new one each second. For one reader at a time."""

    api: Api
    host: str
    port: int = 0
    asked: tuple[tuple[str, str], ...] = ()
    _began: float = field(default_factory=time.monotonic)
    _busy: dict[tuple[str, str], float] = field(default_factory=dict)  # seconds so far
    _last: dict[tuple[str, str], float] = field(default_factory=dict)  # the gateway's age at the last request
    _runner: web.AppRunner | None = None

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
        """As a gateway writes it: a task with a request under way in every line, others once; and a line now and then where nothing has changed."""
        response = web.StreamResponse()
        await response.prepare(request)
        told, due, before = set(self._busy), 0.0, time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while True:
                now = time.monotonic()
                for task in self.asked:
                    self._busy[task] = self._busy.get(task, 0.0) + now - before
                    self._last[task] = now - self._began
                before, changed = now, told | set(self.asked)
                if changed or now >= due:
                    demand = tuple(self._demand(*task) for task in sorted(changed))
                    batch = MeasurementBatch(replica="fleet", uptime_seconds=now - self._began, demand=demand)
                    await response.write(batch.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n")
                    told, due = set(self.asked), now + HEARTBEAT_SECONDS
                await asyncio.sleep(CHANGES_SECONDS)
        return response

    def _demand(self, namespace: str, task: str) -> TaskDemand:
        key = (namespace, task)
        return TaskDemand(
            namespace=namespace,
            task_model=task,
            in_flight=int(key in self.asked),
            busy_seconds=self._busy[key],
            arrivals=1 + int(self._busy[key]),
            last_request_seconds=self._last[key],
        )

    async def _routes(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self.api.find, TASK_MODEL, request.query["name"], request.query["namespace"])
        return web.json_response({"traffic": (found or {}).get("status", {}).get("traffic")})


@contextmanager
def fleet_gateway(api: Api, host: str) -> Iterator[FleetGateway]:
    """One replica, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    gateway = FleetGateway(api, host)
    try:
        asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(timeout=30)
        yield gateway
    finally:
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
