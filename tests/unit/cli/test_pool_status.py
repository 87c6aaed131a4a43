"""`taskfleet pool status`: what the table says, and what scripts get."""

import io
import json
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from taskfleet.cli.cluster import UnusableError
from taskfleet.cli.commands import app
from taskfleet.cli.pool.report import PoolReport
from taskfleet.cli.pool.showing import read
from taskfleet.cli.pool.table import table
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, body, pool

START = {
    "pod": "tiny-0",
    "createdTime": "2026-01-01T12:00:00Z",
    "seconds": "34.2",
    "slowest": "Engine",
    "phases": [{"phase": "Schedule", "seconds": "0.1"}, {"phase": "Engine", "seconds": "34.1"}],
}
STEP = {"desiredReplicas": 3, "reason": "Step", "message": "raised from 1", "lastScaleTime": "2026-01-01T12:00:00Z"}


def unschedulable() -> Json:
    condition = {
        "type": "Available",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"conditions": [condition], "readyReplicas": 0, "scaling": STEP}


class _World:
    def __init__(self) -> None:
        self.server = MemoryApiServer()

    def there_is(self, item: Json) -> None:
        self.server.objects["ModelPool", item["metadata"]["namespace"], item["metadata"]["name"]] = item

    async def read(self, namespace: str = "finance", name: str | None = None) -> list[PoolReport]:
        server: Any = self.server
        return await read(server, namespace, name)


@pytest.fixture
def world() -> _World:
    found = _World()
    members = [(task, f"{task}-1") for task in ("total", "vendor", "date", "currency", "route")]
    found.there_is(pool("tiny", 1, *members, replicas=3, status={"readyReplicas": 2, "scaling": STEP, "lastStart": START}))
    found.there_is(pool("other", 2, ("intent", "intent-1"), replicas=3, status=unschedulable()))
    found.there_is(pool("fresh", 3, ("new", "new-1"), namespace="support"))
    return found


def lines(pools: list[PoolReport], **options: bool) -> list[list[str]]:
    """Cells of the rows, the heading first."""
    screen = Console(file=io.StringIO(), width=10_000, highlight=False)
    screen.print(table(pools, **options), soft_wrap=True)
    assert isinstance(screen.file, io.StringIO)
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in screen.file.getvalue().splitlines()]


async def test_each_pool_says_how_many_pods_and_why(world: _World) -> None:
    assert lines(await world.read()) == [
        ["POOL", "CLASS", "DESIRED", "READY", "REASON", "MESSAGE", "LAST START", "MEMBERS"],
        ["other", "cpu", "3", "0", "Step", "raised from 1; Unschedulable: 0/3 nodes are available", "-", "intent"],
        ["tiny", "cpu", "3", "2", "Step", "raised from 1", "34.2 s", "currency, date, route, 2 more"],
    ]


async def test_a_schedule_is_said_beside_another_reason(world: _World) -> None:
    floor = {"replicas": 2, "source": "Schedule", "taskModel": "total", "schedule": "hours", "until": "2026-01-01T18:00:00Z"}
    world.there_is(pool("tiny", 4, ("total", "total-1"), replicas=3, status={"readyReplicas": 3, "scaling": STEP | {"floor": floor}}))
    (found,) = await world.read(name="tiny")
    said = "schedule hours of total keeps 2 until 2026-01-01T18:00:00Z"
    assert lines([found])[1][5] == f"raised from 1; {said}"
    assert found.to_json()["floor"] == floor
    learned = {name: value for name, value in floor.items() if name != "schedule"} | {"source": "Forecast"}
    world.there_is(pool("tiny", 5, ("total", "total-1"), replicas=3, status={"readyReplicas": 3, "scaling": STEP | {"floor": learned}}))
    assert lines(await world.read(name="tiny"))[1][5] == "raised from 1; forecast for total keeps 2 until 2026-01-01T18:00:00Z"
    own = {"reason": "Scheduled", "message": "schedule hours of total keeps 2 until 18:00 Etc/UTC"}
    world.there_is(pool("tiny", 5, ("total", "total-1"), replicas=2, status={"readyReplicas": 2, "scaling": STEP | own | {"floor": floor}}))
    assert lines(await world.read(name="tiny"))[1][5] == own["message"], "said once"


async def test_one_pool_names_all_its_tasks(world: _World) -> None:
    found = await world.read(name="tiny")
    assert lines(found, all_members=True)[1][-1] == "currency, date, route, total, vendor"


async def test_one_pool_tells_the_parts_of_its_last_start(world: _World) -> None:
    found = await world.read(name="tiny")
    assert lines(found, all_members=True)[1][-2] == "34.2 s: schedule 0.1, engine 34.1"
    assert found[0].to_json()["lastStart"] == START


async def test_all_namespaces_are_told_apart(world: _World) -> None:
    rows = lines(await world.read(namespace=""), namespaces=True)
    assert [row[:2] for row in rows[1:]] == [["finance", "other"], ["finance", "tiny"], ["support", "fresh"]]
    assert rows[3][2:] == ["cpu", "1", "0", "-", "-", "-", "new"], "nobody has decided yet"


async def test_scripts_get_the_members_and_the_times(world: _World) -> None:
    (found,) = await world.read(name="tiny")
    content = json.loads(json.dumps(found.to_json()))
    assert (content["desiredReplicas"], content["readyReplicas"], content["lastScaleTime"]) == (3, 2, "2026-01-01T12:00:00Z")
    assert content["members"][0] == {"taskModel": "total", "revision": "total-1", "role": "Stable", "state": "Pending"}


async def test_what_was_decided_counts_where_it_is_not_written_yet(world: _World) -> None:
    world.there_is(pool("tiny", 4, ("total", "total-1"), replicas=1, status={"scaling": STEP}))
    (found,) = await world.read(name="tiny")
    assert found.desired_replicas == 3


def a_class(max_resident: int | None) -> Json:
    spec = {"engine": {"type": "vLLM", "image": "registry.example/vllm:1"}, "adapters": {"maxActive": 1, "maxResident": max_resident}}
    return body("cpu", 1, namespace="", spec=spec)


def with_adapters(number: int, *, without: int = 0) -> Json:
    """A pool whose last tasks are served by the base."""
    found = pool("tiny", 4, *((f"task-{one}", f"task-{one}-1") for one in range(number + without)))
    for member in found["spec"]["members"][:number]:
        member["adapter"] = {"source": "oci://registry.example/adapter", "version": "v1"}
    return found


@pytest.mark.parametrize(
    ("adapters", "limit", "end"),
    [(4, 3, "task-4; a pod has 3 of 4 adapters loaded at a time"), (3, 3, "task-3"), (4, None, "task-4")],
)
async def test_adapters_that_rest_are_said_where_not_all_are_loaded(world: _World, adapters: int, limit: int | None, end: str) -> None:
    world.there_is(with_adapters(adapters, without=1))
    world.server.objects["ServingClass", "", "cpu"] = a_class(limit)
    (found,) = await world.read(name="tiny")
    assert lines([found], all_members=True)[1][-1].endswith(end)
    assert (found.adapters, found.max_resident) == (adapters, limit)


async def test_who_may_not_read_classes_sees_the_pool(world: _World) -> None:
    world.there_is(with_adapters(5))
    world.server.hidden = frozenset({"ServingClass"})
    (found,) = await world.read(name="tiny")
    assert lines([found])[1][-1] == "task-0, task-1, task-2, 2 more"


async def test_a_pool_that_there_is_not_is_said_so(world: _World) -> None:
    with pytest.raises(UnusableError, match="there is no ModelPool gone in namespace finance"):
        await world.read(name="gone")


async def test_a_pool_that_this_version_cannot_read_is_named(world: _World) -> None:
    broken = pool("tiny", 9)
    broken["spec"]["replicas"] = "many"
    world.there_is(broken)
    with pytest.raises(UnusableError, match="ModelPool finance/tiny"):
        await world.read()


def test_a_name_and_all_namespaces_exclude_each_other() -> None:
    found = CliRunner().invoke(app, ["pool", "status", "tiny", "--all-namespaces"])
    assert found.exit_code == typer.BadParameter("").exit_code
