"""Looks at a pool of one task or two, an answer's worth of demand each."""

from typing import Any

from taskfleet.api.modelpool import ScalingReason
from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.autoscaling import ScalingDecision, ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from tests.unit.planning.builders import NOW, key_for, later, pool_of, task_model

CLASS = ScalingDefaults(min_replicas=0, max_replicas=10, target_concurrency=10, idle_seconds=60)


def asked(
    requests: float, *, stable: float | None = None, held: int = 0, last: float | None = None, task: str = "total", **fields: Any
) -> TaskDemandView:
    """A demand that has been the same for long, where nothing else is said. `last` is in seconds from now."""
    return TaskDemandView(
        task=task,
        fast=requests,
        stable=requests if stable is None else stable,
        held=held,
        last_request_at=None if last is None else later(last),
        **fields,
    )


def demand(*tasks: TaskDemandView, since: float = -3600, complete: bool = True, at_pods: int | None = None) -> PoolDemand:
    return PoolDemand(tasks=tasks, heard_since=later(since), complete=complete, in_flight_at_pods=at_pods)


def snapshot(found: PoolDemand | None, *, present: int = 1, **fields: Any) -> ScalingSnapshot:
    pool = pool_of(key=key_for(task_model()), replicas=present)
    given: dict[str, Any] = {"scaling": CLASS, "startup_seconds": 900, "tasks": {"total": Scaling()}, "ready_replicas": present, **fields}
    return ScalingSnapshot(pool=pool, demand=found, **given)


def after(seconds: int, found: PoolDemand | None, **fields: Any) -> ScalingDecision:
    """The decision of the last look, where the same was seen each five seconds for so long."""
    memory, decision = ScalingMemory(), None
    for ago in range(seconds, -1, -5):
        decision = decide(snapshot(found, **fields), memory, now=later(-ago))
        memory = decision.memory
    assert decision is not None
    return decision


def at_once(found: PoolDemand | None, **fields: Any) -> tuple[int, ScalingReason]:
    decision = decide(snapshot(found, **fields), ScalingMemory(), now=NOW)
    return decision.replicas, decision.reason


def settled(found: PoolDemand | None, **fields: Any) -> tuple[int, ScalingReason]:
    decision = after(180, found, **fields)
    return decision.replicas, decision.reason
