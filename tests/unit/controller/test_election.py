"""One leader at a time; the next one takes over soon, and never too soon."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from taskfleet.controller.election import Election
from taskfleet.kube.errors import UnavailableError
from taskfleet.kube.resources import LEASES, Resource
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json
from tests.unit.controller.waiting import until


def replica(server: MemoryApiServer, identity: str, *, lease_seconds: float = 1.0) -> Election:
    return Election(
        server, namespace="system", name="taskfleet-operator", identity=identity, lease_seconds=lease_seconds, renew_seconds=0.05
    )


async def holder(server: MemoryApiServer) -> str:
    lease = await server.get(LEASES, "taskfleet-operator", "system")
    return str(lease["spec"]["holderIdentity"]) if lease else ""


@contextlib.asynccontextmanager
async def standing_by(election: Election) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(election.acquire())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_one_leads_and_the_second_waits() -> None:
    server = MemoryApiServer()
    first, second = replica(server, "one"), replica(server, "two")
    await first.acquire()
    async with standing_by(second) as waiting:
        holding = asyncio.create_task(first.hold())
        await asyncio.sleep(1.3)
        assert first.leading
        assert not second.leading
        assert not waiting.done()
        holding.cancel()
    assert await holder(server) == "one"


async def test_a_released_lease_is_taken_at_once() -> None:
    server = MemoryApiServer()
    first, second = replica(server, "one", lease_seconds=3600), replica(server, "two", lease_seconds=3600)
    await first.acquire()
    async with standing_by(second) as waiting:
        await asyncio.sleep(0.1)
        await first.release()
        await asyncio.wait_for(waiting, 10)
    assert await holder(server) == "two"
    assert not first.leading


async def test_a_leader_that_fell_silent_is_followed_when_its_lease_ran_out() -> None:
    server = MemoryApiServer()
    first, second = replica(server, "one"), replica(server, "two")
    await first.acquire()
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(second.acquire(), 20)
    assert asyncio.get_running_loop().time() - began >= 0.95
    assert await holder(server) == "two"
    lease = await server.get(LEASES, "taskfleet-operator", "system")
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_cant_renew_stops_before_anybody_may_follow() -> None:
    server = MemoryApiServer()
    first = replica(server, "one")
    await first.acquire()
    server.refuse = UnavailableError("away")
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(first.hold(), 20)
    assert not first.leading
    assert asyncio.get_running_loop().time() - began < 1.0
    server.refuse = None
    await first.release()
    assert await holder(server) == "one", "what is lost is not given back: it may be somebody else's by now"


async def test_one_answer_that_never_comes_costs_no_lease() -> None:
    class _Hanging(MemoryApiServer):
        hang = False

        async def replace(self, resource: Resource, new: Json) -> Json:
            found = await super().replace(resource, new)
            if self.hang:
                self.hang = False
                await asyncio.Event().wait()
            return found

    server = _Hanging()
    first = replica(server, "one")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    server.hang = True
    written = len(server.writes)
    await until(lambda: len(server.writes) >= written + 6)
    assert first.leading
    holding.cancel()


async def test_a_leader_that_was_replaced_notices_at_its_next_renewal() -> None:
    server = MemoryApiServer()
    first = replica(server, "one")
    await first.acquire()
    lease = await server.get(LEASES, "taskfleet-operator", "system")
    assert lease is not None
    await server.replace(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "two"}})
    await asyncio.wait_for(first.hold(), 20)
    assert not first.leading


async def test_a_label_on_the_lease_is_no_reason_to_step_down() -> None:
    server = MemoryApiServer()
    first = replica(server, "one", lease_seconds=3600)
    await first.acquire()
    lease = await server.get(LEASES, "taskfleet-operator", "system")
    assert lease is not None
    await server.replace(LEASES, {**lease, "metadata": {**lease["metadata"], "labels": {"seen": "by-somebody"}}})
    holding = asyncio.create_task(first.hold())
    written = len(server.writes)
    await until(lambda: len(server.writes) >= written + 4)
    assert first.leading
    holding.cancel()
    lease = await server.get(LEASES, "taskfleet-operator", "system")
    assert lease is not None
    assert lease["metadata"]["labels"] == {"seen": "by-somebody"}


async def test_an_outage_while_standing_by_is_waited_out() -> None:
    server = MemoryApiServer()
    server.refuse = UnavailableError("away")
    second = replica(server, "two")
    async with standing_by(second) as waiting:
        await asyncio.sleep(0.2)
        assert not waiting.done()
        server.refuse = None
        await asyncio.wait_for(waiting, 10)
    assert second.leading


@pytest.mark.parametrize("replicas", [2, 5])
async def test_of_many_that_start_at_once_one_leads(replicas: int) -> None:
    server = MemoryApiServer()
    candidates = [replica(server, f"r{number}", lease_seconds=3600) for number in range(replicas)]
    tasks = [asyncio.create_task(candidate.acquire()) for candidate in candidates]
    await until(lambda: any(candidate.leading for candidate in candidates))
    await asyncio.sleep(0.2)
    assert sum(candidate.leading for candidate in candidates) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lease_that_was_won_with_a_lost_answer_is_known_as_its_own() -> None:
    server = MemoryApiServer()
    one = replica(server, "one", lease_seconds=3600)
    create, lost = server.create, UnavailableError("no answer")

    async def create_and_lose(resource: Resource, new: Json) -> Json:
        await create(resource, new)
        raise lost

    server.create = create_and_lose  # type: ignore[method-assign]
    await asyncio.wait_for(one.acquire(), 10)
    assert one.leading


async def test_a_leader_that_stood_still_may_not_write_before_it_has_renewed() -> None:
    now = 100.0
    election = Election(
        MemoryApiServer(),
        namespace="system",
        name="taskfleet-operator",
        identity="one",
        lease_seconds=20,
        renew_seconds=3,
        clock=lambda: now,
    )
    assert not election.may_write()
    await election.acquire()
    assert election.may_write()
    now += 15
    assert election.leading, "nothing has told it yet"
    assert not election.may_write(), "and another one may lead soon"
