"""The copy of one kind follows the API server through breaks, gaps and deletions that nobody told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskfleet.kube import reflector
from taskfleet.kube.client import ObjectList, WatchEvent
from taskfleet.kube.errors import GoneError, KubeError, UnavailableError
from taskfleet.kube.reflector import Reflector
from taskfleet.kube.resources import CONFIG_MAPS, Resource


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}}


class _ApiServer:
    """Plays lists and watches; a watch gives its events, then raises its error, or waits for ever."""

    def __init__(self, *, lists: list[ObjectList | KubeError], watches: list[list[WatchEvent | KubeError]]) -> None:
        self.lists = lists
        self.watches = watches
        self.watched_from: list[str] = []

    async def list(self, _resource: Resource, **_: str) -> ObjectList:
        found = self.lists.pop(0)
        if isinstance(found, KubeError):
            raise found
        return found

    async def watch(self, _resource: Resource, *, resource_version: str, **_: object) -> AsyncIterator[WatchEvent]:
        self.watched_from.append(resource_version)
        for event in self.watches.pop(0) if self.watches else []:
            if isinstance(event, KubeError):
                raise event
            yield event
        if not self.watches:
            await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_PAUSE_SECONDS", 0.001)


async def _story(server: _ApiServer, *, until: str) -> tuple[Reflector, list[str]]:
    """Runs until `until` was told."""
    told: list[str] = []
    done = asyncio.Event()

    def tell(word: str, item: dict[str, Any]) -> None:
        told.append(f"{word} {item['metadata']['name']}@{item['metadata']['resourceVersion']}")
        if told[-1] == until:
            done.set()

    watched = Reflector(server, CONFIG_MAPS, on_upsert=lambda item: tell("put", item), on_delete=lambda item: tell("del", item))  # type: ignore[arg-type]
    task = asyncio.create_task(watched.run())
    try:
        await asyncio.wait_for(done.wait(), 10)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return watched, told


async def test_lists_then_follows() -> None:
    server = _ApiServer(
        lists=[ObjectList((thing("a", 1),), "5")],
        watches=[[WatchEvent("ADDED", thing("b", 6)), WatchEvent("MODIFIED", thing("a", 7)), WatchEvent("DELETED", thing("b", 8))]],
    )
    watched, told = await _story(server, until="del b@8")
    assert told == ["put a@1", "put b@6", "put a@7", "del b@8"]
    assert watched.objects == {("ns", "a"): thing("a", 7)}
    assert watched.synced.is_set()


async def test_a_broken_watch_goes_on_where_it_ended_bookmarks_included() -> None:
    server = _ApiServer(
        lists=[ObjectList((), "5")],
        watches=[
            [WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "40"}}), UnavailableError("cut")],
            [WatchEvent("ADDED", thing("a", 41))],
        ],
    )
    await _story(server, until="put a@41")
    assert server.watched_from[:2] == ["5", "40"]


async def test_deletions_in_a_gap_are_found_by_the_next_list() -> None:
    server = _ApiServer(
        lists=[ObjectList((thing("a", 1), thing("b", 2)), "5"), ObjectList((thing("b", 2), thing("c", 9)), "10")],
        watches=[[GoneError("too old")], []],
    )
    watched, told = await _story(server, until="put c@9")
    assert told == ["put a@1", "put b@2", "del a@1", "put c@9"], "what is unchanged is not told again"
    assert set(watched.objects) == {("ns", "b"), ("ns", "c")}


async def test_an_outage_keeps_the_copy_and_is_waited_out() -> None:
    server = _ApiServer(
        lists=[ObjectList((thing("a", 1),), "5"), UnavailableError("away"), UnavailableError("away"), ObjectList((thing("a", 8),), "9")],
        watches=[[UnavailableError("away")], [UnavailableError("away")], [UnavailableError("away")], []],
    )
    _, told = await _story(server, until="put a@8")
    assert told == ["put a@1", "put a@8"]


async def test_what_the_server_says_is_a_sign_that_the_copy_is_up_to_date_and_a_broken_watch_is_none() -> None:
    heard: list[float] = []

    class Noting(_ApiServer):
        async def watch(self, _resource: Resource, *, resource_version: str, **_: object) -> AsyncIterator[WatchEvent]:
            heard.append(watched.heard)
            async for event in super().watch(_resource, resource_version=resource_version):
                yield event

    # The first one has nothing to tell, and ends in order.
    server = Noting(lists=[ObjectList((), "5")], watches=[[], [UnavailableError("cut")], [WatchEvent("ADDED", thing("a", 7))]])
    done = asyncio.Event()
    watched = Reflector(server, CONFIG_MAPS, on_upsert=lambda _: done.set())  # type: ignore[arg-type]
    assert watched.heard == float("-inf")
    task = asyncio.create_task(watched.run())
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    listed, ended, broken = heard
    assert float("-inf") < listed < ended == broken < watched.heard
