"""The stream of measurements over real connections: who may read it, what it tells and when it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from taskfleet.api.measurements import MEASUREMENTS_PATH, MeasurementBatch, RevisionCounts, TaskDemand
from taskfleet.gateway import measurement_stream
from taskfleet.gateway.auth import KubernetesAccess
from taskfleet.gateway.internal import InternalApi
from taskfleet.kube.identity import Identity
from taskfleet.names import INTERNAL_AUDIENCE
from tests.unit.gateway.pods import Pod
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, running, serve

OPERATOR = "system:serviceaccount:taskfleet-system:taskfleet-operator"


class Tokens:
    """A token is its bearer's name."""

    async def review_token(self, token: str, audiences: tuple[str, ...]) -> Identity | None:
        return Identity(username=token, audiences=audiences)

    async def review_access(self, *_: object, **__: object) -> bool:
        return True


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_stream, "CHANGES_SECONDS", 0.01)


@dataclass
class Lines:
    """A stream as the operator reads it."""

    response: aiohttp.ClientResponse

    async def next(self) -> MeasurementBatch:
        return MeasurementBatch.model_validate_json(await asyncio.wait_for(self.response.content.readline(), 10))

    async def end(self) -> bytes:
        return await asyncio.wait_for(self.response.content.read(), 10)


@dataclass
class Internal:
    """The internal port of a gateway."""

    url: str
    client: aiohttp.ClientSession
    runner: web.AppRunner

    @asynccontextmanager
    async def lines(self) -> AsyncIterator[Lines]:
        async with self.client.get(self.url + MEASUREMENTS_PATH, headers={"Authorization": f"Bearer {OPERATOR}"}) as response:
            assert response.status == 200
            assert response.content_type == "application/x-ndjson"
            yield Lines(response)


@asynccontextmanager
async def internal(world: World) -> AsyncIterator[Internal]:
    api = InternalApi(
        table=world.table,
        access=KubernetesAccess(Tokens(), audience=INTERNAL_AUDIENCE, timeout=3, clock=lambda: 0.0),
        operator_subject=OPERATOR,
        registry=world.registry,
        streams=world.gateway.streams,
        ready=lambda: None,
        live=lambda: None,
    )
    runner = web.AppRunner(api.application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield Internal(f"http://{host}:{port}", world.client, runner)
    finally:
        await runner.cleanup()


async def ask(world: World) -> None:
    async with world.post() as response:
        assert response.status == 200
        await response.read()


def only(batch: MeasurementBatch) -> RevisionCounts:
    (found,) = batch.revisions
    return found


async def ask_counted(world: World, requests: int) -> None:
    """One more request, which is the so-many-th and has been counted: the client has its answer a moment before."""
    await ask(world)
    await until(lambda: sum(tally.counts().live.requests for tally in world.gateway.measurements.tallies()) == requests)


async def counted(lines: Lines, requests: int) -> MeasurementBatch:
    """The line that tells of so many. Others before it tell of requests under way, where they take long."""
    while True:
        batch = await lines.next()
        if batch.revisions and only(batch).live.requests == requests:
            return batch


async def test_first_line_has_everything_and_the_next_ones_what_has_changed() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, internal(world) as port:
        await ask_counted(world, 1)
        async with port.lines() as lines:
            first = await lines.next()
            assert (only(first).namespace, only(first).task_model, only(first).uid) == ("finance", "vendor", "uid-vendor-1")
            assert only(first).live.requests == 1
            await ask_counted(world, 2)
            second = await counted(lines, 2)
            assert first.replica == second.replica
        async with port.lines() as again:
            assert only(await again.next()).live.requests == 2


async def test_nothing_new_is_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_stream, "HEARTBEAT_SECONDS", 0.01)
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, internal(world) as port, port.lines() as lines:
        await lines.next()
        await ask_counted(world, 1)
        await counted(lines, 1)
        for _ in range(3):
            assert (await lines.next()).revisions == ()


async def demand(lines: Lines, wanted: Callable[[TaskDemand], bool]) -> TaskDemand:
    """The first that is told and is as wanted."""
    while True:
        for found in (await lines.next()).demand:
            if wanted(found):
                return found


async def test_demand_tells_what_waits_and_what_is_at_pods() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world, internal(world) as port, port.lines() as lines:
        serve(world.table)
        pod.gate.clear()
        waiting = asyncio.create_task(ask(world))
        held = await demand(lines, lambda found: found.held == 1)
        assert (held.namespace, held.task_model, held.in_flight, held.arrivals) == ("finance", "vendor", 0, 1)
        pod.answer = _gated
        serve(world.table, pod)
        at_pod = await demand(lines, lambda found: found.held == 0)
        assert (at_pod.in_flight, at_pod.arrivals) == (1, 1)
        assert at_pod.busy_seconds >= held.busy_seconds
        pod.gate.set()
        await waiting
        over = await demand(lines, lambda found: found.in_flight == 0)
        assert (over.held, over.arrivals) == (0, 1)
        assert over.last_request_seconds is not None
        assert over.busy_seconds >= at_pod.busy_seconds


async def test_what_is_under_way_is_told_in_every_line_and_when_the_line_was_written() -> None:
    async with Pod("a", models={MODEL}, answer=_gated) as pod, running(pod) as world, internal(world) as port, port.lines() as lines:
        pod.gate.clear()
        asked = asyncio.create_task(ask(world))
        while not (batch := await lines.next()).demand:
            pass
        for _ in range(3):
            before, batch = batch, await lines.next()
            assert batch.demand[0].busy_seconds - before.demand[0].busy_seconds == pytest.approx(
                batch.uptime_seconds - before.uptime_seconds, abs=0.05
            )
            assert batch.demand[0].last_request_seconds == pytest.approx(batch.uptime_seconds, abs=0.05)
        pod.gate.set()
        await asked


async def test_requests_shorter_than_the_time_between_two_lines_are_counted() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, internal(world) as port:
        for _ in range(5):
            await ask(world)
        async with port.lines() as lines:
            found = await demand(lines, lambda _: True)
        assert (found.arrivals, found.held, found.in_flight) == (5, 0, 0)
        assert found.busy_seconds > 0


async def test_evaluations_are_no_demand() -> None:
    access = KubernetesAccess(Tokens(), audience=INTERNAL_AUDIENCE, timeout=3, clock=lambda: 0.0)
    async with Pod("a", models={MODEL}) as pod, running(pod, access=access) as world, internal(world) as port, port.lines() as lines:
        for account in ("taskfleet-evaluator", "client"):
            async with world.post(headers={"Authorization": f"Bearer system:serviceaccount:finance:{account}"}) as response:
                assert response.status == 200
        assert len(pod.received) == 2
        assert (await demand(lines, lambda found: not found.in_flight)).arrivals == 1


async def test_counts_of_what_is_deleted_are_gone() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, internal(world) as port:
        await ask(world)
        world.gateway.measurements.forget_revision(("finance", "vendor"), "vendor-1")
        async with port.lines() as lines:
            assert (await lines.next()).revisions == ()
        await ask(world)
        async with port.lines() as lines:
            assert (await lines.next()).demand[0].arrivals == 2
            world.gateway.measurements.forget_task(("finance", "vendor"))
            assert await demand(lines, lambda _: True) == TaskDemand(namespace="finance", task_model="vendor")
        async with port.lines() as lines:
            batch = await lines.next()
            assert (batch.revisions, batch.demand) == ((), ())


@pytest.mark.parametrize("bearer", ["", "system:serviceaccount:finance:taskfleet-operator", "system:serviceaccount:taskfleet-system:other"])
async def test_only_the_operator_may_read(bearer: str) -> None:
    async with running() as world, internal(world) as port:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        async with port.client.get(port.url + MEASUREMENTS_PATH, headers=headers) as response:
            assert response.status == (404 if bearer else 401)


async def test_streams_end_with_the_process() -> None:
    async with running() as world, internal(world) as port, port.lines() as lines:
        await lines.next()
        await asyncio.wait_for(port.runner.cleanup(), 10)
        await lines.end()


async def test_newest_streams_stay_when_there_are_too_many() -> None:
    async with running() as world, internal(world) as port, AsyncExitStack() as stack:
        streams = []
        for _ in range(measurement_stream.MAX_STREAMS + 1):
            streams.append(await stack.enter_async_context(port.lines()))
            await streams[-1].next()
        await streams[0].end()
        async with Pod("a", models={MODEL}) as pod:
            serve(world.table, pod)
            await ask(world)
            for lines in streams[1:]:
                # The first line that names the revision may be of the moment before its answer has ended.
                while not (batch := await lines.next()).revisions or not only(batch).live.requests:
                    pass
                assert only(batch).live.requests == 1


async def _gated(pod: Pod, _request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    await pod.gate.wait()
    return web.json_response({"model": body["model"], "choices": []})


async def test_request_that_wakes_a_pool_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_stream, "CHANGES_SECONDS", 3600)
    async with running() as world, internal(world) as inside, inside.lines() as lines:
        serve(world.table)
        await lines.next()  # the first one says that there is nothing
        asked = asyncio.create_task(_ask(world))
        (demand,) = (await lines.next()).demand
        assert (demand.task_model, demand.held) == ("vendor", 1)
        asked.cancel()


async def _ask(world: World) -> None:
    async with world.post() as response:
        await response.read()
