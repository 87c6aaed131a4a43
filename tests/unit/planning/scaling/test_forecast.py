"""What is usual at a time of day, and the pods that are there for it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet.api.modelpool import FloorSource, ScalingFloor, ScalingReason
from taskfleet.api.schedules import Forecast, Schedule
from taskfleet.api.servingclass import Autoscaler, ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.autoscaling import ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from taskfleet.planning.scaling.demandhistory import QUARTERS, DemandHistory
from tests.unit.planning.builders import NOW, key_for, pool_of, task_model
from tests.unit.planning.scaling.test_autoscaling_properties import histories, most_of

CLASS = ScalingDefaults(min_replicas=0, max_replicas=10, target_concurrency=10, idle_seconds=60)
MIDNIGHT = NOW.replace(hour=0)
GOLDEN = Path(__file__).parent / "golden_week"


def at(clock: str) -> datetime:
    """On the day of NOW."""
    return datetime.combine(NOW.date(), datetime.strptime(clock, "%H:%M").time(), UTC)  # noqa: DTZ007  a time of day


def history(*days: Mapping[int, float] | None) -> DemandHistory:
    """The days before NOW, the last one first: what was asked from each hour on, to the end of that hour. None: the day was not seen."""
    found = {}
    for ago, hours in enumerate(days, 1):
        if hours is not None:
            found[NOW.date() - timedelta(days=ago)] = tuple(float(hours.get(index // 4, 0)) for index in range(QUARTERS))
    return DemandHistory(days=found)


def floor(
    now: datetime, histories: Mapping[str, DemandHistory], tasks: Mapping[str, Scaling | None] | None = None, **fields: Any
) -> tuple[int, ScalingFloor | None]:
    """Replicas of a pool that nobody asks anything, and what raises them."""
    snapshot = ScalingSnapshot(
        pool=pool_of(key=key_for(task_model()), replicas=0),
        scaling=fields.pop("scaling", CLASS),
        startup_seconds=900,
        tasks=tasks or {task: Scaling(forecast=Forecast(**fields)) for task in histories},
        demand=PoolDemand(tasks=(), heard_since=now - timedelta(days=1), complete=True),
        histories=histories,
    )
    decision = decide(snapshot, ScalingMemory(), now=now)
    return decision.replicas, decision.floor


BUSY = {9: 35.0, 10: 12.0}


@pytest.mark.parametrize(
    ("clock", "replicas", "until"),
    [
        ("08:44", 0, None),
        ("08:45", 4, "10:00"),  # before the rise
        ("09:59", 4, "10:00"),
        ("10:00", 2, "11:00"),
        ("10:59", 2, "11:00"),
        ("11:00", 0, None),
    ],
)
def test_pods_are_there_before_the_usual_rise_and_may_go_after_it(clock: str, replicas: int, until: str | None) -> None:
    found = floor(at(clock), {"total": history(BUSY, BUSY)})
    assert found[0] == replicas
    if until is None:
        assert found[1] is None
    else:
        expected = at(until).isoformat().replace("+00:00", "Z")
        assert found[1] == ScalingFloor(replicas=replicas, source=FloorSource.FORECAST, task_model="total", until=expected)


@pytest.mark.parametrize(
    ("days", "replicas"),
    [
        ((), 0),
        ((BUSY,), 0),  # one day has no pattern
        ((BUSY, None), 0),
        ((BUSY, None, BUSY), 4),
        ((BUSY, {}), 0),  # the lower of two
        ((BUSY, {9: 15.0}), 2),
        ((BUSY, {}, BUSY), 4),  # one idle day
        (({}, BUSY, {}), 0),  # one busy day
        (({9: 900.0}, BUSY, BUSY), 4),
        (({}, {}, BUSY, BUSY, BUSY, BUSY, BUSY), 4),  # a weekend, on Monday
        (({}, {}, {}, {}, BUSY, BUSY, BUSY), 0),  # and it is forgotten
        (({9: 0.01}, {9: 0.01}), 1),  # somebody asks each day
        (({9: 10.9}, {9: 10.9}), 1),  # within the tolerance
        (({9: 11.1}, {9: 11.1}), 2),
        (({9: 5000.0}, {9: 5000.0}), 10),  # the class's maximum
    ],
)
def test_usual_is_the_median_of_the_days_that_were_seen(days: tuple[Mapping[int, float] | None, ...], replicas: int) -> None:
    assert floor(at("09:00"), {"total": history(*days)})[0] == replicas


def test_days_before_the_last_ones_do_not_count() -> None:
    days: tuple[Mapping[int, float], ...] = ({}, {}, BUSY, BUSY, BUSY)
    assert floor(at("09:00"), {"total": history(*days)}, days=5)[0] == 4
    assert floor(at("09:00"), {"total": history(*days)}, days=3)[0] == 0


def test_what_is_seen_today_changes_nothing_today() -> None:
    before = history(BUSY, BUSY)
    today = replace(before, days={**before.days, NOW.date(): (90.0,) * QUARTERS})
    assert floor(at("09:00"), {"total": today}) == floor(at("09:00"), {"total": before})


@pytest.mark.parametrize(("lead", "first"), [(0, "09:00"), (1, "08:45"), (900, "08:45"), (901, "08:30"), (7200, "07:00")])
def test_lead_is_kept_in_whole_quarters(lead: int, first: str) -> None:
    found = {"total": history(BUSY, BUSY)}
    assert floor(at(first), found, lead_seconds=lead)[0] == 4
    assert floor(at(first) - timedelta(seconds=1), found, lead_seconds=lead)[0] == 0


def test_lead_goes_over_midnight() -> None:
    found = floor(at("23:50"), {"total": history({0: 20.0}, {0: 20.0})})
    assert found[0] == 2
    assert found[1] is not None
    assert found[1].until == "2026-01-02T00:00:00Z"


def test_shares_of_tasks_add_up_each_up_to_its_own_maximum() -> None:
    small = {9: 6.0}
    found = {"total": history(small, small), "vendor": history(small, small), "date": history(BUSY, BUSY)}
    tasks: dict[str, Scaling | None] = {task: Scaling(forecast=Forecast()) for task in ("total", "vendor")}
    assert floor(at("09:00"), found, {**tasks, "date": Scaling()})[0] == 2, "one without a forecast has none"
    assert floor(at("09:00"), found, {**tasks, "date": Scaling(max_replicas=1, forecast=Forecast())})[0] == 2, (
        "one, and twice 0.6, within the tolerance"
    )
    assert floor(at("09:00"), found, {**tasks, "date": Scaling(forecast=Forecast())})[1] == ScalingFloor(
        replicas=5, source=FloorSource.FORECAST, task_model="date", until="2026-01-01T10:00:00Z"
    )


def test_greater_of_minimum_schedule_and_forecast_holds() -> None:
    found = {"total": history(BUSY, BUSY)}
    hours = Schedule(name="hours", start="0 8 * * *", end="0 18 * * *", min_replicas=3)
    for scaling, source in (
        (Scaling(schedules=[hours], forecast=Forecast()), FloorSource.FORECAST),
        (Scaling(schedules=[hours.model_copy(update={"min_replicas": 4})], forecast=Forecast()), FloorSource.SCHEDULE),
        (Scaling(min_replicas=4, forecast=Forecast()), None),
    ):
        replicas, raised = floor(at("09:00"), found, {"total": scaling})
        assert (replicas, raised.source if raised is not None else None) == (4, source)
    assert floor(at("10:00"), found, {"total": Scaling(schedules=[hours], forecast=Forecast())})[0] == 3


def test_suspended_tasks_and_other_autoscalers_have_no_forecast() -> None:
    found = {"total": history(BUSY, BUSY)}
    assert floor(at("09:00"), found, {"total": None}) == (0, None)
    assert floor(at("09:00"), found, scaling=CLASS.model_copy(update={"autoscaler": Autoscaler.EXTERNAL})) == (0, None)


def test_message_names_the_task_and_the_end() -> None:
    snapshot = ScalingSnapshot(
        pool=pool_of(key=key_for(task_model()), replicas=0),
        scaling=CLASS,
        startup_seconds=900,
        tasks={"total": Scaling(forecast=Forecast())},
        histories={"total": history(BUSY, BUSY)},
    )
    decision = decide(snapshot, ScalingMemory(), now=at("08:50"))
    said = "woken from zero to 4: forecast for total keeps 4 until 10:00 Etc/UTC; no gateway is heard yet"
    assert (decision.reason, decision.message) == (ScalingReason.FORECAST, said)
    assert decision.edge == at("09:00")


figures = st.none() | st.just(0.0) | st.floats(0, 500)
pasts = st.builds(
    lambda days: DemandHistory(days={NOW.date() - timedelta(days=ago): (value,) * QUARTERS for ago, value in days.items()}),
    st.dictionaries(st.integers(-1, 20), figures, max_size=6),
)


@settings(max_examples=150)
@given(histories(), st.data())
def test_a_forecast_only_ever_raises_and_never_above_the_maximum(
    past: tuple[ScalingSnapshot, ScalingMemory, datetime], data: st.DataObject
) -> None:
    found, memory, now = past
    forecast = st.builds(Forecast, days=st.integers(2, 14), lead_seconds=st.integers(0, 7200))
    tasks = {
        task: wish.model_copy(update={"forecast": data.draw(st.none() | forecast)}) if wish else None for task, wish in found.tasks.items()
    }
    known = {task: data.draw(pasts) for task, wish in tasks.items() if wish is not None and wish.forecast is not None}
    without, with_it = decide(found, memory, now=now), decide(replace(found, tasks=tasks, histories=known), memory, now=now)
    assert with_it.replicas >= without.replicas
    assert with_it.replicas <= max(most_of(found), without.replicas)
    if with_it.floor is None:
        assert replace(with_it, memory=memory, edge=None) == replace(without, memory=memory, edge=None), "no effect without a pattern"
    else:
        assert with_it.floor.replicas <= with_it.replicas
    if all(sum(value is not None for value in (day[0] for day in one.days.values())) < 2 for one in known.values()):
        assert with_it.floor is None, "fewer than two days"


def _asked(now: datetime) -> float:
    """Requests at a time of a task that is used at work, from Monday to Friday."""
    hours = {**dict.fromkeys(range(9, 12), 32.0), 12: 14.0, **dict.fromkeys(range(13, 17), 27.0), **dict.fromkeys(range(17, 19), 4.0)}
    return hours.get(now.hour, 0.0) if now.weekday() < 5 else 0.0


def _week() -> list[str]:
    """Pods are Ready at once, and demand is as `_asked` says, so that what is seen is the forecast's."""
    scaling = {"total": Scaling(max_replicas=6, forecast=Forecast())}
    now = datetime(2026, 1, 5, tzinfo=UTC)
    begin, end = now, now + timedelta(days=8)
    pools = [pool_of(key=key_for(task_model()), replicas=number) for number in range(7)]
    memory, known, replicas, past, shown, lines = ScalingMemory(), DemandHistory(), 0, [0.0] * 2, (0, 0), ["== Monday"]
    last = begin
    while now < end:
        past = [*past[-1:], _asked(now)]
        last = now if past[-1] else last
        known = known.seen(past[-1], now=now)
        held = 0 if replicas else round(past[-1])
        view = TaskDemandView(task="total", fast=past[-1], stable=sum(past) / 2, held=held, last_request_at=last)
        snapshot = ScalingSnapshot(
            pool=pools[replicas],
            scaling=CLASS,
            startup_seconds=900,
            tasks=scaling,
            demand=PoolDemand(tasks=(view,), heard_since=begin, complete=True),
            ready_replicas=replicas,
            histories={"total": known},
        )
        decision = decide(snapshot, memory, now=now)
        memory, replicas = decision.memory, decision.replicas
        found = (replicas, decision.floor.replicas if decision.floor is not None else 0)
        if found != shown:
            lines.append(f"   {now:%H:%M:%S}  {shown[0]} → {found[0]}  {decision.reason.value}: {decision.message}")
            if decision.floor is not None:
                lines[-1] += f" [at least {decision.floor.replicas} until {decision.floor.until}]"
        shown = found
        now += timedelta(seconds=30)
        if now.hour == now.minute == now.second == 0:
            lines.append(f"\n== {now:%A}")
    return lines


def test_a_week() -> None:
    """UPDATE_GOLDEN=1 writes it anew; the difference is for a reviewer to read."""
    transcript = "\n".join(_week()) + "\n"
    path = GOLDEN / "a_week_at_work.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(transcript)
    assert transcript == path.read_text()
