"""What people read of a pool's size: for each reason what is asked for, over which window, what that needs, and whose limit has a say."""

from typing import Any

import pytest

from taskfleet.api.modelpool import ScalingReason, ScalingStatus
from taskfleet.api.schedules import Forecast, Schedule
from taskfleet.api.servingclass import Autoscaler, ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.autoscaling import ScalingDecision, ScalingMemory, decide
from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.demandhistory import QUARTERS, DemandHistory
from taskfleet.planning.scaling.status import scaling_events, scaling_status, seconds_until_told
from tests.unit.planning.builders import NOW, later
from tests.unit.planning.scaling.looks import CLASS, after, asked, demand, snapshot
from tests.unit.planning.scaling.scaling_world import ScalingWorld

BY_CLASS = CLASS.model_copy(update={"min_replicas": 1})
SPARE = CLASS.model_copy(update={"spare_replicas": 2})
EXTERNAL = CLASS.model_copy(update={"autoscaler": Autoscaler.EXTERNAL})
OFFICE = Schedule(name="hours", start="0 8 * * *", end="0 18 * * *", min_replicas=3)
USUAL = DemandHistory(days={later(-ago * 86400).date(): (25.0,) * QUARTERS for ago in (1, 2, 3)})
TWO = {"total": Scaling(max_replicas=2), "vendor": Scaling(max_replicas=6)}
QUIET = demand(asked(0, last=-3600))

AT_ONCE: list[tuple[PoolDemand | None, dict[str, Any], ScalingReason, str]] = [
    (
        demand(asked(6)),
        {},
        ScalingReason.STEADY,
        "kept at 1: 6.0 requests at a time over the last 60 s need 0.60 pods at targetConcurrency 10",
    ),
    (
        demand(asked(11)),
        {},
        ScalingReason.STEADY,
        "kept at 1: 11.0 requests at a time over the last 60 s need 1.10 pods at targetConcurrency 10; within tolerancePercent 10",
    ),
    (
        demand(asked(12, stable=4)),
        {},
        ScalingReason.STEADY,
        (
            "kept at 1: 12.0 requests at a time over the last 6 s need 1.20 pods at targetConcurrency 10; "
            "a few seconds raise it only if they need 25 % more than there is"
        ),
    ),
    (
        demand(asked(4, stable=45)),
        {"present": 4},
        ScalingReason.STEADY,
        (
            "kept at 4: 4.0 requests at a time over the last 6 s need 0.40 pods at targetConcurrency 10; "
            "the mean of 60 s, 45.0, still holds a peak that is over"
        ),
    ),
    (
        demand(asked(0.02)),
        {},
        ScalingReason.STEADY,
        "kept at 1: fewer than 0.1 requests at a time over the last 60 s need less than 0.01 pods at targetConcurrency 10",
    ),
    (
        demand(asked(35, stable=4)),
        {},
        ScalingReason.STEP,
        "raised from 1 to 4: 35.0 requests at a time over the last 6 s need 3.50 pods at targetConcurrency 10",
    ),
    (
        demand(asked(20), asked(6, task="vendor")),
        {"tasks": {"total": Scaling(), "vendor": Scaling(target_concurrency=2)}},
        ScalingReason.STEP,
        "raised from 1 to 5: 26.0 requests at a time over the last 6 s need 5.00 pods by each task's targetConcurrency, most of it for vendor",
    ),
    (
        demand(asked(90, stable=20, arrivals_per_second=0.5)),
        {"present": 4},
        ScalingReason.STEP,
        (
            "raised from 4 to 6: 90.0 requests at a time over the last 6 s need 9.00 pods at targetConcurrency 10; "
            "those that wait bring at most half as many pods again as there are"
        ),
    ),
    (
        demand(asked(90, stable=20, arrivals_per_second=3)),
        {"present": 3, "ready_replicas": 1, "pending_replicas": 2},
        ScalingReason.STEP,
        (
            "raised from 3 to 4: 90.0 requests at a time over the last 6 s need 9.00 pods at targetConcurrency 10; "
            "those that wait bring at most half as many pods again as what arrives needs"
        ),
    ),
    (
        demand(asked(100), asked(10, task="vendor")),
        {"tasks": TWO},
        ScalingReason.STEP,
        (
            "raised from 1 to 3: 110.0 requests at a time over the last 6 s need 11.00 pods at targetConcurrency 10, most of it for total; "
            "maxReplicas of total gives total no more than 2"
        ),
    ),
    (
        demand(asked(12)),
        {},
        ScalingReason.RAISED,
        "raised from 1 to 2: 12.0 requests at a time over the last 60 s need 1.20 pods at targetConcurrency 10",
    ),
    (
        demand(asked(24, stable=50)),
        {"present": 2},
        ScalingReason.RAISED,
        "raised from 2 to 3: 50.0 requests at a time over the last 60 s need 5.00 pods at targetConcurrency 10; the last 6 s need 2.40",
    ),
    (
        demand(asked(1000)),
        {"present": 8},
        ScalingReason.STEP,
        (
            "raised from 8 to 10: 1000.0 requests at a time over the last 6 s need 100.00 pods at targetConcurrency 10; "
            "maxReplicas of ServingClass l4 allows no more"
        ),
    ),
    (
        demand(asked(100)),
        {"present": 3, "tasks": {"total": Scaling(max_replicas=3)}},
        ScalingReason.AT_MAXIMUM,
        "maxReplicas of total allows 3; 100.0 requests at a time over the last 6 s need 10.00 pods at targetConcurrency 10",
    ),
    (
        demand(asked(100), asked(10, task="vendor")),
        {"tasks": TWO, "present": 3},
        ScalingReason.AT_MAXIMUM,
        (
            "kept at 3: 110.0 requests at a time over the last 6 s need 11.00 pods at targetConcurrency 10, most of it for total; "
            "maxReplicas of total gives total no more than 2"
        ),
    ),
    (
        None,
        {"present": 8, "tasks": {"total": Scaling(max_replicas=3)}},
        ScalingReason.AT_MAXIMUM,
        "lowered from 8 to 3: maxReplicas of total allows 3; no gateway is heard yet",
    ),
    (
        demand(asked(1000)),
        {"present": 20, "tasks": {"total": Scaling(min_replicas=20)}},
        ScalingReason.AT_MAXIMUM,
        (
            "minReplicas of total or its schedules, above maxReplicas of ServingClass l4, allows 20; "
            "1000.0 requests at a time over the last 6 s need 100.00 pods at targetConcurrency 10"
        ),
    ),
    (
        demand(asked(90, stable=20, arrivals_per_second=3)),
        {"present": 4, "ready_replicas": 1, "pending_replicas": 3},
        ScalingReason.STARTING,
        (
            "kept at 4: 90.0 requests at a time over the last 6 s need 9.00 pods at targetConcurrency 10; "
            "pods for all that arrives are starting, and no more are asked for until they have caught up"
        ),
    ),
    (
        demand(asked(1300, arrivals_per_second=3)),
        {"present": 10, "ready_replicas": 1, "pending_replicas": 9},
        ScalingReason.AT_MAXIMUM,
        "maxReplicas of ServingClass l4 allows 10; 1300.0 requests at a time over the last 6 s need 130.00 pods at targetConcurrency 10",
    ),
    (
        demand(asked(600, arrivals_per_second=3)),
        {"present": 10, "ready_replicas": 1, "pending_replicas": 9},
        ScalingReason.STARTING,
        (
            "kept at 10: 600.0 requests at a time over the last 6 s need 60.00 pods at targetConcurrency 10; "
            "pods for all that arrives are starting, and maxReplicas of ServingClass l4 allows no more"
        ),
    ),
    # Since when nobody has asked is known from when the gateways were heard: a pool that has just been made.
    (
        demand(since=-20),
        {"scaling": BY_CLASS},
        ScalingReason.AT_MINIMUM,
        "minReplicas of ServingClass l4 keeps 1; no request in the last 20 s",
    ),
    (
        demand(asked(6)),
        {"tasks": {"total": Scaling(min_replicas=1)}},
        ScalingReason.AT_MINIMUM,
        "minReplicas of total keeps 1; 6.0 requests at a time over the last 60 s need 0.60 pods at targetConcurrency 10",
    ),
    (
        QUIET,
        {"tasks": {"total": Scaling(min_replicas=1), "vendor": Scaling()}, "scaling": BY_CLASS},
        ScalingReason.AT_MINIMUM,
        "minReplicas of ServingClass l4 keeps 1; no request in the last 60 s",
    ),
    (
        QUIET,
        {"tasks": {"total": Scaling(), "vendor": Scaling(min_replicas=4)}},
        ScalingReason.AT_MINIMUM,
        "raised from 1 to 4: minReplicas of vendor keeps 4; no request in the last 60 s",
    ),
    (QUIET, {"tasks": {}}, ScalingReason.AT_MINIMUM, "a pool without tasks keeps 1; no request in the last 60 s"),
    (
        demand(asked(14)),
        {"tasks": {"total": Scaling(schedules=[OFFICE])}, "present": 3},
        ScalingReason.SCHEDULED,
        "schedule hours of total keeps 3 until 18:00 Etc/UTC; 14.0 requests at a time over the last 60 s need 1.40 pods at targetConcurrency 10",
    ),
    (
        QUIET,
        {"tasks": {"total": Scaling(forecast=Forecast())}, "histories": {"total": USUAL}, "present": 0},
        ScalingReason.FORECAST,
        "woken from zero to 3: forecast for total keeps 3 until 2026-01-02 00:00 Etc/UTC; no request in the last 60 s",
    ),
    (
        demand(asked(0, stable=2, last=-20)),
        {},
        ScalingReason.STEADY,
        "kept at 1: 2.0 requests at a time over the last 60 s need 0.20 pods at targetConcurrency 10",
    ),
    (
        demand(asked(0, last=-20), asked(0, last=-50, task="vendor")),
        {"tasks": {"total": Scaling(), "vendor": Scaling(idle_seconds=300)}},
        ScalingReason.NOT_IDLE,
        "kept at 1: no request in the last 60 s; vendor has to be idle for 250 s more (idleSeconds 300)",
    ),
    (
        demand(asked(0, last=-3000), since=-10),
        {},
        ScalingReason.NOT_IDLE,
        "kept at 1: no request in the last 10 s; total has to be idle for 50 s more (idleSeconds 60, counted from when all gateways were heard)",
    ),
    (demand(at_pods=1), {}, ScalingReason.NOT_IDLE, "kept at 1: requests are being answered"),
    (
        demand(asked(10), since=-30),
        {"present": 8},
        ScalingReason.DOWN_DELAYED,
        (
            "kept at 8: 10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10; "
            "1 would do, but requests have been counted for 30 s only (stableWindowSeconds 60)"
        ),
    ),
    (
        demand(since=-30),
        {"tasks": {"total": Scaling(idle_seconds=20)}},
        ScalingReason.DOWN_DELAYED,
        "kept at 1: no request in the last 30 s; it may sleep, but requests have been counted for 30 s only (stableWindowSeconds 60)",
    ),
    (
        QUIET,
        {},
        ScalingReason.DOWN_DELAYED,
        "kept at 1: no request in the last 60 s; it may sleep, but nothing is known from before this look",
    ),
    (
        demand(asked(10)),
        {"present": 8},
        ScalingReason.DOWN_DELAYED,
        (
            "kept at 8: 10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10; "
            "1 would do if that stays so for 120 s (scaleDownDelaySeconds 120)"
        ),
    ),
    (QUIET, {"present": 0}, ScalingReason.AT_ZERO, "asleep: every task is idle, and the next request wakes it"),
    (demand(asked(0, held=1)), {"present": 0}, ScalingReason.WOKEN, "woken from zero to 1: 1 request waits at the gateway"),
    (demand(asked(0, held=23)), {"present": 0}, ScalingReason.WOKEN, "woken from zero to 3: 23 requests wait at the gateway"),
    (
        demand(asked(30)),
        {"present": 5, "scaling": SPARE},
        ScalingReason.SPARE,
        "kept at 5: 30.0 requests at a time over the last 60 s need 3.00 pods at targetConcurrency 10; 2 kept spare beyond that (spareReplicas)",
    ),
    (QUIET, {"present": 2, "scaling": SPARE}, ScalingReason.SPARE, "kept at 2: no request in the last 60 s; 2 kept spare (spareReplicas)"),
    (
        QUIET,
        {"present": 0, "scaling": SPARE},
        ScalingReason.SPARE,
        "woken from zero to 2: spareReplicas of ServingClass l4 keeps 2; no request in the last 60 s",
    ),
    (
        demand(asked(0, last=-3600)),
        {"present": 0, "awake_because": "total-2 is being rolled out"},
        ScalingReason.KEPT_AWAKE,
        "woken from zero to 1: total-2 is being rolled out",
    ),
    (
        QUIET,
        {"awake_because": "total-2 is being rolled out"},
        ScalingReason.KEPT_AWAKE,
        "kept at 1: total-2 is being rolled out; no request in the last 60 s",
    ),
    (None, {"present": 3}, ScalingReason.DEMAND_UNKNOWN, "kept at 3: no gateway is heard yet; nothing is taken away until all are"),
    (
        demand(asked(10), complete=False),
        {"present": 3},
        ScalingReason.DEMAND_UNKNOWN,
        "kept at 3: a gateway is not heard; nothing is taken away until all are",
    ),
    (
        demand(asked(10)),
        {"present": 3, "tasks": {"total": Scaling(), "vendor": None}},
        ScalingReason.FROZEN,
        (
            "vendor, which is suspended or can't be read, keeps 3; "
            "10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10, most of it for total"
        ),
    ),
    (
        demand(asked(10)),
        {"present": 3, "scaling": EXTERNAL},
        ScalingReason.EXTERNAL,
        "another autoscaler writes the replicas (autoscaler of ServingClass l4)",
    ),
    (
        demand(),
        {"present": 0, "scaling": EXTERNAL, "awake_because": "total-2 is being rolled out"},
        ScalingReason.EXTERNAL,
        "another autoscaler writes the replicas (autoscaler of ServingClass l4); it is at zero, and total-2 is being rolled out",
    ),
]

# The same for three minutes.
SETTLED: list[tuple[PoolDemand, dict[str, Any], ScalingReason, str]] = [
    (
        demand(asked(10)),
        {"present": 8},
        ScalingReason.LOWERED,
        (
            "lowered from 8 to 4: 10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10; "
            "of 8 pods at most 50 % go in a minute (maxScaleDownPercent)"
        ),
    ),
    (
        demand(asked(10)),
        {"present": 2},
        ScalingReason.LOWERED,
        "lowered from 2 to 1: 10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10",
    ),
    (QUIET, {}, ScalingReason.AT_ZERO, "put to sleep: every task has been idle for its idleSeconds"),
]


@pytest.mark.parametrize(("found", "fields", "reason", "message"), AT_ONCE)
def test_first_look_says_what_is_asked_for_and_what_limits(
    found: PoolDemand | None, fields: dict[str, Any], reason: ScalingReason, message: str
) -> None:
    decision = decide(snapshot(found, **fields), ScalingMemory(), now=NOW)
    assert (decision.reason, decision.message) == (reason, message)


@pytest.mark.parametrize(("found", "fields", "reason", "message"), SETTLED)
def test_what_has_lasted_says_so(found: PoolDemand, fields: dict[str, Any], reason: ScalingReason, message: str) -> None:
    decision = after(180, found, **fields)
    assert (decision.reason, decision.message) == (reason, message)


def test_pods_that_were_needed_lately_are_said_to_have_been() -> None:
    memory = after(180, demand(asked(45)), present=5).memory
    memory = decide(snapshot(demand(asked(35)), present=8), memory, now=later(1)).memory
    decision = decide(snapshot(demand(asked(10)), present=8), memory, now=later(2))
    said = "lowered from 8 to 5: 10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10; "
    assert decision.message == f"{said}5 were needed within the last 120 s (scaleDownDelaySeconds)"


def test_few_of_many_are_said_to_go_in_a_minute() -> None:
    memory = after(180, demand(asked(10)), present=8).memory
    decision = decide(snapshot(demand(asked(10)), present=4), memory, now=later(1))
    said = "kept at 4: 10.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 10; "
    assert decision.reason is ScalingReason.DOWN_LIMITED
    assert decision.message == f"{said}of 8 pods at most 50 % go in a minute (maxScaleDownPercent)"


def test_every_reason_has_its_words_here() -> None:
    told = {reason for _, _, reason, _ in AT_ONCE} | {reason for _, _, reason, _ in SETTLED} | {ScalingReason.DOWN_LIMITED}
    assert told == set(ScalingReason)


def test_event_says_the_same_as_the_status() -> None:
    before = ScalingStatus(desired_replicas=1, reason="Steady", message="kept at 1: …")
    decision = decide(snapshot(demand(asked(35, stable=4))), ScalingMemory(), now=NOW)
    after_it = scaling_status(before, decision, now=NOW)
    assert after_it is not None
    (event,) = scaling_events(before, after_it)
    assert (event.reason, event.message, after_it.message) == ("ScaledUp", decision.message, decision.message)


class _Told:
    """The status as the operator writes it: another number at once, another reason once it has lasted."""

    def __init__(self) -> None:
        self.status: ScalingStatus | None = None
        self.writes: list[str] = []
        self._last: tuple[int, ScalingReason] | None = None
        self._since = 0

    def look(self, second: int, decision: ScalingDecision) -> None:
        if self._last != (decision.replicas, decision.reason):
            self._last, self._since = (decision.replicas, decision.reason), second
        wait = seconds_until_told(self.status, decision)
        if wait is not None and second - self._since >= wait:
            self.status = scaling_status(self.status, decision, now=NOW)
            self.writes.append(decision.reason)


@pytest.mark.parametrize(
    ("scaling", "tasks", "reason"),
    [
        (BY_CLASS, {"total": Scaling()}, "AtMinimum"),
        (CLASS, {"total": Scaling(schedules=[OFFICE])}, "Scheduled"),
        (CLASS, {"total": None}, "Frozen"),
        (SPARE, {"total": Scaling()}, "Spare"),
    ],
)
def test_requests_that_come_and_go_beneath_what_is_kept_are_told_once(
    scaling: ScalingDefaults, tasks: dict[str, Scaling | None], reason: str
) -> None:
    """For long enough each time for another reason to be told."""
    world, told = ScalingWorld(scaling=scaling, tasks=tasks, replicas=3 if reason == "Scheduled" else 1), _Told()
    for second in range(3600):
        world.loads["total"].per_second = 1 if second % 360 < 150 else 0
        world.run(1)
        assert world.decision is not None
        told.look(second, world.decision)
    assert told.writes[-1] == reason
    assert len([write for write in told.writes if write == reason]) == 1
    assert len(told.writes) <= 2, "a class's spare pods may have to be made first"


def test_an_operator_that_restarts_writes_nothing_of_a_pool_at_its_minimum() -> None:
    world, told = ScalingWorld(scaling=BY_CLASS), _Told()
    for second in range(1200):
        if second == 600:
            world.restart_operator()
        world.run(1)
        assert world.decision is not None
        told.look(second, world.decision)
    assert told.writes == ["AtMinimum"]
