"""Pods that start are asked by the gateway itself, while requests wait for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.routes import RouteTable
from tests.unit.gateway.builders import at, pool
from tests.unit.gateway.pods import Pod, break_off, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, running, serve

POOL = ("finance", "tiny-pool")


@asynccontextmanager
async def waking(*pods: Pod) -> AsyncIterator[World]:
    """A gateway whose cluster tells that these pods are not Ready."""
    async with running() as world:
        serve(world.table)
        world.table.put_slice(at(starting=[pod.address for pod in pods]))
        yield world


async def ask(world: World) -> tuple[int, str]:
    async with world.post() as response:
        await response.read()
        return response.status, response.headers.get("x-taskfleet-held-reason", "")


async def test_request_is_answered_before_the_cluster_says_that_the_pod_is_ready() -> None:
    async with Pod("a", models={MODEL}, ready=asyncio.Event()) as pod, waking(pod) as world:
        asked = [asyncio.create_task(ask(world)) for _ in range(20)]
        await until(lambda: pod.probes == 1)
        assert not pod.received
        assert pod.ready is not None
        pod.ready.set()
        assert await asyncio.wait_for(asyncio.gather(*asked), 20) == [(200, "cold-start")] * 20
        # One question for all of them, and none once nobody waits.
        assert pod.probes == 1
        assert await ask(world) == (200, "")


async def test_pod_that_says_no_is_asked_again_while_somebody_waits() -> None:
    async with Pod("a", models={MODEL}) as pod, waking(pod) as world:
        asked = asyncio.create_task(ask(world))
        await until(lambda: pod.probes >= 3)
        pod.ready = asyncio.Event()
        pod.ready.set()
        assert await asyncio.wait_for(asked, 20) == (200, "cold-start")


async def test_nobody_is_asked_while_nobody_waits() -> None:
    async with Pod("a", models={MODEL}) as pod, waking(pod) as world:
        asked = asyncio.create_task(ask(world))
        await until(lambda: pod.probes >= 1)
        asked.cancel()
        # The gateway sees that its client is gone: no test can wait for a question that never comes, so let those under way end.
        await until(lambda: world.figure("held_requests") == 0)
        await asyncio.sleep(0.5)
        before = pod.probes
        await asyncio.sleep(0.7)
        assert pod.probes == before


async def test_one_pod_that_is_out_of_reach_keeps_no_other_from_being_asked() -> None:
    async with (
        Pod("a", models={MODEL}, ready=asyncio.Event()) as silent,
        Pod("b", models={MODEL}, ready=asyncio.Event()) as pod,
        waking(silent) as world,
    ):
        asked = asyncio.create_task(ask(world))
        await until(lambda: silent.probes == 1)
        world.table.put_slice(at(starting=[silent.address, pod.address]))
        assert pod.ready is not None
        pod.ready.set()
        assert await asyncio.wait_for(asked, 20) == (200, "cold-start")
        assert (len(silent.received), len(pod.received)) == (0, 1)


@pytest.mark.parametrize("answer", [refusing(503), break_off], ids=["refuses", "breaks off"])
async def test_word_of_a_pod_that_then_takes_nothing_is_forgotten(answer: object) -> None:
    async with Pod("a", models={MODEL}, ready=asyncio.Event(), answer=answer) as pod, waking(pod) as world:  # type: ignore[arg-type]
        assert pod.ready is not None
        pod.ready.set()
        asked = asyncio.create_task(ask(world))
        await until(lambda: bool(pod.received))
        pod.ready.clear()
        await until(lambda: world.table.endpoints(*POOL) == ())
        asked.cancel()


async def test_what_the_cluster_tells_takes_the_words_place() -> None:
    table = RouteTable()
    table.put_pool(pool())
    table.put_slice(at(starting=["a:1", "b:1"]))
    a, b = (Endpoint(address, "uid-tiny-pool") for address in ("a:1", "b:1"))
    table.answers(*POOL, a)
    assert (table.endpoints(*POOL), table.starting(*POOL)) == ((a,), (a, b))
    table.put_slice(at("a:1", starting=["b:1"]))
    assert (table.endpoints(*POOL), table.starting(*POOL)) == ((a,), (b,))
    # It was Ready by the cluster's word since, which counts alone.
    table.put_slice(at(starting=["a:1", "b:1"]))
    assert table.endpoints(*POOL) == ()


async def test_word_of_a_pod_that_the_cluster_does_not_know_counts_for_nothing() -> None:
    table = RouteTable()
    table.put_pool(pool())
    table.put_slice(at("a:1"))
    table.answers(*POOL, Endpoint("b:1", "uid-tiny-pool"))
    assert table.endpoints(*POOL) == (Endpoint("a:1", "uid-tiny-pool"),)
    # A slice that claims a pool that isn't there has no pods at all.
    table.remove_pool(*POOL)
    table.put_slice(at(starting=["a:1"]))
    assert table.starting(*POOL) == ()
