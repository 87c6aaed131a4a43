"""Gateway, agent and engine together: right bytes for every name, streams, figures, and nothing lost while pods come, go and change."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from taskfleet.api.agent import DRAIN_PATH, UNDRAIN_PATH, AdapterPhase
from tests.engine.agent_pod import NAMESPACE, UID, running_pod
from tests.engine.gateway_fleet import OTHER_UID, Load, PoolTokens, ask, hold_everywhere, place, route, two_pods, version
from tests.engine.running import TINY_MODEL
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess, running_registry
from tests.unit.gateway.world import World, running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(tokens=PoolTokens(), hold_seconds=60.0) as started:
        yield started


async def test_every_name_is_answered_by_its_own_bytes(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        versions = {task: version(pods[0], tmp_path, task, "v1", seed=seed) for seed, task in enumerate(("vendor", "date", "total"))}
        await hold_everywhere(pods, *versions.values())
        for task, one in versions.items():
            route(world, task, one)
        place(world, *pods)
        tasks = list(versions) * 40
        answers = await asyncio.gather(*(ask(world, f"{NAMESPACE}/{task}") for task in tasks))
        for task, (status, text) in zip(tasks, answers, strict=True):
            assert (status, text.split()[:2]) == (200, ["adapter", versions[task].mark])


async def test_same_names_in_two_namespaces_never_cross_answer(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        pods = []
        for name, uid in (("finance", UID), ("legal", OTHER_UID)):
            (tmp_path / name).mkdir()
            pods.append(await stack.enter_async_context(running_pod(tmp_path / name, registry, TINY_MODEL / "base", uid=uid)))
        finance, legal = pods
        ours = version(finance, tmp_path, "total", "v1", seed=1)
        theirs = version(legal, tmp_path, "total", "v2", seed=2, namespace="legal")
        await hold_everywhere((finance,), ours)
        await hold_everywhere((legal,), theirs)
        route(world, "total", ours)
        route(world, "total", theirs, namespace="legal")
        place(world, finance)
        place(world, legal, namespace="legal", uid=OTHER_UID)
        models = ["finance/total", "legal/total"] * 40
        answers = await asyncio.gather(*(ask(world, model) for model in models))
        for model, (status, text) in zip(models, answers, strict=True):
            expected = ours.mark if model.startswith("finance") else theirs.mark
            assert (status, text.split()[1]) == (200, expected)
        # A name that only the other's pool has is not there, even where its pod stands in the way.
        place(world, legal)
        world.table.remove_slice("legal", "tiny-x")
        status, _ = await asyncio.wait_for(ask(world, "finance/nothing"), 10)
        assert status == 404


async def test_stream_says_the_same_as_the_whole_answer_and_is_counted_alike(
    world: World, registry: RegistryProcess, tmp_path: Path
) -> None:
    async with running_pod(tmp_path, registry, TINY_MODEL / "base") as pod:
        vendor = version(pod, tmp_path, "vendor", "v1", seed=1)
        await hold_everywhere((pod,), vendor)
        route(world, "vendor", vendor)
        place(world, pod)
        labels = {"namespace": NAMESPACE, "task_model": "vendor", "revision": "vendor-v1"}
        status, whole = await ask(world, "finance/vendor")
        assert status == 200
        tokens = [world.figure(f"{kind}_tokens_total", **labels) for kind in ("prompt", "completion")]
        assert min(tokens) > 0
        for asked in (False, True):
            options = {"stream_options": {"include_usage": True}} if asked else {}
            body = {"model": "finance/vendor", "prompt": "from Wonka Ltd", "max_tokens": 32, "stream": True, **options}
            async with world.post(body, path="/v1/completions") as response:
                lines = [line[6:] for line in (await response.text()).splitlines() if line.startswith("data: ")]
            assert lines[-1] == "[DONE]"
            chunks = [json.loads(line) for line in lines[:-1]]
            assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == whole
            assert {chunk["model"] for chunk in chunks} == {"finance/vendor"}
            assert any(chunk.get("usage") for chunk in chunks) is asked
        counted = [world.figure(f"{kind}_tokens_total", **labels) for kind in ("prompt", "completion")]
        assert counted == [3 * count for count in tokens]


async def test_drain_of_a_pod_loses_no_request(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        vendor = version(pods[0], tmp_path, "vendor", "v1", seed=1)
        await hold_everywhere(pods, vendor)
        route(world, "vendor", vendor)
        place(world, *pods)
        load = Load(world, "finance/vendor")
        async with load.running():
            await load.goes_on()
            # As the engine's preStop does it; the route is still there, as it is while the news travels.
            (pods[0].path("run") / "drain").touch()

            async def drained() -> bool:
                return (pods[0].path("run") / "drained").exists()

            await until(drained, limit=60)
            await load.goes_on()
            place(world, pods[1])
            pods[0].stop()
            await load.goes_on()
        assert not load.failures


async def test_request_that_comes_while_the_last_pod_lets_nothing_in_waits_and_is_answered(
    world: World, registry: RegistryProcess, tmp_path: Path
) -> None:
    """A-05: the operator has begun to scale the pool to zero."""
    async with running_pod(tmp_path, registry, TINY_MODEL / "base") as pod:
        vendor = version(pod, tmp_path, "vendor", "v1", seed=1)
        await hold_everywhere((pod,), vendor)
        route(world, "vendor", vendor)
        place(world, pod)
        load = Load(world, "finance/vendor")

        async def accepted() -> bool:
            async with pod.session.post(
                pod.url + DRAIN_PATH, json={"idleSeconds": 0, "holdSeconds": 600}, headers=pod.as_operator()
            ) as answer:
                return answer.status == 200

        async def waits() -> bool:
            return world.figure("held_requests") == 1

        async with load.running(clients=1):
            for _ in range(5):
                await load.goes_on(more=5)
                await until(accepted, limit=60)
                answers = len(load.answers)
                await until(waits, limit=60)
                assert len(load.answers) <= answers + 1, "one may have been on its way back to the client"
                async with pod.session.post(pod.url + UNDRAIN_PATH, headers=pod.as_operator()) as answer:
                    assert answer.status == 200
            await load.goes_on(more=5)
        assert not load.failures


async def test_death_of_an_engine_loses_no_request(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        vendor = version(pods[0], tmp_path, "vendor", "v1", seed=1)
        await hold_everywhere(pods, vendor)
        route(world, "vendor", vendor)
        place(world, *pods)
        load = Load(world, "finance/vendor")
        async with load.running():
            await load.goes_on()
            assert pods[0].engine is not None
            assert pods[0].agent is not None
            pods[0].engine.stop()
            await load.goes_on()
            pods[0].agent.kill()
            await load.goes_on()
        assert not load.failures
        assert {answer.split()[1] for answer in load.answers} == {vendor.mark}


async def test_new_version_takes_over_under_load(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        first, second = (version(pods[0], tmp_path, "vendor", name, seed=seed) for seed, name in enumerate(("v1", "v2")))
        await hold_everywhere(pods, first)
        route(world, "vendor", first)
        place(world, *pods)
        load = Load(world, "finance/vendor")
        async with load.running():
            await load.goes_on()
            await hold_everywhere(pods, first, second)
            route(world, "vendor", second)
            switched = len(load.answers)
            for pod in pods:
                await pod.want(second.desired)
            for pod in pods:
                await pod.reach({"vendor-v2": AdapterPhase.PROVEN})
            await load.goes_on()
        assert not load.failures
        assert {answer.split()[1] for answer in load.answers[:1]} == {first.mark}
        # Four requests were under way at the switch.
        assert {answer.split()[1] for answer in load.answers[switched + 4 :]} == {second.mark}


async def test_adapter_that_an_engine_forgot_is_asked_for_elsewhere(world: World, registry: RegistryProcess, tmp_path: Path) -> None:
    async with two_pods(tmp_path, registry) as pods:
        vendor = version(pods[0], tmp_path, "vendor", "v1", seed=1)
        await hold_everywhere(pods, vendor)
        route(world, "vendor", vendor)
        place(world, *pods)
        load = Load(world, "finance/vendor")
        async with load.running():
            await load.goes_on()
            for pod in pods:
                await pod.fault(forget=[vendor.desired.engine_name])
                await load.goes_on()
        assert not load.failures
        assert {answer.split()[1] for answer in load.answers} == {vendor.mark}
