"""One tenant among others: whoever floods the gateway, or whose tasks are all broken, takes its own share of room and nobody else's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from taskfleet.gateway.auth import Caller
from taskfleet.gateway.errors import TooManyRequestsError
from taskfleet.gateway.hold import Hold
from taskfleet.gateway.places import Places
from taskfleet.kube.identity import Identity
from tests.unit.gateway.builders import at, pool, revision, task, traffic
from tests.unit.gateway.pods import Pod, hang
from tests.unit.gateway.raw import connected, request
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, running

SHARE = 8


class Everybody:
    """Callers named by their tokens: `name:secret` is somebody's, with any secret. All may do everything."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        token = headers["Authorization"].removeprefix("Bearer ")
        identity = Identity(username=token.partition(":")[0], audiences=())
        return Caller(identity=identity, token_hash=token.encode(), expiry=0, namespace=None)

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:  # noqa: ARG002
        return True


@asynccontextmanager
async def two_tenants(*, finance: Pod | None, legal: Pod, **settings: Any) -> AsyncIterator[World]:
    """Namespaces finance and legal with a TaskModel `vendor` each; finance has 500 more that no pod can answer for."""
    async with running(access=Everybody(), **settings) as world:
        for namespace, pod, uid in (("finance", finance, "u1"), ("legal", legal, "u2")):
            world.table.put_task(task(namespace=namespace, uid=uid, to=[traffic("vendor-1")]))
            world.table.put_revision(revision("vendor-1", namespace=namespace, owner=uid))
            world.table.put_pool(pool(namespace=namespace))
            if pod is not None:
                world.table.put_slice(at(pod.address, namespace=namespace))
        for number in range(500):
            name, uid = f"broken-{number}", f"b{number}"
            world.table.put_task(task(name, uid=uid, to=[traffic(f"{name}-1", pool="nowhere")]))
            world.table.put_revision(revision(f"{name}-1", of=name, owner=uid))
        yield world


async def ask(world: World, model: str, *, who: str) -> int:
    headers = {"Authorization": f"Bearer {who}"}
    async with world.post(model=model, headers=headers) as response:
        await response.read()
        code: int = response.status
        return code


async def test_tenant_with_500_broken_tasks_keeps_no_other_waiting() -> None:
    settings = {"max_held_requests": 2 * SHARE, "max_held_per_namespace": SHARE, "max_held_per_task": 4, "hold_seconds": 60}
    async with Pod("b", models={MODEL.replace("finance", "legal")}) as legal, two_tenants(finance=None, legal=legal, **settings) as world:
        flood = [asyncio.create_task(ask(world, f"finance/broken-{number}", who=f"caller-{number}")) for number in range(500)]
        # Its share waits; all others are told at once.
        await until(lambda: sum(one.done() for one in flood) == 500 - SHARE)
        assert {one.result() for one in flood if one.done()} == {429}
        assert world.figure("held_requests") == SHARE
        assert [await ask(world, "legal/vendor", who="lawyer") for _ in range(50)] == [200] * 50
        # A cold task of another tenant still finds a place to wait.
        world.table.remove_slice("legal", "slice-1")
        cold = asyncio.create_task(ask(world, "legal/vendor", who="lawyer"))
        await until(lambda: world.figure("held_requests") == SHARE + 1)
        world.table.put_slice(at(legal.address, namespace="legal"))
        assert await asyncio.wait_for(cold, 20) == 200
        for one in flood:
            one.cancel()


async def test_models_of_one_namespace_have_their_share_whoever_calls_them() -> None:
    async with (
        Pod("a", models={MODEL}, answer=hang) as finance,
        Pod("b", models={MODEL.replace("finance", "legal")}) as legal,
        two_tenants(finance=finance, legal=legal, max_open_per_tenant=SHARE) as world,
    ):
        flood = [asyncio.create_task(ask(world, "finance/vendor", who=f"caller-{number}")) for number in range(3 * SHARE)]
        await until(lambda: sum(one.done() for one in flood) == 2 * SHARE)
        assert {one.result() for one in flood if one.done()} == {429}
        await until(lambda: len(finance.received) == SHARE)
        assert [await ask(world, "legal/vendor", who="caller-0") for _ in range(20)] == [200] * 20
        for one in flood:
            one.cancel()
        await until(lambda: not world.gateway.api.open_requests)


async def test_caller_has_its_share_whatever_it_calls_and_however_many_tokens_it_has() -> None:
    async with (
        Pod("a", models={MODEL}, answer=hang) as finance,
        Pod("b", models={MODEL.replace("finance", "legal")}) as legal,
        two_tenants(finance=finance, legal=legal, max_open_per_tenant=SHARE) as world,
    ):
        flood = [asyncio.create_task(ask(world, "finance/vendor", who=f"greedy:{number}")) for number in range(SHARE)]
        await until(lambda: len(finance.received) == SHARE)
        headers = {"Authorization": "Bearer greedy:new"}
        async with world.post(model="legal/vendor", headers=headers) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "1"
            error = (await response.json())["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "too_many_requests")
        assert await ask(world, "legal/vendor", who="modest") == 200
        # Places come back with whoever leaves.
        flood[0].cancel()
        await until(lambda: world.gateway.api.open_requests == SHARE - 1)
        assert await ask(world, "legal/vendor", who="greedy:new") == 200
        for one in flood:
            one.cancel()


async def test_answers_and_events_without_end_take_their_callers_room_only() -> None:
    async def endless(_pod: Pod, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream" if body.get("stream") else "application/json"})
        await response.prepare(http)
        while True:
            await response.write(b" " * 100_000)

    settings: dict[str, Any] = {"max_body_bytes": 65536, "max_buffered_body_bytes": 4_000_000}
    async with (
        Pod("a", models={MODEL}, answer=endless) as finance,
        Pod("b", models={MODEL.replace("finance", "legal")}) as legal,
        two_tenants(finance=finance, legal=legal, **settings) as world,
    ):
        assert await ask(world, "finance/vendor", who="greedy") == 429
        headers = {"Authorization": "Bearer greedy"}
        async with world.post(model="finance/vendor", stream=True, headers=headers) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert world.figure("buffered_body_bytes") == 0
        assert await ask(world, "legal/vendor", who="modest") == 200


async def test_request_has_its_place_until_its_client_has_the_answer() -> None:
    async def long(_pod: Pod, _http: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=b" " * 20_000_000, content_type="application/json")

    async with Pod("a", models={MODEL}, answer=long) as pod, running(pod) as world:
        async with connected(world.url, receive_buffer=1024) as client:
            await client.send(request())
            assert (await client.reader.read(12)) == b"HTTP/1.1 200"
            assert world.gateway.api.open_requests == 1
            assert world.figure("buffered_body_bytes") > 19_000_000
        await until(lambda: not world.gateway.api.open_requests)
        assert world.figure("buffered_body_bytes") == 0


def test_nothing_is_kept_of_who_is_gone() -> None:
    places = Places(total=10, per_tenant=5, max_bytes=400)
    for number in range(100):
        place = places.enter()
        place.of_caller(f"caller-{number}")
        place.of_namespace(f"namespace-{number}")
        place.grow(100)
        place.leave()
    assert (places.open, places.bytes) == (0, 0)
    assert not places._requests
    assert not places._bytes


def test_refused_place_takes_nothing() -> None:
    places = Places(total=10, per_tenant=1, max_bytes=400)
    first, second = places.enter(), places.enter()
    first.of_caller("a")
    with pytest.raises(TooManyRequestsError):
        second.of_caller("a")
    with pytest.raises(TooManyRequestsError):
        first.grow(101)
    second.leave()
    assert (places.open, places.bytes) == (1, 0)
    first.leave()
    places.enter().of_caller("a")


def test_callers_of_one_name_as_a_namespace_are_not_taken_for_it() -> None:
    places = Places(total=10, per_tenant=1, max_bytes=400)
    places.enter().of_caller("finance")
    places.enter().of_namespace("finance")


def test_hold_gives_its_places_back() -> None:
    hold = Hold(total=2, per_namespace=1, per_task=1)
    for _ in range(3):
        with hold.place(("finance", "a")), hold.place(("legal", "a")):
            assert hold.count == 2
    assert not hold._held
    assert not hold._of_namespace
