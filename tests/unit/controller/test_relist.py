"""What the watches missed is found and mended; what they always miss is told."""

import asyncio

import pytest

from taskfleet.controller import relist as module
from taskfleet.controller.cache import Cache
from taskfleet.controller.relist import Relist, Watched
from taskfleet.kube.resources import SERVICES, TASK_MODELS
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import body
from tests.unit.controller.waiting import until

WATCHED = Watched(SERVICES)


class _World:
    """The API server has services a and b; the cache was filled from it."""

    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.changes: list[str] = []
        self.cache = Cache(lambda change: self.changes.append(change.any["metadata"]["name"]))
        self.relist = Relist(self.server, self.cache, (WATCHED,), seconds=300, users_seconds=300)  # type: ignore[arg-type]

    def has(self, name: str, version: int) -> None:
        self.server.objects["Service", "finance", name] = body(name, version)
        self.server.version = max(self.server.version, version)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> _World:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.0)
    found = _World()
    found.has("a", 10)
    found.has("b", 11)
    await found.relist.fill()
    found.changes.clear()
    return found


async def test_a_complete_cache_is_left_alone(world: _World) -> None:
    await world.relist.compare(WATCHED)
    assert world.changes == []
    assert world.relist.behind() is None


async def test_a_deletion_that_no_watch_told_is_told(world: _World) -> None:
    del world.server.objects["Service", "finance", "a"]
    await world.relist.compare(WATCHED)
    assert world.changes == ["a"]
    assert world.cache.get(SERVICES, "a", "finance") is None
    assert world.cache.get(SERVICES, "b", "finance") is not None


async def test_what_is_newer_than_the_list_is_no_deletion(world: _World) -> None:
    """Our own write can reach the cache before the list that was made earlier does."""
    world.cache.put(SERVICES, body("fresh", 5_000))
    await world.relist.compare(WATCHED)
    assert world.cache.get(SERVICES, "fresh", "finance") is not None


async def test_a_change_that_the_watch_missed_is_mended(world: _World) -> None:
    world.has("a", 200)
    world.has("c", 201)
    await world.relist.compare(WATCHED)
    assert sorted(world.changes) == ["a", "c"]
    assert world.relist.behind() is None, "once may be an accident"


async def test_a_watch_that_misses_again_is_dead(world: _World) -> None:
    for version in (200, 300):
        world.has("a", version)
        await world.relist.compare(WATCHED)
    assert world.relist.behind() == "Service"
    await world.relist.compare(WATCHED)
    assert world.relist.behind() == "Service", "that nothing happened since is no sign of life"
    world.relist.heard(SERVICES)
    assert world.relist.behind() is None


async def test_a_watch_that_misses_deletions_again_is_dead(world: _World) -> None:
    for name in ("a", "b"):
        assert world.relist.behind() is None
        del world.server.objects["Service", "finance", name]
        await world.relist.compare(WATCHED)
    assert world.relist.behind() == "Service"


async def test_deletions_from_before_a_new_list_are_not_missed_by_the_watch(world: _World) -> None:
    for name in ("a", "b"):
        del world.server.objects["Service", "finance", name]
        await world.relist.compare(WATCHED, relisted=True)
        assert world.cache.get(SERVICES, name, "finance") is None
    assert world.relist.behind() is None


async def test_a_deletion_that_is_told_while_it_compares_was_not_missed(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep

    async def meanwhile(seconds: float) -> None:
        await sleep(seconds)
        for name in ("a", "b"):
            if ("Service", "finance", name) not in world.server.objects:
                world.cache.remove(SERVICES, body(name, 9_000))

    monkeypatch.setattr(asyncio, "sleep", meanwhile)
    for name in ("a", "b"):
        del world.server.objects["Service", "finance", name]
        await world.relist.compare(WATCHED)
        assert world.cache.get(SERVICES, name, "finance") is None
    assert world.relist.behind() is None


async def test_what_comes_while_it_compares_was_not_missed(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy fleet must not look like a dead watch."""
    sleep = asyncio.sleep

    async def meanwhile(seconds: float) -> None:
        await sleep(seconds)
        world.cache.put(SERVICES, world.server.objects["Service", "finance", "a"])  # the watch tells what was on its way
        world.has("b", world.server.version + 1)  # and the next change is on its way

    monkeypatch.setattr(asyncio, "sleep", meanwhile)
    for version in (200, 300, 400):
        world.has("a", version)
        world.cache.put(SERVICES, world.server.objects["Service", "finance", "b"])
        await world.relist.compare(WATCHED)
    assert world.relist.behind() is None


async def test_what_went_while_it_compares_was_not_missed(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep

    async def meanwhile(seconds: float) -> None:
        await sleep(seconds)
        world.server.objects.pop(("Service", "finance", "short-lived"), None)

    monkeypatch.setattr(asyncio, "sleep", meanwhile)
    for version in (200, 300):
        world.has("short-lived", version)
        await world.relist.compare(WATCHED)
    assert world.relist.behind() is None


async def test_what_users_write_is_compared_more_often(world: _World) -> None:
    users, ours = Watched(TASK_MODELS, users=True), WATCHED
    relist = Relist(world.server, world.cache, (users, ours), seconds=3600, users_seconds=0.01)  # type: ignore[arg-type]
    world.server.objects["TaskModel", "finance", "new"] = body("new", 300)
    world.has("missed", 301)
    running = asyncio.create_task(relist.run())
    await until(lambda: "new" in world.changes)
    world.server.objects["TaskModel", "finance", "newer"] = body("newer", 302)
    await until(lambda: relist.behind() == "TaskModel")
    running.cancel()
    assert "missed" not in world.changes, "the others wait for their longer turn"
