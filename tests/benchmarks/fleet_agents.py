"""The agents of a whole fleet in one process: each pool's pod has a loopback address of its own, and behind it an agent that proves at once whatever it is told to hold."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from taskfleet import names
from taskfleet.api.agent import (
    DESIRED_PATH,
    DRAIN_PATH,
    RESOLVE_PATH,
    STATE_PATH,
    UNDRAIN_PATH,
    AdapterPhase,
    AdapterReport,
    AgentState,
    BaseReport,
    DesiredState,
    DrainReply,
    EngineReport,
    ResolveReply,
    ResolveRequest,
    StartReport,
)
from taskfleet.api.conditions import Reason
from taskfleet.api.fields import Model


@dataclass(slots=True)
class _Agent:
    state: AgentState
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class FleetAgents:
    """`told` has the time (monotonic) at which an adapter of a revision first stood in a document."""

    def __init__(self, addresses: Sequence[str], start: StartReport | None = None) -> None:
        self._agents = {address: _Agent(_fresh(address, start)) for address in addresses}
        self._runner: web.AppRunner | None = None
        self.told: dict[tuple[str, str], float] = {}
        self.documents = 0

    async def start(self) -> None:
        application = web.Application()
        application.add_routes(
            [web.put(DESIRED_PATH, self._put_desired), web.get(STATE_PATH, self._get_state), web.post(RESOLVE_PATH, self._resolve)]
        )
        application.add_routes([web.post(DRAIN_PATH, self._drain), web.post(UNDRAIN_PATH, self._get_state)])
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        for address in self._agents:
            await web.TCPSite(self._runner, address, names.AGENT_PORT).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _put_desired(self, request: web.Request) -> web.Response:
        wanted = DesiredState.model_validate_json(await request.read())
        agent = self._of(request)
        now = time.monotonic()
        self.documents += 1
        for adapter in wanted.adapters:
            self.told.setdefault((wanted.pool.namespace, adapter.revision), now)
        proven = [
            AdapterReport(engine_name=one.engine_name, revision=one.revision, phase=AdapterPhase.PROVEN, reason=Reason.PROVEN)
            for one in wanted.adapters
        ]
        update = {
            "pool_uid": wanted.pool.uid,
            "generation": wanted.generation,
            "version": agent.state.version + 1,
            "adapters": tuple(proven),
        }
        async with agent.changed:
            agent.state = agent.state.model_copy(update=update)
            agent.changed.notify_all()
        return _answer(agent.state)

    async def _get_state(self, request: web.Request) -> web.Response:
        agent = self._of(request)
        after, wait = int(request.query.get("after", "-1")), float(request.query.get("wait", "0"))
        try:
            async with asyncio.timeout(wait), agent.changed:
                await agent.changed.wait_for(lambda: agent.state.version > after)
        except TimeoutError:
            pass
        return _answer(agent.state)

    async def _resolve(self, request: web.Request) -> web.Response:
        wanted = ResolveRequest.model_validate_json(await request.read())
        return _answer(ResolveReply(digest=f"sha256:{hashlib.sha256(f'{wanted.source} {wanted.version}'.encode()).hexdigest()}"))

    async def _drain(self, _request: web.Request) -> web.Response:
        """Nobody asks these pods anything, so they are idle."""
        return _answer(DrainReply(accepted=True, in_flight=0, idle_seconds=time.monotonic()))

    def _of(self, request: web.Request) -> _Agent:
        assert request.transport is not None
        return self._agents[request.transport.get_extra_info("sockname")[0]]


def _fresh(address: str, start: StartReport | None) -> AgentState:
    return AgentState(
        pod=address,
        pool_uid="",
        generation=0,
        version=1,
        draining=False,
        base=BaseReport(staged=True, reason=Reason.PROVEN),
        engine=EngineReport(healthy=True, starts=1),
        start=start,
    )


def _answer(content: Model) -> web.Response:
    return web.Response(body=orjson.dumps(content.to_json()), content_type="application/json")


@contextmanager
def fleet_agents(addresses: Sequence[str], *, start: StartReport | None = None) -> Iterator[FleetAgents]:
    """Agents at these loopback addresses, in a thread of their own. `start`: what each tells of its pod's start."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="agents", daemon=True)
    thread.start()
    agents = FleetAgents(addresses, start)
    try:
        asyncio.run_coroutine_threadsafe(agents.start(), loop).result(timeout=30)
        yield agents
    finally:
        asyncio.run_coroutine_threadsafe(agents.stop(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
