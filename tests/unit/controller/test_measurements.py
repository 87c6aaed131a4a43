"""Streams of counts from gateways, and the windows of steps that are made of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskfleet.api.measurements import MEASUREMENTS_PATH, Counts, MeasurementBatch, RevisionCounts, ShadowCounts, TaskDemand
from taskfleet.controller import measurements
from taskfleet.controller.demand import GatewayDemand
from taskfleet.controller.keys import Key, TaskKey
from taskfleet.controller.measurements import GatewayMeasurements
from taskfleet.planning.snapshot import Evidence
from tests.unit.controller.waiting import until

BEGIN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TASK = TaskKey("finance", "total")


def counts(uid: str, requests: int, *, errors: int = 0, shadow: ShadowCounts | None = None) -> RevisionCounts:
    live = Counts(requests=requests, errors=errors, latency=((20, requests - errors),))
    return RevisionCounts(namespace=TASK.namespace, task_model=TASK.name, revision=f"total-{uid}", uid=uid, live=live, shadow=shadow)


class _Tokens:
    async def get(self, audience: str) -> str:
        return f"token-for-{audience}"


class _World:
    """One address, at which one process of the gateway after another may run."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked: list[web.Request] = []
        self.enqueued: list[Key] = []
        self.addresses = ["127.0.0.1"]
        self.revisions = {("finance", "total-new", "new"), ("finance", "total-old", "old")}
        self.now = BEGIN
        self.measurements: GatewayMeasurements
        self.demand: GatewayDemand

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await self.lines.get()) is not None:
            await response.write(line)
        return response

    def tell(self, *revisions: RevisionCounts, process: str = "one") -> None:
        batch = MeasurementBatch(replica=process, revisions=revisions)
        self.lines.put_nowait(batch.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n")

    def tell_demand(self, *, held: int, process: str = "one") -> None:
        told = TaskDemand(namespace=TASK.namespace, task_model=TASK.name, held=held, arrivals=held, last_request_seconds=1.0)
        batch = MeasurementBatch(replica=process, uptime_seconds=1.0, demand=(told,))
        self.lines.put_nowait(batch.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n")

    def demanded(self) -> tuple[int, bool] | None:
        """Requests that wait, and whether all gateways are heard."""
        found = self.demand.of(TASK.namespace, (TASK.name,), stable_seconds=60)
        return (sum(view.held for view in found.tasks), found.complete) if found is not None else None

    def evidence(self, since: datetime = BEGIN) -> Evidence | None:
        return self.measurements.evidence(TASK, candidate_uid="new", stable_uid="old", since=since)

    def seen(self) -> tuple[int, int] | None:
        """Requests of candidate and stable revision."""
        found = self.evidence()
        return (found.candidate.requests, found.stable.requests) if found is not None else None


@pytest.fixture
async def world() -> AsyncIterator[_World]:
    found = _World()
    application = web.Application()
    application.add_routes([web.get(MEASUREMENTS_PATH, found.stream)])
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        found.demand = GatewayDemand(now=lambda: found.now, clock=asyncio.get_running_loop().time)
        slices: list[dict[str, Any]] = [{"endpoints": [{"addresses": found.addresses}]}]
        found.measurements = GatewayMeasurements(
            session,
            _Tokens(),
            slices=lambda: slices,
            port=server.port or 0,
            audience="internal",
            enqueue=found.enqueued.append,
            exists=lambda *revision: revision in found.revisions,
            demand=found.demand,
            now=lambda: found.now,
        )
        running = asyncio.create_task(found.measurements.run())
        yield found
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        found.lines.put_nowait(None)


async def test_nothing_is_evidence_before_a_gateway_was_heard(world: _World) -> None:
    assert world.evidence() is None
    world.tell()
    await until(world.evidence)
    assert world.asked[0].headers["Authorization"] == "Bearer token-for-internal"


async def test_a_step_is_judged_by_what_came_after_its_beginning(world: _World) -> None:
    world.tell(counts("old", 1000, errors=50), counts("new", 40, errors=40))
    await until(world.evidence)
    world.tell(counts("old", 1090, errors=51), counts("new", 50, errors=42))
    await until(lambda: world.seen() == (10, 90))
    found = world.evidence()
    assert found is not None
    assert (found.candidate.errors, found.stable.errors) == (2, 1)
    assert (found.candidate.latency, found.stable.latency) == ({20: 8}, {20: 89})
    assert found.complete


async def test_another_step_begins_anew(world: _World) -> None:
    world.tell(counts("old", 100))
    await until(world.evidence)
    world.tell(counts("new", 7))
    await until(lambda: world.seen() == (7, 0))
    world.now = BEGIN + timedelta(seconds=60)
    found = world.evidence(since=world.now)
    assert found is not None
    assert (found.since, found.candidate.requests) == (world.now, 0)


async def test_a_new_leader_knows_nothing_of_the_time_before_it(world: _World) -> None:
    world.now = BEGIN + timedelta(seconds=45)
    world.tell(counts("old", 1000), counts("new", 100))
    await until(world.evidence)
    found = world.evidence()
    assert found is not None
    assert (found.since, found.candidate.requests) == (world.now, 0)


async def test_a_task_on_a_step_is_looked_at_when_its_counts_change(world: _World) -> None:
    world.tell(counts("old", 1))
    await until(world.evidence)
    assert world.enqueued == []
    world.tell(counts("new", 1))
    await until(lambda: world.enqueued == [TASK])


async def test_a_stream_that_breaks_off_goes_on_where_it_was(world: _World) -> None:
    world.tell(counts("old", 100), counts("new", 10))
    await until(world.evidence)
    world.lines.put_nowait(None)
    await until(lambda: (found := world.evidence()) is not None and not found.complete)
    world.tell(counts("old", 190), counts("new", 20))
    await until(lambda: world.seen() == (10, 90))
    assert len(world.asked) == 2


async def test_counts_of_a_process_that_has_ended_stay_and_those_of_the_next_one_add_to_them(world: _World) -> None:
    world.tell(counts("old", 100))
    await until(world.evidence)
    world.tell(counts("old", 110), counts("new", 1))
    await until(lambda: world.seen() == (1, 10))
    world.lines.put_nowait(None)
    world.tell(process="two")
    world.tell(counts("old", 5), counts("new", 2), process="two")
    await until(lambda: world.seen() == (3, 15))


async def test_nonsense_is_not_counted_and_the_stream_is_opened_again(world: _World) -> None:
    world.tell(counts("old", 100))
    await until(world.evidence)
    world.lines.put_nowait(b'{"replica": 7}\n')
    await until(lambda: len(world.asked) == 2)
    assert world.seen() == (0, 0)


@pytest.mark.parametrize(
    ("silent", "least", "most"), [(0, 0.25, 0.5), (1, 0.5, 1.0), (2, 1.0, 2.0), (3, 2.0, 4.0), (4, 2.5, 5.0), (10_000, 2.5, 5.0)]
)
def test_a_gateway_that_says_nothing_is_asked_less_and_less_often(silent: int, least: float, most: float) -> None:
    assert measurements.pause(silent, share=lambda: 0.0) == least
    assert measurements.pause(silent, share=lambda: 1.0) == most
    assert least <= measurements.pause(silent) <= most


async def test_mirrored_answers_are_counted_apart(world: _World) -> None:
    world.tell(counts("old", 1))
    await until(world.evidence)
    world.tell(counts("new", 0, shadow=ShadowCounts(answers=Counts(requests=6, errors=1), compared=5, agreed=4)))
    await until(lambda: (found := world.evidence()) is not None and found.shadow.requests == 6)
    found = world.evidence()
    assert found is not None
    assert (found.candidate.requests, found.shadow.errors, found.shadow.compared, found.shadow.agreed) == (0, 1, 5, 4)


async def test_counts_of_a_revision_that_is_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch, world: _World) -> None:
    monkeypatch.setattr(measurements, "FORGET_SECONDS", 0.0)
    monkeypatch.setattr(measurements, "LOOK_SECONDS", 0.01)
    world.tell(counts("old", 100), counts("new", 10))
    await until(world.evidence)
    world.tell(counts("old", 110), counts("new", 15))
    await until(lambda: world.seen() == (5, 10))
    world.revisions.discard(("finance", "total-old", "old"))
    await until(lambda: world.seen() == (5, 0))


async def test_the_same_stream_tells_of_demand(world: _World) -> None:
    world.tell_demand(held=3)
    await until(lambda: world.demanded() == (3, True))
    assert len(world.asked) == 1


async def test_a_gateway_that_is_not_heard_makes_the_demand_incomplete_until_another_process_is(world: _World) -> None:
    world.tell_demand(held=3)
    await until(lambda: world.demanded() == (3, True))
    world.lines.put_nowait(None)
    await until(lambda: world.demanded() == (0, False))
    world.tell_demand(held=1, process="two")
    await until(lambda: world.demanded() == (1, True))


async def test_demand_is_not_known_where_there_is_no_gateway(monkeypatch: pytest.MonkeyPatch, world: _World) -> None:
    monkeypatch.setattr(measurements, "LOOK_SECONDS", 0.01)
    world.tell_demand(held=3)
    await until(lambda: world.demanded() == (3, True))
    world.addresses.clear()
    await until(lambda: world.demanded() == (0, False))
