"""Copies from pod to pod: real agents, a real registry that goes away, and the simulator as the engine."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from taskfleet.api.agent import NOT_HERE_STATUS, AdapterPhase, DesiredAdapter
from tests.engine.adapter_files import write_adapter
from tests.engine.agent_pod import WAIT, Pod, running_pod
from tests.engine.running import TINY_MODEL, free_port
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import running_registry

PROVEN = AdapterPhase.PROVEN

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pod]:
    """For all tests that leave it, its store and its registry as they found them."""
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        async with running_pod(tmp_path_factory.mktemp("first"), registry, TINY_MODEL / "base") as pod:
            yield pod


@pytest_asyncio.fixture(loop_scope="module")
async def vendor(pod: Pod, tmp_path: Path) -> DesiredAdapter:
    return await proven(pod, tmp_path)


async def proven(pod: Pod, folder: Path) -> DesiredAdapter:
    """The adapter of the task `vendor`, the only one, from the registry."""
    adapter = pod.adapter(write_adapter(folder / "vendor"), "vendor")
    await pod.want(adapter)
    await pod.reach({"vendor-v1": PROVEN})
    pod.mount()
    return adapter


def sibling(folder: Path, pod: Pod, *, engine: bool = True, **settings: Any) -> AbstractAsyncContextManager[Pod]:
    """Another pod of the same pool: the same document, an empty store, and `pod` as the one that DNS names."""
    same = {"base_digest": pod.base_digest, "adapters": list(pod.adapters), "generation": pod.generation, "peers": (pod.address,)}
    return running_pod(folder, pod.registry, None, engine=engine, **{**same, **settings})


def files(pod: Pod, shelf: str) -> dict[str, bytes]:
    """What is in the store, by path."""
    found = (path for path in (pod.path("store") / shelf).rglob("*") if path.is_file())
    return {str(path.relative_to(pod.path("store"))): path.read_bytes() for path in found}


async def figure(pod: Pod, line: str) -> float:
    async with pod.session.get(pod.url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next((float(found.rsplit(" ", 1)[1]) for found in lines if found.startswith(line)), 0.0)


async def staged_like(pod: Pod, other: Pod) -> None:
    async def same() -> bool:
        return pod.staged() == other.staged()

    await until(same, limit=WAIT)


async def answer(pod: Pod, adapter: DesiredAdapter) -> str:
    code, body = await pod.ask(adapter.engine_name)
    assert code == 200, body
    return str(body["choices"][0]["text"])


@contextmanager
def gone_from_registry(pod: Pod, adapter: DesiredAdapter, folder: Path) -> Iterator[None]:
    """The artifact's manifest is not there any more, for whoever asks by digest."""
    blob = pod.registry.blob(adapter.adapter.digest or "").parent
    shutil.move(blob, folder / "hidden")
    try:
        yield
    finally:
        shutil.move(folder / "hidden", blob)


async def test_pod_that_finds_no_copy_anywhere_says_so_tries_again_and_heals(pod: Pod, vendor: DesiredAdapter, tmp_path: Path) -> None:
    date = pod.adapter(write_adapter(tmp_path / "date", seed=2), "date")
    away = pod.adapter_at("total", "v1", date.adapter.digest or "", host="127.0.0.1:1")

    async def told(**reasons: str) -> bool:
        found = {report.revision: report.reason for report in (await pod.state()).adapters}
        return all(found[f"{task}-v1"] == reason for task, reason in reasons.items())

    with gone_from_registry(pod, date, tmp_path):
        await pod.want(vendor, date)
        await until(lambda: told(date="ArtifactNotFound"), limit=WAIT)
        await pod.want(vendor, away)
        await until(lambda: told(total="SourceUnavailable"), limit=WAIT)
        assert await pod.ready(), "its neighbour is served"
        assert await answer(pod, vendor)
        await pod.want(vendor, date)
        await until(lambda: told(date="ArtifactNotFound"), limit=WAIT)
    await pod.reach({"vendor-v1": PROVEN, "date-v1": PROVEN})


async def test_copy_that_was_tampered_with_is_not_taken(pod: Pod, vendor: DesiredAdapter, tmp_path: Path) -> None:
    (weights,) = (pod.path("store") / "adapters").glob("*/adapter_model.safetensors")
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        async with sibling(tmp_path / "second", pod, engine=False) as second:
            await staged_like(second, pod)
            assert [content for name, content in files(second, "adapters").items() if name.endswith(weights.name)] == [good]
            assert "are not those of" in second.log()
            assert await figure(second, 'taskfleet_agent_copies_total{result="copied"}') == 1, "the base: peers are asked first"
    finally:
        weights.write_bytes(good)


async def test_pods_go_on_and_start_from_one_another_when_the_registry_is_gone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(tmp_path / "registry"))
        async with running_pod(tmp_path / "first", registry, TINY_MODEL / "base") as first:
            vendor = await proven(first, tmp_path)
            before = await answer(first, vendor)
            stack.close()
            await restarted(first)
            assert await answer(first, vendor) == before
            assert await figure(first, "taskfleet_agent_copies_total") == 0, "what is there is asked of nobody"
            port = free_port()
            others = (first.address, f"127.0.0.1:{port}")
            async with sibling(tmp_path / "second", first, peers=others, linger_seconds=600.0, drain_seconds=600.0) as second:
                await second.reach({"vendor-v1": PROVEN})
                assert await answer(second, vendor) == before
                for shelf in ("base", "adapters", "manifests"):
                    assert files(second, shelf) == files(first, shelf), shelf
                first.stop()
                await gives_the_last_copy_before_it_ends(second, vendor, tmp_path, port)


async def restarted(pod: Pod) -> None:
    """Agent and engine are killed at once, as on a node that fails; the volumes stay."""
    assert pod.agent is not None
    assert pod.engine is not None
    pod.agent.kill()
    pod.engine.process.kill()
    await asyncio.to_thread(pod.agent.wait, WAIT)
    await asyncio.to_thread(pod.engine.stop)
    pod.start_agent()
    await until(pod.up, limit=WAIT)
    await pod.start_engine()
    await until(pod.ready, limit=WAIT)
    await pod.reach({"vendor-v1": PROVEN})


async def gives_the_last_copy_before_it_ends(pod: Pod, adapter: DesiredAdapter, folder: Path, port: int) -> None:
    """It has never seen the registry: what was copied can be copied again."""
    (pod.path("run") / "drain").touch()

    async def draining() -> bool:
        return (await pod.state()).draining

    await until(draining, limit=WAIT)
    assert (await pod.ask(adapter.engine_name))[0] == NOT_HERE_STATUS, "it lets no request in meanwhile"
    assert pod.agent is not None
    pod.agent.terminate()
    async with sibling(folder / "third", pod, engine=False, port=port) as third:
        await staged_like(third, pod)
        assert files(third, "adapters") == files(pod, "adapters")
        # Another pod has everything now: it needn't stay any longer.
        assert await asyncio.to_thread(pod.agent.wait, WAIT) == 0
