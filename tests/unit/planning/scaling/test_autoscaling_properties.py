"""What holds of a pool's replicas whatever is asked of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.schedules import Schedule
from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.autoscaling import ScalingDecision, ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from taskfleet.planning.scaling.look import STEP_PERCENT
from taskfleet.planning.scaling.replicas import bounds_of, scaling_of
from tests.unit.planning.builders import NOW, key_for, later, pool_of, task_model

POOL = pool_of(key=key_for(task_model()))
TASKS = ("total", "vendor", "date")


def pool_with(replicas: int) -> ModelPool:
    return POOL.model_copy(update={"spec": POOL.spec.model_copy(update={"replicas": replicas})})


@st.composite
def classes(draw: st.DrawFn) -> ScalingDefaults:
    fewest = draw(st.integers(0, 6))
    return ScalingDefaults(
        min_replicas=fewest,
        max_replicas=draw(st.integers(max(fewest, 1), 40)),
        target_concurrency=draw(st.integers(1, 30)),
        idle_seconds=draw(st.integers(10, 300)),
        stable_window_seconds=draw(st.integers(10, 120)),
        scale_down_delay_seconds=draw(st.integers(0, 200)),
        tolerance_percent=draw(st.integers(0, 40)),
        max_scale_down_percent=draw(st.integers(1, 100)),
        spare_replicas=draw(st.just(0) | st.integers(1, 16)),
    )


@st.composite
def wishes(draw: st.DrawFn) -> Scaling:
    fewest = draw(st.none() | st.integers(0, 8))
    return Scaling(
        min_replicas=fewest,
        max_replicas=draw(st.none() | st.integers(max(fewest or 0, 1), 60)),
        target_concurrency=draw(st.none() | st.integers(1, 30)),
        idle_seconds=draw(st.none() | st.integers(10, 300)),
    )


requests = st.floats(0, 400, allow_nan=False)
members = st.dictionaries(st.sampled_from(TASKS), st.none() | wishes(), min_size=1)


@st.composite
def demands(draw: st.DrawFn, *, complete: st.SearchStrategy[bool] = st.booleans()) -> PoolDemand:  # noqa: B008  strategies are values
    names = draw(st.sets(st.sampled_from(TASKS)))
    return PoolDemand(
        tasks=tuple(
            TaskDemandView(
                task=name,
                fast=draw(st.just(0.0) | requests),
                stable=draw(st.just(0.0) | requests),
                held=draw(st.integers(0, 3) | st.integers(0, 300)),
                arrivals_per_second=draw(st.none() | st.floats(0, 50)),
                last_request_at=draw(st.none() | st.integers(0, 4000).map(lambda ago: later(-ago))),
            )
            for name in sorted(names)
        ),
        heard_since=later(-draw(st.integers(0, 4000))),
        complete=draw(complete),
        in_flight_at_pods=draw(st.none() | st.integers(0, 3)),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> ScalingSnapshot:
    present = draw(st.integers(0, 60))
    ready = draw(st.integers(0, present))
    return ScalingSnapshot(
        pool=pool_with(present),
        scaling=draw(classes()),
        startup_seconds=900,
        tasks=draw(members),
        demand=draw(st.none() | demands()),
        ready_replicas=ready,
        pending_replicas=present - ready,
        awake_because=draw(st.sampled_from(["", "a revision is a candidate"])),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[ScalingSnapshot, ScalingMemory, datetime]:
    """A snapshot after some looks, in which replicas followed the decisions or somebody else changed them."""
    found, memory, now = draw(snapshots()), ScalingMemory(), NOW
    for seconds in draw(st.lists(st.integers(0, 40), max_size=8)):
        decision = decide(found, memory, now=now)
        memory, now = decision.memory, now + timedelta(seconds=seconds)
        present = draw(st.just(decision.replicas) | st.integers(0, 60))
        found = replace(found, pool=pool_with(present), demand=draw(st.none() | demands()), ready_replicas=present, pending_replicas=0)
    return found, memory, now


ALWAYS, SELDOM = ("* * * * *", "0 0 29 2 *"), ("0 0 29 2 *", "* * * * *")


@st.composite
def schedules(draw: st.DrawFn) -> list[Schedule]:
    """Active ones, and others."""
    found = []
    for number, (start, end) in enumerate(draw(st.lists(st.sampled_from([ALWAYS, SELDOM]), max_size=3))):
        found.append(Schedule(name=f"one-{number}", start=start, end=end, min_replicas=draw(st.integers(1, 40))))
    return found


def present_of(found: ScalingSnapshot) -> int:
    return found.pool.spec.replicas


def most_of(found: ScalingSnapshot) -> int:
    return bounds_of(scaling_of(wish, found.scaling, present=present_of(found)) for wish in found.tasks.values()).most


@settings(max_examples=60)
@given(histories())
def test_never_outside_the_bounds(case: tuple[ScalingSnapshot, ScalingMemory, datetime]) -> None:
    found, memory, now = case
    bounds = bounds_of(scaling_of(wish, found.scaling, present=present_of(found)) for wish in found.tasks.values())
    decision = decide(found, memory, now=now)
    assert max(bounds.fewest, 1 if found.awake_because else 0) <= decision.replicas <= bounds.most <= 256
    assert len(decision.message) <= 1024
    assert decision.look_again_seconds > 0


@settings(max_examples=60)
@given(histories())
def test_nothing_is_taken_away_on_incomplete_data(case: tuple[ScalingSnapshot, ScalingMemory, datetime]) -> None:
    found, memory, now = case
    unknown = replace(found, demand=replace(found.demand, complete=False) if found.demand is not None else None)
    assert decide(unknown, memory, now=now).replicas >= min(present_of(found), most_of(found))


@given(snapshots())
def test_empty_memory_takes_nothing_away_at_once(found: ScalingSnapshot) -> None:
    assert decide(found, ScalingMemory(), now=NOW).replicas >= min(present_of(found), most_of(found))


@settings(max_examples=60)
@given(histories())
def test_to_zero_only_if_all_are_idle_and_nothing_needs_it(case: tuple[ScalingSnapshot, ScalingMemory, datetime]) -> None:
    found, memory, now = case
    if present_of(found) == 0 or decide(found, memory, now=now).replicas > 0:
        return
    demand = found.demand
    assert demand is not None
    assert demand.complete
    assert not found.awake_because
    assert not demand.in_flight_at_pods
    uptime = memory.uptime.looked(present=present_of(found), ready=found.ready_replicas, now=now)
    assert not uptime.starting_since or now - uptime.starting_since >= timedelta(seconds=found.startup_seconds)
    since = max(demand.heard_since, uptime.ready_since or demand.heard_since)
    views = {view.task: view for view in demand.tasks}
    for task, wish in found.tasks.items():
        assert wish is not None, "a frozen task keeps what there is"
        scaling = scaling_of(wish, found.scaling, present=present_of(found))
        last = views[task].last_request_at if task in views else None
        assert scaling.fewest == 0
        assert now - max(since, last or since) >= timedelta(seconds=scaling.idle_seconds)
        assert task not in views or views[task].held == 0


@settings(max_examples=60)
@given(histories(), st.floats(1.3, 20))
def test_step_is_followed_on_the_first_look_that_sees_it(case: tuple[ScalingSnapshot, ScalingMemory, datetime], factor: float) -> None:
    """Whatever was before, unless pods that were asked for are still starting."""
    found, memory, now = case
    present = max(1, present_of(found))
    scaling = found.scaling.model_copy(update={"max_replicas": 256})
    fast = present * scaling.target_concurrency * factor
    step = replace(
        found,
        pool=pool_with(present),
        scaling=scaling,
        tasks={"total": Scaling()},
        demand=PoolDemand(tasks=(TaskDemandView(task="total", fast=fast, stable=0.0),), heard_since=NOW, complete=True),
        ready_replicas=present,
        pending_replicas=0,
    )
    settled = replace(memory, warmup=ScalingMemory().warmup)
    if factor > 1 + max(scaling.tolerance_percent, STEP_PERCENT) / 100:
        wanted = ceil(fast / scaling.target_concurrency / (1 + scaling.tolerance_percent / 100) - 1e-6)
        assert decide(step, settled, now=now).replicas >= min(wanted, 256)


def played(
    scaling: ScalingDefaults, *, replicas: int, seconds: int, demand_at: Callable[[int], float]
) -> list[tuple[int, ScalingDecision]]:
    """A look each second of a pool whose pods start at once; the means are those of the last seconds."""
    memory, past, found = ScalingMemory(), [demand_at(0)] * 200, []
    for second in range(seconds):
        past.append(demand_at(second))
        window = past[-scaling.stable_window_seconds :]
        view = TaskDemandView(task="total", fast=sum(past[-6:]) / 6, stable=sum(window) / len(window), last_request_at=later(second))
        decision = decide(
            ScalingSnapshot(
                pool=pool_with(replicas),
                scaling=scaling,
                startup_seconds=900,
                tasks={"total": Scaling()},
                demand=PoolDemand(tasks=(view,), heard_since=later(-3600), complete=True),
                ready_replicas=replicas,
            ),
            memory,
            now=later(second),
        )
        found.append((replicas, decision))
        memory, replicas = decision.memory, decision.replicas
    return found


@settings(max_examples=20)
@given(classes(), st.floats(0.1, 300), st.integers(1, 40))
def test_constant_load_never_flaps(scaling: ScalingDefaults, load: float, replicas: int) -> None:
    """It goes one way and stays: never up and down, from wherever it begins."""
    numbers = [replicas, *(decision.replicas for _, decision in played(scaling, replicas=replicas, seconds=600, demand_at=lambda _: load))]
    inner = numbers[1:]  # the first look may bring it into its bounds
    assert inner in (sorted(inner), sorted(inner, reverse=True))


@settings(max_examples=20)
@given(classes(), st.integers(3, 60), st.floats(0, 200), st.floats(0, 200))
def test_not_more_than_the_share_goes_in_a_minute(scaling: ScalingDefaults, period: int, low: float, high: float) -> None:
    looks = played(scaling, replicas=4, seconds=500, demand_at=lambda second: high if second // period % 2 else low)
    had = [present for present, _ in looks]
    for second, (present, decision) in enumerate(looks):
        if decision.replicas < min(present, scaling.max_replicas):
            greatest = max(had[max(0, second - 59) : second + 1])
            assert greatest - decision.replicas <= max(1, greatest * scaling.max_scale_down_percent // 100)


@settings(max_examples=20)
@given(classes(), st.integers(3, 60), st.floats(0, 200), st.floats(0, 200))
def test_nothing_goes_that_was_needed_within_the_delay(scaling: ScalingDefaults, period: int, low: float, high: float) -> None:
    looks = played(scaling, replicas=4, seconds=500, demand_at=lambda second: high if second // period % 2 else low)
    past = [high if second // period % 2 else low for second in range(500)]
    for second, (present, decision) in enumerate(looks):
        if decision.replicas < min(present, scaling.max_replicas):
            assert second >= scaling.scale_down_delay_seconds
            recent = range(max(6, second - scaling.scale_down_delay_seconds + 1), second + 1)
            fast = max((sum(past[at - 5 : at + 1]) / 6 for at in recent), default=0.0)
            assert decision.replicas >= min(ceil(fast / scaling.target_concurrency - 1e-6), scaling.max_replicas)


@settings(max_examples=150)
@given(histories(), st.integers(1, 16))
def test_spare_pods_only_ever_raise_and_never_above_the_maximum(case: tuple[ScalingSnapshot, ScalingMemory, datetime], spare: int) -> None:
    found, memory, now = case
    none, some = (replace(found, scaling=found.scaling.model_copy(update={"spare_replicas": pods})) for pods in (0, spare))
    without, with_them = decide(none, memory, now=now), decide(some, memory, now=now)
    assert without.replicas <= with_them.replicas <= most_of(found)
    if any(wish is not None for wish in found.tasks.values()):
        assert with_them.replicas >= min(spare, most_of(found)), "also at rest"
    else:
        assert with_them.replicas == without.replicas, "a suspended task keeps what there is"


@settings(max_examples=20)
@given(classes(), st.floats(0, 300), st.integers(1, 40))
def test_a_settled_pool_has_room_for_its_spare_pods(scaling: ScalingDefaults, load: float, replicas: int) -> None:
    """One that is awake and is never idle: the last request was just now."""
    _, last = played(scaling, replicas=replicas, seconds=1200, demand_at=lambda _: load)[-1]
    asked = load / scaling.target_concurrency
    # A spare pod is never what meets the maximum.
    needed = max(asked, min(asked + scaling.spare_replicas, scaling.max_replicas))
    within_tolerance = ceil(needed / (1 + scaling.tolerance_percent / 100) - 1e-6)
    assert last.replicas >= min(within_tolerance, scaling.max_replicas)
    fewest = max(scaling.min_replicas, scaling.spare_replicas, 1)
    if replicas <= 10:
        assert last.replicas <= min(max(ceil(needed), fewest), scaling.max_replicas), "and no more than that"


@settings(max_examples=150)
@given(histories(), st.data())
def test_schedules_only_ever_raise_and_never_above_a_tasks_maximum(
    past: tuple[ScalingSnapshot, ScalingMemory, datetime], data: st.DataObject
) -> None:
    found, memory, now = past
    wished = {task: wish.model_copy(update={"schedules": data.draw(schedules())}) if wish else None for task, wish in found.tasks.items()}
    without, with_them = decide(found, memory, now=now), decide(replace(found, tasks=wished), memory, now=now)
    assert with_them.replicas >= without.replicas
    asked = {
        task: max((one.min_replicas for one in wish.schedules if (one.start, one.end) == ALWAYS), default=0)
        for task, wish in wished.items()
        if wish
    }
    for task, floor in asked.items():
        allowed = scaling_of(wished[task], found.scaling, present=present_of(found)).most
        assert with_them.replicas >= min(floor, allowed)
    assert with_them.replicas <= most_of(replace(found, tasks=wished))
    if with_them.floor is not None:
        assert with_them.floor.replicas <= with_them.replicas
    if not any(asked.values()):
        assert with_them.floor is None
