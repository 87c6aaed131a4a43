"""More adapters than the engine may have loaded: who is cold, and what a request for a cold one meets."""

import asyncio
import hashlib
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskfleet.agent.pace import Pace
from taskfleet.api.agent import AdapterPhase
from taskfleet.engines.base import LoadedModel
from taskfleet.engines.errors import AdapterInvalidError, EngineBusyError, OutcomeUnknownError
from tests.unit.agent.agent_inside import PACE, Stage, running_stage, within
from tests.unit.agent.builders import adapter, document
from tests.unit.agent.scripted_engine import ScriptedEngine

A, B, C, D = NAMES = ("finance.a.1", "finance.b.2", "finance.c.3", "finance.d.4")


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    pace: Pace = getattr(request, "param", PACE)
    async with running_stage(tmp_path, pace) as stage:
        yield stage


def digest(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def want(stage: Stage, *names: str, limit: int | None) -> None:
    stage.generation += 1
    adapters = tuple(adapter(name, digest(name)) for name in names)
    stage.residents.follow(document(stage.generation).model_copy(update={"max_resident": limit, "adapters": adapters}))


async def rests(stage: Stage, *names: str) -> None:
    """Waits until all have been proven, and exactly these are loaded: in the agent's eyes and in the engine."""
    await within(
        lambda: stage.residents.settled() and stage.engine.loaded.keys() == stage.board.loaded == set(names),
        lambda: f"engine {stage.engine.loaded}, agent {stage.board.loaded}, {stage.board.adapters}",
    )


async def settled(stage: Stage, count: int) -> set[str]:
    """Waits until all have been proven, and so many are loaded; returns them."""
    await within(
        lambda: stage.residents.settled() and len(stage.engine.loaded) == count and stage.engine.loaded.keys() == stage.board.loaded,
        lambda: f"engine {stage.engine.loaded}, agent {stage.board.loaded}, {stage.board.adapters}",
    )
    return set(stage.engine.loaded)


async def ask(stage: Stage, name: str, *, done: asyncio.Event | None = None) -> bool:
    """As the proxy lets a request through. False: it was refused, and may go elsewhere."""
    if not stage.residents.serves(name):
        return False
    with stage.residents.flight(name):
        if not await stage.residents.at_hand(name):
            return False
        assert name in stage.engine.loaded, "the engine gets no request for what it does not have"
        if done is not None:
            await done.wait()
            assert name in stage.engine.loaded, "what is in flight keeps its adapter"
        return True


async def cold_one(stage: Stage) -> str:
    """Two of three have a place, and A is one of them, the last used; returns the one without."""
    want(stage, A, B, C, limit=2)
    await settled(stage, 2)
    assert await ask(stage, A)
    return next(iter({A, B, C} - await settled(stage, 2)))


def waited(stage: Stage) -> int:
    """Requests that were counted as waiting for a load."""
    line = next(
        line for line in stage.metrics.text().decode().splitlines() if line.startswith("taskfleet_agent_adapter_demand_wait_seconds_count")
    )
    return int(float(line.split()[1]))


async def test_all_are_proven_once_and_those_beyond_the_limit_rest_with_their_files(stage: Stage) -> None:
    want(stage, *NAMES, limit=2)
    await settled(stage, 2)
    assert {report.phase for report in stage.board.adapters} == {AdapterPhase.PROVEN}
    assert all(stage.residents.serves(name) for name in NAMES)
    assert stage.engine.asked.count("probe") == len(NAMES)
    assert set(stage.staged()) == {digest(name) for name in NAMES}
    assert [report.cold for report in stage.board.state().adapters].count(True) == 2


async def test_without_a_limit_all_stay_loaded(stage: Stage) -> None:
    want(stage, *NAMES, limit=None)
    await rests(stage, *NAMES)
    assert "unload" not in stage.engine.asked


async def test_requests_for_a_cold_adapter_wait_for_one_load_and_the_least_recently_used_makes_room(stage: Stage) -> None:
    cold = await cold_one(stage)
    before = stage.engine.asked.count("load"), stage.engine.asked.count("probe"), waited(stage)
    assert all(await asyncio.gather(*(ask(stage, cold) for _ in range(5))))
    assert (stage.engine.asked.count("load"), stage.engine.asked.count("probe")) == (before[0] + 1, before[1])
    assert waited(stage) == before[2] + 5
    await rests(stage, A, cold)
    assert await ask(stage, cold)
    assert waited(stage) == before[2] + 5, "whoever finds it loaded waits for nothing"


async def test_request_that_comes_while_its_adapter_is_being_unloaded_waits_and_gets_it_back(stage: Stage) -> None:
    cold = await cold_one(stage)
    (victim,) = {B, C} - {cold}
    stage.engine.hold["unload"] = asyncio.Event()
    unloads = stage.engine.asked.count("unload")
    assert await ask(stage, cold)
    await within(lambda: stage.engine.asked.count("unload") > unloads, lambda: str(stage.engine.asked))
    request = asyncio.create_task(ask(stage, victim))
    await asyncio.sleep(0.05)
    assert not request.done(), "the engine is about to lose it"
    stage.engine.hold.pop("unload").set()
    assert await request
    await rests(stage, victim, cold)


async def test_busy_adapters_are_not_pushed_out_and_the_limit_gives_way_until_they_are_done(stage: Stage) -> None:
    want(stage, *NAMES, limit=2)
    await settled(stage, 2)
    done = asyncio.Event()
    requests = [asyncio.create_task(ask(stage, name, done=done)) for name in NAMES]
    await rests(stage, *NAMES)
    done.set()
    assert all(await asyncio.gather(*requests))
    await settled(stage, 2)


async def test_lower_limit_takes_effect_on_what_is_loaded(stage: Stage) -> None:
    want(stage, A, B, C, limit=3)
    await settled(stage, 3)
    assert await ask(stage, B)
    want(stage, A, B, C, limit=1)
    await rests(stage, B)


async def test_load_that_fails_sends_its_requests_elsewhere_and_the_adapter_is_proven_anew(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.script["load"] = [EngineBusyError("later")]
    stage.engine.hold["probe"] = asyncio.Event()
    assert await asyncio.gather(*(ask(stage, cold) for _ in range(3))) == [False] * 3
    assert not stage.residents.serves(cold)
    stage.engine.hold.pop("probe").set()
    await stage.reach(AdapterPhase.PROVEN, cold)
    assert await ask(stage, cold)


async def test_refused_load_is_for_good_only_when_it_is_refused_again(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.script["load"] = [AdapterInvalidError("500"), AdapterInvalidError("500")]
    assert not await ask(stage, cold)
    await stage.reach(AdapterPhase.FAILED, cold)
    assert await ask(stage, A)


async def test_lost_reply_of_a_load_on_demand_is_settled_by_looking(stage: Stage) -> None:
    cold = await cold_one(stage)
    loads = stage.engine.asked.count("load")
    stage.engine.script["load"] = [OutcomeUnknownError("no reply in time")]
    assert not await ask(stage, cold)
    await stage.reach(AdapterPhase.PROVEN, cold)
    assert stage.engine.asked.count("load") == loads + 1


async def test_lost_reply_of_an_unload_leaves_nothing_behind(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.script["unload"] = [EngineBusyError("later"), OutcomeUnknownError("no reply in time")]
    assert await ask(stage, cold)
    await rests(stage, A, cold)


@pytest.mark.parametrize("stage", [replace(PACE, load=0.05)], indirect=True, ids=["short patience"])
async def test_stuck_engine_holds_no_request_for_long(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.hold["load"] = asyncio.Event()
    assert not await ask(stage, cold)
    assert stage.residents.serves(cold), "it is being loaded still"
    stage.engine.hold.pop("load").set()
    await within(lambda: cold in stage.board.loaded or cold not in stage.engine.loaded)


async def test_cold_adapter_has_not_vanished_and_a_loaded_one_that_vanishes_is_noticed(stage: Stage) -> None:
    cold = await cold_one(stage)
    probes = stage.engine.asked.count("probe")
    looks = stage.engine.asked.count("models")
    await within(lambda: stage.engine.asked.count("models") > looks + 3)
    assert stage.residents.serves(cold)
    assert stage.engine.asked.count("probe") == probes
    del stage.engine.loaded[A]
    await within(lambda: stage.engine.asked.count("probe") == probes + 1)
    await stage.reach(AdapterPhase.PROVEN, A)


async def test_load_that_comes_true_late_is_undone(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.loaded[cold] = str(stage.staging.adapter_path(digest(cold)))
    await within(lambda: cold not in stage.engine.loaded)


async def test_new_engine_has_all_to_prove_again_and_keeps_what_was_used_last(stage: Stage) -> None:
    want(stage, *NAMES, limit=2)
    await settled(stage, 2)
    for name in (C, A, D, B):
        assert await ask(stage, name)
    await rests(stage, D, B)
    probes = stage.engine.asked.count("probe")
    stage.engine.healthy = False
    await within(lambda: not stage.watch.healthy)
    assert not any(stage.residents.serves(name) for name in NAMES), "what was cold is not proven in another engine"
    stage.engine.loaded.clear()
    stage.engine.healthy = True
    await within(lambda: all(stage.residents.serves(name) for name in NAMES))
    assert stage.engine.asked.count("probe") == probes + len(NAMES)
    await rests(stage, D, B)


async def test_requests_for_a_cold_adapter_that_is_withdrawn_are_refused_and_its_files_go_last(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.hold["load"] = asyncio.Event()
    loads = stage.engine.asked.count("load")
    request = asyncio.create_task(ask(stage, cold))
    await within(lambda: stage.engine.asked.count("load") > loads, lambda: str(stage.engine.asked))
    want(stage, *({A, B, C} - {cold}), limit=2)
    assert not await request
    assert digest(cold) in stage.staged()
    stage.engine.hold.pop("load").set()
    await stage.reach(None, cold)
    assert digest(cold) not in stage.staged()
    assert cold not in stage.engine.loaded


async def test_files_of_a_cold_adapter_go_only_after_a_look_at_the_engine(stage: Stage) -> None:
    cold = await cold_one(stage)
    stage.engine.script["models"] = [EngineBusyError("later")] * 3
    want(stage, *({A, B, C} - {cold}), limit=2)
    await stage.reach(AdapterPhase.UNLOADING, cold)
    assert digest(cold) in stage.staged()
    await stage.reach(None, cold)
    assert digest(cold) not in stage.staged()


class JitteryEngine(ScriptedEngine):
    """Takes its turn some steps of the event loop later, so that everything happens in between; looks at all files whenever it is asked."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.changes = 0

    async def models(self) -> tuple[LoadedModel, ...]:
        for name, path in self.loaded.items():
            assert (Path(path) / "adapter_model.safetensors").is_file(), f"{name} is listed and its files are gone"
        return await super().models()

    async def _turn(self, method: str, effect: Callable[[], object] = lambda: None) -> None:
        self.changes += 1
        try:
            for _ in range(self._chance.randrange(4)):
                await asyncio.sleep(0)
            await super()._turn(method, effect)
        finally:
            self.changes -= 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(NAMES)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("want"), st.sets(st.sampled_from(NAMES), min_size=1)),
        st.tuples(st.just("trouble"), st.sampled_from(("load", "unload", "models"))),
        st.tuples(st.just("turns"), st.integers(1, 30)),
        st.tuples(st.just("rest"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1000), limit=st.integers(1, 3), steps=STEPS)
async def test_whatever_happens_no_request_meets_a_missing_adapter_and_idle_ones_keep_to_the_limit(
    seed: int, limit: int, steps: list[tuple[str, object]]
) -> None:
    """`ask` asserts for each request that the engine has its adapter; the engine, that files of what it lists are there."""
    engine = JitteryEngine(random.Random(seed))  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        async with running_stage(Path(folder), PACE, engine) as stage:
            wanted: set[str] = set(NAMES)
            want(stage, *wanted, limit=limit)
            if seed % 4:
                await settled(stage, limit)
            open_requests: list[tuple[asyncio.Event, asyncio.Task[bool]]] = []
            for action, what in steps:
                if action == "ask":
                    done = asyncio.Event()
                    open_requests.append((done, asyncio.create_task(ask(stage, str(what), done=done))))
                elif action == "end" and open_requests:
                    open_requests[int(str(what)) % len(open_requests)][0].set()
                elif action == "want" and isinstance(what, set):
                    wanted = what
                    want(stage, *wanted, limit=limit)
                elif action == "trouble":
                    engine.script.setdefault(str(what), []).append(EngineBusyError("later"))
                for _ in range(int(str(what)) if action == "turns" else 1):
                    await asyncio.sleep(0)
                if action == "rest":
                    await asyncio.sleep(0.005)
                busy = sum(stage.flights.count(name) > 0 for name in stage.board.loaded)
                assert len(stage.board.loaded) <= max(limit, busy)
            for done, _ in open_requests:
                done.set()
            await asyncio.gather(*(request for _, request in open_requests))
            engine.script.clear()
            await within(lambda: all(stage.residents.serves(name) for name in wanted), lambda: str(stage.board.adapters))
            # At most: one that rests comes back with its next request, not because there is room.
            await within(
                lambda: len(stage.board.loaded) <= limit and stage.engine.loaded.keys() == stage.board.loaded,
                lambda: f"engine {stage.engine.loaded}, agent {stage.board.loaded}, limit {limit}",
            )
            await within(lambda: set(stage.staged()) == {digest(name) for name in wanted}, lambda: str(stage.board.adapters))
            assert all([await ask(stage, name) for name in wanted])
