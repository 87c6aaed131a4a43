"""Rollouts as figures: how they end, and how long they take."""

from datetime import datetime

from taskfleet.api.taskmodel import RolloutStatus, TaskModelStatus
from taskfleet.controller import metrics
from taskfleet.planning.plans import TaskPlan
from taskfleet.planning.rollout.phase import RolloutPhase

_ENDS = {RolloutPhase.DONE.value, RolloutPhase.REJECTED.value}


def count(before: TaskModelStatus, plan: TaskPlan, *, now: datetime, seconds: float) -> None:
    """Counts a rollout that has ended with this plan, whose status is written. `seconds`: since the decision."""
    ended = plan.status.rollout if plan.status is not None else None
    if ended is None or not _has_ended(before.rollout, ended):
        return
    outcome = _outcome(plan, ended)
    metrics.ROLLOUTS.labels(outcome).inc()
    if ended.started_at is not None:
        metrics.ROLLOUT_SECONDS.labels(outcome).observe(max(0.0, (now - datetime.fromisoformat(ended.started_at)).total_seconds()))
    if ended.phase == RolloutPhase.REJECTED and len(before.traffic) > 1:
        metrics.ROLLBACK_SECONDS.observe(seconds)


def _has_ended(before: RolloutStatus | None, after: RolloutStatus) -> bool:
    """After a lost status nobody knows whether this was counted."""
    return before is not None and after.phase in _ENDS and (before.revision, before.phase) != (after.revision, after.phase)


def _outcome(plan: TaskPlan, ended: RolloutStatus) -> str:
    status = plan.revision_statuses.get(ended.revision)
    verdict = status.verdict if status is not None and ended.phase == RolloutPhase.REJECTED else None
    return verdict.reason if verdict is not None else "Promoted"
