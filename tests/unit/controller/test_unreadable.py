"""A TaskModel that can't be parsed is told so, once, and keeps what it serves."""

from datetime import UTC, datetime
from typing import Any

import pytest

from taskfleet.controller.cache import Cache
from taskfleet.controller.events import EventWriter
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import Key, TaskKey
from taskfleet.controller.taskmodel import TaskModelReconciler
from taskfleet.controller.writer import Writer
from taskfleet.kube.resources import TASK_MODELS
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, task_model

KEY = TaskKey("finance", "a")
ROUTE = {"revision": "a-1", "uid": "u-1", "pool": "tiny", "weightPercent": 100}


class _World:
    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.keys: list[Key] = []
        self.cache = Cache()
        server: Any = self.server
        unused: Any = None
        self.reconciler = TaskModelReconciler(
            fleet=Fleet(self.cache),
            writer=Writer(server, self.cache),
            events=EventWriter(server, instance="test"),
            gateways=unused,
            resolutions=unused,
            evaluations=unused,
            measurements=unused,
            enqueue=self.keys.append,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            gateway_url="",
        )

    def there_is(self, item: Json) -> None:
        item["metadata"]["generation"] = 4
        self.server.objects["TaskModel", "finance", "a"] = item
        self.cache.put(TASK_MODELS, item)

    def status(self) -> Json:
        found: Json = self.server.objects["TaskModel", "finance", "a"]["status"]
        return found

    def conditions(self) -> dict[str, tuple[str, str]]:
        return {one["type"]: (one["status"], one["reason"]) for one in self.status()["conditions"]}


@pytest.fixture
def world() -> _World:
    return _World()


async def test_the_field_is_named_and_one_warning_event_tells_of_it(world: _World) -> None:
    world.there_is(task_model("a", 5, isolation="Sometimes"))
    await world.reconciler.reconcile(KEY)
    assert world.conditions() == {
        "Accepted": ("False", "InvalidSpec"),
        "Ready": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
    }
    assert "spec.isolation" in world.status()["conditions"][0]["message"]
    assert world.status()["observedGeneration"] == 4
    events = [item for key, item in world.server.objects.items() if key[0] == "Event"]
    assert [(event["type"], event["reason"], event["regarding"]["name"]) for event in events] == [("Warning", "InvalidSpec", "a")]


async def test_it_is_said_once(world: _World) -> None:
    world.there_is(task_model("a", 5, isolation="Sometimes"))
    await world.reconciler.reconcile(KEY)
    written = list(world.server.writes)
    for _ in range(5):
        await world.reconciler.reconcile(KEY)
    assert world.server.writes == written


async def test_what_serves_goes_on_serving(world: _World) -> None:
    world.there_is(task_model("a", 5, isolation="Sometimes") | {"status": {"traffic": [ROUTE], "servingClassName": "cpu"}})
    await world.reconciler.reconcile(KEY)
    assert world.status()["traffic"] == [ROUTE]
    assert world.status()["servingClassName"] == "cpu"


async def test_a_status_that_makes_no_sense_either_is_no_crash(world: _World) -> None:
    world.there_is(task_model("a", 5, isolation="Sometimes") | {"status": {"traffic": "everywhere"}})
    await world.reconciler.reconcile(KEY)
    assert world.conditions()["Accepted"] == ("False", "InvalidSpec")
