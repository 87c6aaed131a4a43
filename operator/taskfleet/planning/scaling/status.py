"""What a ModelPool's status and its events say of its size. Written on transitions only: figures change all the time, and are said as they were then."""

from datetime import datetime

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.modelpool import ScalingReason, ScalingStatus
from taskfleet.planning.conditions import Finding, shortened, timestamp
from taskfleet.planning.plans import Event
from taskfleet.planning.scaling.autoscaling import ScalingDecision

_MAX_MESSAGE = 1024

# Where the number stays, the reason for it changes with the traffic. What is told is why it became what it is, and a newer reason only once it has lasted.
REASON_SECONDS = 90.0
# These say that something is not as people want it.
_SOON = frozenset({ScalingReason.DEMAND_UNKNOWN, ScalingReason.AT_MAXIMUM, ScalingReason.FROZEN, ScalingReason.EXTERNAL})
SOON_SECONDS = 15.0


def seconds_until_told(before: ScalingStatus | None, decision: ScalingDecision) -> float | None:
    """How long the decision must have stood for the status to say it; None where the status says it already."""
    if before is None or before.desired_replicas != decision.replicas or before.floor != decision.floor:
        return 0.0
    if before.reason == decision.reason:
        return None
    # That demand is known again is news as well: a condition hangs on it.
    return SOON_SECONDS if decision.reason in _SOON or before.reason == ScalingReason.DEMAND_UNKNOWN else REASON_SECONDS


def scaling_status(before: ScalingStatus | None, decision: ScalingDecision | None, *, now: datetime) -> ScalingStatus | None:
    """The status that tells of the decision; as before where there is nothing to tell."""
    if decision is None or seconds_until_told(before, decision) is None:
        return before
    scaled = before is not None and before.desired_replicas != decision.replicas
    return ScalingStatus(
        desired_replicas=decision.replicas,
        reason=decision.reason,
        message=shortened(decision.message, _MAX_MESSAGE),
        last_scale_time=timestamp(now) if scaled else before.last_scale_time if before is not None else None,
        floor=decision.floor,
    )


def demand_findings(scaling: ScalingStatus | None) -> tuple[Finding, ...]:
    """The condition that says that a pool is kept as it is because demand is not known; nothing where it is known, or does not matter."""
    if scaling is None or scaling.reason != ScalingReason.DEMAND_UNKNOWN:
        return ()
    return (Finding(ConditionType.DEMAND_UNKNOWN, True, Reason.GATEWAY_NOT_HEARD, scaling.message),)


def scaling_events(before: ScalingStatus | None, after: ScalingStatus | None) -> tuple[Event, ...]:
    """The event of another number of pods, or none."""
    if before is None or after is None or before.desired_replicas == after.desired_replicas:
        return ()
    return (Event(type="Normal", reason=_word(before.desired_replicas, after.desired_replicas), message=after.message),)


def is_wake_up(before: ScalingStatus | None, after: ScalingStatus | None) -> bool:
    """Does the pool come from zero?"""
    return before is not None and after is not None and before.desired_replicas == 0 < after.desired_replicas


def _word(before: int, after: int) -> str:
    if before == 0:
        return "Woken"
    if after == 0:
        return "Asleep"
    return "ScaledUp" if after > before else "ScaledDown"
