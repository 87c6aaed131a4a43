"""What is asked of tasks with a forecast, across restarts of the operator, and what it costs in writes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet.controller.cache import Cache
from taskfleet.controller.demandrecords import DemandRecords
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.writer import Writer
from taskfleet.kube.errors import ForbiddenError
from taskfleet.kube.resources import CONFIG_MAPS, TASK_MODELS
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from taskfleet.planning.scaling.demandhistory import DemandHistory
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, body, task_model

BEGIN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
WRITE = "apply ConfigMap total-demand"


class _World:
    """`total` has a forecast, `vendor` has none; both are members of one pool."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.version = 10
        self.server = MemoryApiServer()
        self.cache = Cache()
        self.fleet = Fleet(self.cache)
        self.cache.notify = self.fleet.index
        self.records = self.restarted()
        self.task()
        self.put(task_model("vendor", 1))

    def restarted(self) -> DemandRecords:
        server: Any = self.server
        return DemandRecords(fleet=self.fleet, writer=Writer(server, self.cache))

    def put(self, item: Json) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self.cache.put(TASK_MODELS, item)

    def task(self, *, uid: str = "uid-total", forecast: bool = True, **spec: Any) -> None:
        scaling: Json = {"forecast": {}} if forecast else {}
        item = task_model("total", 1, scaling=scaling, **spec)
        item["metadata"]["uid"] = uid
        self.put(item)

    async def look(self, requests: float, *, complete: bool = True) -> dict[str, DemandHistory]:
        view = TaskDemandView(task="total", fast=requests, stable=requests)
        demand = PoolDemand(tasks=(view,), heard_since=BEGIN, complete=complete)
        found = self.records.seen("finance", ("total", "vendor"), demand, now=self.now)
        await self.records.write("finance", tuple(found), now=self.now)
        return dict(found)

    async def hours(self, hours: float, requests: float, *, complete: bool = True) -> DemandHistory:
        found: dict[str, DemandHistory] = {}
        end = self.now + timedelta(hours=hours)
        while self.now < end:
            found = await self.look(requests, complete=complete)
            self.now += timedelta(seconds=30)
        return found["total"]

    @property
    def record(self) -> Json:
        return self.server.objects["ConfigMap", "finance", "total-demand"]


@pytest.fixture
def world() -> _World:
    return _World()


async def test_what_is_asked_is_written_once_an_hour_at_most(world: _World) -> None:
    await world.hours(6.5, 3)
    assert world.server.writes in ([WRITE] * 6, [WRITE] * 7)
    metadata = world.record["metadata"]
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "taskfleet", "or no watch would see it"
    assert [(owner["kind"], owner["uid"]) for owner in metadata["ownerReferences"]] == [("TaskModel", "uid-total")]
    assert world.record["data"]["2026-01-01"].split(" ")[47:50] == ["-", "3", "3"]


async def test_nothing_is_written_of_idle_tasks_and_of_those_without_a_forecast(world: _World) -> None:
    found = await world.hours(30, 0)
    assert world.server.writes == []
    assert set(await world.look(0)) == {"total"}
    assert len([value for value in found.days[BEGIN.date()] if value == 0]) == 48, "what is not written is known all the same"


async def test_idle_quarters_are_written_with_the_next_figure_of_the_hour(world: _World) -> None:
    await world.hours(5, 0)
    await world.hours(2, 3)
    assert world.record["data"]["2026-01-01"].split(" ")[48:52] == ["0"] * 4


async def test_another_leader_goes_on_with_what_is_written(world: _World) -> None:
    await world.hours(3, 3)
    written = len(world.server.writes)
    world.records = world.restarted()
    found = (await world.look(3))["total"]
    assert found.days[BEGIN.date()][48] == 3
    await world.hours(0.1, 3)
    assert len(world.server.writes) == written, "a restart is no reason to write"


async def test_time_in_which_a_gateway_is_not_heard_is_not_known(world: _World) -> None:
    found = await world.hours(1, 3, complete=False)
    assert not found.days


async def test_record_of_an_earlier_task_of_the_name_is_not_taken_over(world: _World) -> None:
    await world.hours(3, 3)
    world.task(uid="uid-another")
    assert not (await world.look(3))["total"].days
    world.records = world.restarted()
    assert not (await world.look(3))["total"].days


@pytest.mark.parametrize("change", [{"forecast": False}, {"suspend": True}])
async def test_tasks_that_have_no_forecast_any_more_or_are_suspended_are_left_out(world: _World, change: dict[str, Any]) -> None:
    await world.hours(0.5, 3)
    world.task(**change)
    assert await world.look(3) == {}


async def test_what_can_not_be_written_is_tried_an_hour_later_and_keeps_nobody_from_scaling(world: _World) -> None:
    world.server.refuse = ForbiddenError("exceeded quota", status=403)
    found = await world.hours(3, 3)
    assert found.days[BEGIN.date()][48] == 3
    world.server.refuse = None
    await world.hours(1, 3)
    assert world.record["data"]["2026-01-01"].split(" ")[48] == "3", "nothing is lost meanwhile"


async def test_config_map_of_somebody_else_is_left_alone(world: _World) -> None:
    theirs = body("total-demand", 5) | {"data": {"mine": "yes"}}
    world.server.objects["ConfigMap", "finance", "total-demand"] = theirs
    world.cache.put(CONFIG_MAPS, theirs)
    assert not (await world.look(3))["total"].days
    await world.hours(2, 3)
    assert world.server.writes == []
    assert world.record["data"] == {"mine": "yes"}
