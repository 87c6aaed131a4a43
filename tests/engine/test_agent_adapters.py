"""Adapters in and out of a pod: a real agent, a real registry, and the simulator as the engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from taskfleet.api.agent import NOT_HERE, AdapterPhase
from tests.engine.adapter_files import BROKEN, write_adapter
from tests.engine.agent_pod import WAIT, Pod, running_pod
from tests.engine.running import BASE_NAME, TINY_MODEL
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess

PROVEN, FAILED = AdapterPhase.PROVEN, AdapterPhase.FAILED


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory, registry: RegistryProcess) -> AsyncIterator[Pod]:
    """One pod for all tests that leave it as they found it: starting one takes seconds."""
    async with running_pod(tmp_path_factory.mktemp("pod"), registry, TINY_MODEL / "base") as pod:
        yield pod


async def test_wanted_adapter_is_proven_and_answers_with_its_own_bytes(pod: Pod, tmp_path: Path) -> None:
    one = pod.adapter(write_adapter(tmp_path / "one", seed=1), "vendor")
    two = pod.adapter(write_adapter(tmp_path / "two", seed=2), "date")
    await pod.want(one, two)
    await pod.reach({"vendor-v1": PROVEN, "date-v1": PROVEN})
    first, second = await pod.ask(one.engine_name), await pod.ask(two.engine_name)
    assert (first[0], second[0]) == (200, 200)
    assert first[1]["model"] == one.engine_name
    assert "adapter " in first[1]["choices"][0]["text"]
    assert first[1]["choices"][0]["text"] != second[1]["choices"][0]["text"]


async def test_pod_tells_once_when_it_came_up(pod: Pod) -> None:
    start = (await pod.state()).start
    assert start is not None
    assert start.agent_at < start.base_at < start.engine_at <= start.adapters_at <= datetime.now(UTC)
    assert (await pod.state()).start == start, "what comes and goes later is no start"


async def test_adapter_that_is_not_proven_here_is_refused_as_not_here(pod: Pod) -> None:
    status, body = await pod.ask("finance.vendor.00000000000000000000000000000000")
    assert (status, body["error"]["code"]) == (421, NOT_HERE)
    # The base under its own name is no way around: no member of this pool is served by it.
    status, body = await pod.ask(BASE_NAME)
    assert (status, body["error"]["code"]) == (421, NOT_HERE)


async def test_broken_adapters_are_refused_before_the_engine_and_their_neighbour_answers(pod: Pod, tmp_path: Path) -> None:
    bad = []
    for kind, write in BROKEN.items():
        write(tmp_path / kind)
        bad.append(pod.adapter(tmp_path / kind, kind))
    good = pod.adapter(write_adapter(tmp_path / "good"), "good")
    await pod.want(*bad, good)
    state = await pod.reach({**{f"{kind}-v1": FAILED for kind in BROKEN}, "good-v1": PROVEN})
    assert {report.reason for report in state.adapters if report.phase is FAILED} == {"ArtifactInvalid"}
    assert await pod.listed() == {BASE_NAME, good.engine_name}
    assert pod.staged() == {good.adapter.digest}
    assert await pod.ready()
    assert (await pod.ask(good.engine_name))[0] == 200
    assert {(await pod.ask(adapter.engine_name))[0] for adapter in bad} == {421}


async def test_starting_pod_becomes_ready_in_spite_of_a_broken_adapter(tmp_path: Path, registry: RegistryProcess) -> None:
    async with running_pod(tmp_path / "pod", registry, TINY_MODEL / "base", engine=False) as pod:
        BROKEN["garbage"](tmp_path / "bad")
        bad, good = pod.adapter(tmp_path / "bad", "bad"), pod.adapter(write_adapter(tmp_path / "good"), "good")
        missing = pod.adapter_at("missing", "v1", "sha256:" + "1" * 64)
        await pod.want(bad, good, missing)
        await pod.start_engine()
        await until(pod.ready, limit=WAIT)
        state = await pod.reach({"bad-v1": FAILED, "good-v1": PROVEN, "missing-v1": AdapterPhase.STAGING})
        assert {report.revision: report.reason for report in state.adapters}["missing-v1"] == "ArtifactNotFound"


async def test_adapter_that_is_no_longer_wanted_finishes_leaves_the_engine_and_loses_its_files_last(pod: Pod, tmp_path: Path) -> None:
    old = pod.adapter(write_adapter(tmp_path / "old", seed=1), "total", "v1")
    new = pod.adapter(write_adapter(tmp_path / "new", seed=2), "total", "v2")
    await pod.want(old)
    await pod.reach({"total-v1": PROVEN})
    slow = asyncio.create_task(pod.ask(old.engine_name, sim={"token_ms": 300}))
    await until(lambda: _in_flight(pod, 1), limit=WAIT)
    await pod.want(new)
    assert (await pod.ask(old.engine_name))[0] == 421
    draining = await pod.reach({"total-v1": AdapterPhase.DRAINING, "total-v2": PROVEN})
    assert draining.in_flight == 1
    assert old.engine_name in await pod.listed()
    assert old.adapter.digest in pod.staged()
    status, body = await slow
    assert status == 200
    assert "adapter " in body["choices"][0]["text"]
    await pod.reach({"total-v2": PROVEN})
    assert await pod.listed() == {BASE_NAME, new.engine_name}
    assert pod.staged() == {new.adapter.digest}


async def _in_flight(pod: Pod, count: int) -> bool:
    return (await pod.state()).in_flight == count


async def test_files_stay_while_another_task_serves_the_same_bytes(pod: Pod, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "shared")
    one, two = pod.adapter(folder, "one"), pod.adapter(folder, "two")
    assert one.adapter.digest == two.adapter.digest
    await pod.want(one, two)
    await pod.reach({"one-v1": PROVEN, "two-v1": PROVEN})
    await pod.want(two)
    await pod.reach({"two-v1": PROVEN})
    assert pod.staged() == {two.adapter.digest}
    assert (await pod.ask(two.engine_name))[0] == 200


async def test_adapter_that_vanishes_inside_the_engine_is_noticed_and_brought_back(pod: Pod, tmp_path: Path) -> None:
    adapter = pod.adapter(write_adapter(tmp_path / "one"), "vendor")
    await pod.want(adapter)
    before = await pod.reach({"vendor-v1": PROVEN})
    await pod.fault(forget=[adapter.engine_name])
    # Nobody asks for it: the agent has to look by itself.
    after = await pod.state(f"?after={before.version}&wait=30")
    assert after.version > before.version
    await pod.reach({"vendor-v1": PROVEN})
    assert adapter.engine_name in await pod.listed()


async def test_request_that_meets_a_vanished_adapter_is_told_not_here_and_never_404(pod: Pod, tmp_path: Path) -> None:
    adapter = pod.adapter(write_adapter(tmp_path / "one"), "vendor")
    await pod.want(adapter)
    await pod.reach({"vendor-v1": PROVEN})
    await pod.fault(forget=[adapter.engine_name])
    statuses = set()

    async def back() -> bool:
        status, _ = await pod.ask(adapter.engine_name)
        statuses.add(status)
        return status == 200 and 421 in statuses

    await until(back, limit=WAIT)
    assert statuses == {200, 421}


async def test_restarted_engine_gets_its_adapters_back_before_the_pod_is_ready_again(pod: Pod, tmp_path: Path) -> None:
    adapters = [pod.adapter(write_adapter(tmp_path / str(seed), seed=seed), f"task-{seed}") for seed in range(3)]
    await pod.want(*adapters)
    await pod.reach({f"task-{seed}-v1": PROVEN for seed in range(3)})
    assert pod.engine is not None
    starts = (await pod.state()).engine.starts
    pod.engine.stop()

    async def unready() -> bool:
        return not await pod.ready()

    await until(unready, limit=WAIT)
    assert (await pod.ask(adapters[0].engine_name))[0] in {421, 503}
    await pod.start_engine()
    await until(pod.ready, limit=WAIT)
    # Ready says that all had their attempt in this run of the engine.
    assert set((await pod.phases()).values()) == {PROVEN}
    assert (await pod.state()).engine.starts == starts + 1
    for adapter in adapters:
        assert (await pod.ask(adapter.engine_name))[0] == 200


async def test_load_whose_reply_is_lost_is_settled_by_looking(pod: Pod, tmp_path: Path) -> None:
    adapter = pod.adapter(write_adapter(tmp_path / "one"), "vendor")
    await pod.fault(lose_load_replies=1)
    await pod.want(adapter)
    await pod.reach({"vendor-v1": PROVEN})
    assert await pod.listed() == {BASE_NAME, adapter.engine_name}


async def test_restarted_agent_keeps_what_it_had_accepted_and_clears_what_is_not_wanted(pod: Pod, tmp_path: Path) -> None:
    kept = pod.adapter(write_adapter(tmp_path / "kept", seed=1), "kept")
    gone = pod.adapter(write_adapter(tmp_path / "gone", seed=2), "gone")
    await pod.want(kept, gone)
    before = await pod.reach({"kept-v1": PROVEN, "gone-v1": PROVEN})
    assert pod.agent is not None
    pod.agent.kill()
    pod.agent.wait(30)
    # What the ConfigMap says by now; the mounted one of the first start has no adapters at all and is older than what was PUT.
    pod.adapters, pod.generation = [kept], pod.generation + 1
    pod.mount()
    leftover = pod.path("store") / "adapters" / f"sha256-{'2' * 64}"
    leftover.mkdir()
    pod.start_agent()
    await until(pod.ready, limit=WAIT)
    after = await pod.reach({"kept-v1": PROVEN})
    # Whoever polls for news after the last version that it saw is not left waiting.
    assert after.version > before.version

    async def tidy() -> bool:
        return await pod.listed() == {BASE_NAME, kept.engine_name} and pod.staged() == {kept.adapter.digest}

    await until(tidy, limit=WAIT)


async def test_older_mounted_document_never_undoes_a_newer_put(pod: Pod, tmp_path: Path) -> None:
    adapter = pod.adapter(write_adapter(tmp_path / "one"), "vendor")
    await pod.want(adapter)
    await pod.reach({"vendor-v1": PROVEN})
    generation = pod.generation
    assert pod.agent is not None
    pod.agent.kill()
    pod.agent.wait(30)
    pod.start_agent()
    await until(pod.ready, limit=WAIT)
    state = await pod.reach({"vendor-v1": PROVEN})
    assert state.generation == generation


async def test_mounted_document_alone_is_enough(pod: Pod, tmp_path: Path) -> None:
    pod.adapters = [pod.adapter(write_adapter(tmp_path / "one"), "vendor")]
    pod.generation += 1
    pod.mount()
    await pod.reach({"vendor-v1": PROVEN})


async def test_base_answers_only_where_a_member_is_served_by_it(pod: Pod) -> None:
    pod.serve_base = True
    await pod.want()
    pod.serve_base = False

    async def answered() -> bool:
        return (await pod.ask(BASE_NAME))[0] == 200

    await until(answered, limit=WAIT)


async def test_base_that_is_not_data_never_lets_the_engine_start(tmp_path: Path, registry: RegistryProcess) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in (TINY_MODEL / "base").iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    async with running_pod(tmp_path / "pod", registry, base, engine=False) as pod:
        await until(lambda: _base_refused(pod), limit=WAIT)
        assert not (pod.path("run") / "base-ready").exists()
        assert not list((pod.path("store") / "base").glob("sha256-*"))
        assert not await pod.ready()


async def _base_refused(pod: Pod) -> bool:
    report = (await pod.state()).base
    return not report.staged and report.reason == "ArtifactInvalid" and "auto_map" in report.message
