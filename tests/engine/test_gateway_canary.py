"""A canary through gateway, agent and engine: its share of conversations, mirrored requests, and a rejected version that is silent while the gateway's watch stands still."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from taskfleet.api.agent import AdapterPhase
from taskfleet.api.measurements import RevisionCounts
from tests.engine.agent_pod import NAMESPACE
from tests.engine.gateway_fleet import Load, PoolTokens, Version, ask, hold_everywhere, place, two_pods, version
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess, running_registry
from tests.unit.gateway import builders
from tests.unit.gateway.world import World, running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(tokens=PoolTokens(), hold_seconds=60.0) as started:
        yield started


def split(world: World, stable: Version, candidate: Version, *, weight: int, shadow: int | None = None) -> None:
    """finance/vendor with a candidate beside the stable revision, under supervision."""
    for one, phase in ((stable, "Stable"), (candidate, "Pending")):
        desired = one.desired
        world.table.put_revision(
            builders.revision(desired.revision, of="vendor", namespace=NAMESPACE, owner="u", digest=desired.adapter.digest, phase=phase)
        )
    to = [
        builders.traffic(stable.desired.revision, pool="tiny", weight=100 - weight),
        builders.traffic(candidate.desired.revision, pool="tiny", weight=weight, shadow=shadow),
    ]
    world.table.put_task(builders.task("vendor", namespace=NAMESPACE, uid="u", to=to))
    world.supervise()


def counts(world: World, revision: str) -> RevisionCounts:
    (found,) = [tally.counts() for tally in world.gateway.measurements.tallies() if tally.revision.name == revision]
    return found


async def test_canary_gets_its_share_and_after_its_revocation_nothing(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        stable, candidate = (version(pods[0], tmp_path, "vendor", name, seed=seed) for seed, name in enumerate(("v1", "v2")))
        await hold_everywhere(pods, stable, candidate)
        split(world, stable, candidate, weight=10)
        place(world, *pods)

        async def talk(number: int) -> tuple[int, str]:
            return await ask(world, f"{NAMESPACE}/vendor", prompt=f"conversation {number}")

        answers = [answer for start in range(0, 2000, 50) for answer in await asyncio.gather(*map(talk, range(start, start + 50)))]
        assert {status for status, _ in answers} == {200}
        marks = [text.split()[1] for _, text in answers]
        assert abs(marks.count(candidate.mark) / 2000 - 0.10) <= 0.02
        assert marks.count(stable.mark) + marks.count(candidate.mark) == 2000
        assert counts(world, "vendor-v2").live.requests == marks.count(candidate.mark)
        assert counts(world, "vendor-v2").live.errors == 0

        split(world, stable, candidate, weight=50)
        load = Load(world, f"{NAMESPACE}/vendor")
        async with load.running():
            await load.goes_on()
            # What the operator does on a verdict, and all of it that this gateway gets to see.
            for pod in pods:
                await pod.want(stable.desired)
            for pod in pods:
                await pod.reach({"vendor-v1": AdapterPhase.PROVEN})
            revoked = [await talk(number) for number in range(100)]
            await load.goes_on()
        assert not load.failures
        assert {(status, text.split()[1]) for status, text in revoked} == {(200, stable.mark)}
        assert counts(world, "vendor-v2").live.errors == 0


async def test_mirrored_answers_are_compared_and_cost_nothing(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        stable, candidate = (version(pods[0], tmp_path, "vendor", name, seed=seed) for seed, name in enumerate(("v1", "v2")))
        await hold_everywhere(pods, stable, candidate)
        split(world, stable, candidate, weight=0, shadow=100)
        place(world, *pods)
        for number in range(20):
            status, text = await ask(world, f"{NAMESPACE}/vendor", prompt=f"conversation {number}")
            assert (status, text.split()[1]) == (200, stable.mark)

        async def all_are_counted() -> bool:
            shadow = counts(world, "vendor-v2").shadow
            return shadow is not None and shadow.answers.requests + shadow.skipped == 20

        await until(all_are_counted, limit=30)
        shadow = counts(world, "vendor-v2").shadow
        assert shadow is not None
        # The simulator's answers begin with the adapter's mark, so that no two versions ever agree.
        assert (shadow.answers.errors, shadow.compared, shadow.agreed) == (0, shadow.answers.requests, 0)
        assert shadow.compared > 0
        labels = {"namespace": NAMESPACE, "task_model": "vendor", "revision": "vendor-v2"}
        assert world.figure("completion_tokens_total", **labels) == 0
        assert counts(world, "vendor-v2").live.requests == 0
