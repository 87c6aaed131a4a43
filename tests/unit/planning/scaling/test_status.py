"""What is told of a pool's size, and when."""

from dataclasses import replace

import pytest

from taskfleet.api.modelpool import ScalingFloor, ScalingReason, ScalingStatus
from taskfleet.planning.pool import plan
from taskfleet.planning.scaling.autoscaling import ScalingDecision, ScalingMemory
from taskfleet.planning.scaling.status import (
    REASON_SECONDS,
    SOON_SECONDS,
    is_wake_up,
    scaling_events,
    scaling_status,
    seconds_until_told,
)
from taskfleet.planning.snapshot import PoolSnapshot
from tests.unit.planning.builders import NOW, key_for, pool_of, task_model


def decision(replicas: int, reason: ScalingReason = ScalingReason.STEADY, message: str = "3.1 requests at a time") -> ScalingDecision:
    return ScalingDecision(replicas=replicas, reason=reason, message=message, memory=ScalingMemory())


def status(replicas: int, reason: str = "Steady", *, message: str = "2.9 requests at a time", at: str | None = None) -> ScalingStatus:
    return ScalingStatus(desired_replicas=replicas, reason=reason, message=message, last_scale_time=at)


def test_the_first_decision_is_told_and_is_no_change_of_the_number() -> None:
    assert seconds_until_told(None, decision(2)) == 0
    told = scaling_status(None, decision(2), now=NOW)
    assert told == status(2, message="3.1 requests at a time")
    assert scaling_events(None, told) == ()


def test_figures_alone_are_not_told() -> None:
    before = status(2)
    assert seconds_until_told(before, decision(2)) is None
    assert scaling_status(before, decision(2), now=NOW) is before


def test_nobody_has_decided_so_the_status_says_what_it_said() -> None:
    assert scaling_status(status(2), None, now=NOW) == status(2)


@pytest.mark.parametrize(("before", "after", "event"), [(0, 2, "Woken"), (2, 5, "ScaledUp"), (5, 3, "ScaledDown"), (1, 0, "Asleep")])
def test_another_number_is_told_at_once_with_its_time_and_an_event(before: int, after: int, event: str) -> None:
    told = decision(after, ScalingReason.RAISED, "why")
    assert seconds_until_told(status(before), told) == 0
    found = scaling_status(status(before), told, now=NOW)
    assert found == status(after, "Raised", message="why", at="2026-01-01T12:00:00Z")
    assert [(one.type, one.reason, one.message) for one in scaling_events(status(before), found)] == [("Normal", event, "why")]
    assert is_wake_up(status(before), found) == (before == 0)


def test_a_schedule_that_begins_or_ends_is_told_at_once_though_the_number_stays() -> None:
    floor = ScalingFloor(replicas=2, source="Schedule", task_model="total", schedule="hours", until="2026-01-01T18:00:00Z")
    scheduled = replace(decision(2), floor=floor)
    assert seconds_until_told(status(2), scheduled) == 0
    found = scaling_status(status(2, at="2026-01-01T11:00:00Z"), scheduled, now=NOW)
    assert found is not None
    assert (found.floor, found.last_scale_time) == (floor, "2026-01-01T11:00:00Z")
    assert scaling_events(status(2), found) == ()
    assert seconds_until_told(found, scheduled) is None
    assert scaling_status(found, decision(2), now=NOW) == status(2, message="3.1 requests at a time", at="2026-01-01T11:00:00Z")


def test_another_reason_for_the_same_number_is_told_once_it_has_lasted_and_keeps_the_time() -> None:
    before = status(2, "Raised", at="2026-01-01T11:00:00Z")
    assert seconds_until_told(before, decision(2)) == REASON_SECONDS
    found = scaling_status(before, decision(2), now=NOW)
    assert found is not None
    assert (found.reason, found.last_scale_time) == ("Steady", "2026-01-01T11:00:00Z")
    assert scaling_events(before, found) == ()


@pytest.mark.parametrize("reason", [ScalingReason.DEMAND_UNKNOWN, ScalingReason.AT_MAXIMUM])
def test_what_is_not_as_people_want_it_is_told_sooner(reason: ScalingReason) -> None:
    assert seconds_until_told(status(2), decision(2, reason)) == SOON_SECONDS


def test_that_demand_is_known_again_is_told_as_soon_as_that_it_is_not() -> None:
    assert seconds_until_told(status(2, "DemandUnknown"), decision(2)) == SOON_SECONDS


@pytest.mark.parametrize(("reason", "conditions"), [("DemandUnknown", ["GatewayNotHeard"]), ("Steady", [])])
def test_unknown_demand_is_a_condition_of_the_pool_while_it_lasts(reason: str, conditions: list[str]) -> None:
    pool = pool_of(key=key_for(task_model()), replicas=2)
    told = pool.model_copy(update={"status": pool.status.model_copy(update={"scaling": status(2, reason)})})
    found = plan(PoolSnapshot(pool=told, serving_class=None, scaling=None), now=NOW).status
    assert found is not None
    assert [condition.reason for condition in found.conditions if condition.type == "DemandUnknown"] == conditions
    assert all(condition.status == "True" for condition in found.conditions if condition.type == "DemandUnknown")


def test_a_long_message_fits_the_status() -> None:
    found = scaling_status(None, decision(1, message="x" * 5000), now=NOW)
    assert found is not None
    assert len(found.message) == 1024


def test_the_plan_of_a_pool_tells_it_beside_its_conditions() -> None:
    pool = pool_of(key=key_for(task_model()), replicas=2)
    before = pool.model_copy(update={"status": pool.status.model_copy(update={"scaling": status(0, "AtZero")})})
    found = plan(PoolSnapshot(pool=before, serving_class=None, scaling=decision(2, ScalingReason.WOKEN, "woken from zero")), now=NOW)
    assert found.status is not None
    assert found.status.scaling == status(2, "Woken", message="woken from zero", at="2026-01-01T12:00:00Z")
    assert [event.reason for event in found.events][-1] == "Woken"
    told = before.model_copy(update={"status": found.status})
    assert plan(PoolSnapshot(pool=told, serving_class=None), now=NOW).status == found.status
