"""How many pods a pool gets."""

from datetime import datetime
from typing import Any

from taskfleet.api.modelpool import ScalingReason
from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.autoscaling import ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.demand import PoolDemand, TaskDemandView
from tests.unit.planning.builders import NOW, key_for, later, pool_of, task_model

CLASS = ScalingDefaults(min_replicas=0, max_replicas=10, target_concurrency=10, idle_seconds=60)


def asked(requests: float, *, held: int = 0, last: float | None = None, task: str = "total") -> TaskDemandView:
    """A demand that has been the same for long."""
    return TaskDemandView(task=task, fast=requests, stable=requests, held=held, last_request_at=None if last is None else later(last))


def demand(*tasks: TaskDemandView, since: float = -3600, complete: bool = True, at_pods: int | None = None) -> PoolDemand:
    return PoolDemand(tasks=tasks, heard_since=later(since), complete=complete, in_flight_at_pods=at_pods)


def snapshot(found: PoolDemand | None, *, present: int = 1, **fields: Any) -> ScalingSnapshot:
    pool = pool_of(key=key_for(task_model()), replicas=present)
    given: dict[str, Any] = {"scaling": CLASS, "tasks": {"total": Scaling()}, "ready_replicas": present, **fields}
    return ScalingSnapshot(pool=pool, demand=found, **given)


def at_once(found: PoolDemand | None, *, now: datetime = NOW, **fields: Any) -> tuple[int, ScalingReason]:
    decision = decide(snapshot(found, **fields), ScalingMemory(), now=now)
    return decision.replicas, decision.reason


def test_step_is_followed_on_the_first_look() -> None:
    assert at_once(demand(TaskDemandView(task="total", fast=35, stable=4))) == (4, ScalingReason.STEP)


def test_first_held_request_wakes_a_sleeping_pool() -> None:
    assert at_once(demand(asked(0, held=1)), present=0) == (1, ScalingReason.WOKEN)


def test_without_any_demand_known_nothing_changes() -> None:
    assert at_once(None, present=3) == (3, ScalingReason.DEMAND_UNKNOWN)
