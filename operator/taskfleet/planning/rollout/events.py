"""A rollout as `kubectl describe` tells it: each fact by one event.

    RolloutStarted → GatePassed → StepReached … → Promoted → Serving
          │                            └──→ RolledBack, a Warning with the figures
          └──→ GateFailed, Aborted, …: Warnings about one that had no traffic yet

TrafficSwitched is for traffic that moves without a promotion: to another pool, or back to what served. Serving, GateFailed and the like are the task's changed summary
(`conditions.events_between`).
"""

from collections.abc import Mapping

from taskfleet.api.conditions import ConditionType
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModelStatus
from taskfleet.planning.conditions import events_between, find, shortened
from taskfleet.planning.plans import Event
from taskfleet.planning.rollout.gate_policy import verdict_in_words
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.situation import Situation, Step

_MAX_MESSAGE = 1024
_ENDED = frozenset({RolloutPhase.DONE, RolloutPhase.REJECTED})
_UNDER_WAY = frozenset({RolloutPhase.RESOLVING, RolloutPhase.PROVING, RolloutPhase.EVALUATING, RolloutPhase.STEPPING})


def rollout_events(
    situation: Situation, found: Step, after: TaskModelStatus, *, living: Mapping[str, TaskModelRevision]
) -> tuple[Event, ...]:
    """What the step has reached, and what it makes of the task's summary. `after`: the status with the step in it."""
    started = _has_started(situation, found)
    events = [_normal("RolloutStarted", _started(situation, found, living))] if started else []
    if found.report is not None and found.rejection is None and found.phase is not RolloutPhase.EVALUATING:
        events.append(_normal("GatePassed", f"{found.revision} {verdict_in_words(found.report)}"))
    if found.begins:
        events.append(_normal("StepReached", found.message))
    if found.switched:
        events.append(_normal("Promoted" if _is_promotion(situation, found) else "TrafficSwitched", _switched(situation, found)))
    if _is_rollback(situation, found) and (ready := find(after.conditions, ConditionType.READY)) is not None:
        return (*events, Event(type="Warning", reason="RolledBack", message=shortened(ready.message, _MAX_MESSAGE)))
    told = events_between(situation.status.conditions, after.conditions)
    # That work is under way has just been said.
    return (*events, *(event for event in told if not started or event.type == "Warning"))


def _has_started(situation: Situation, found: Step) -> bool:
    """Another revision of the spec is on its way, or one whose rollout had ended is again. A revision that is served instead of the spec's was told with the rollback."""
    before = situation.status.rollout
    if found.phase not in _UNDER_WAY or situation.target is None or found.revision != situation.target.metadata.name:
        return False
    return before is None or before.revision != found.revision or before.phase in _ENDED


def _is_rollback(situation: Situation, found: Step) -> bool:
    """Is it the end of a revision that had a share of the traffic, or all of it?"""
    return found.rejection is not None and any(target.revision == found.revision for target in situation.traffic)


def _started(situation: Situation, found: Step, living: Mapping[str, TaskModelRevision]) -> str:
    name = found.revision or ""
    serves = f"{_known(situation.stable.revision, living)} serves until then" if situation.stable is not None else "nothing serves yet"
    return f"{_known(name, living)} is on its way; {serves}"


def _is_promotion(situation: Situation, found: Step) -> bool:
    """Did something else serve until now, and does it what the spec asks for?"""
    serves = situation.stable.revision if situation.stable is not None else None
    asked = situation.target.metadata.name if situation.target is not None else None
    return found.revision == asked and serves != asked


def _switched(situation: Situation, found: Step) -> str:
    if not _is_promotion(situation, found):
        return found.message
    instead = f" instead of {situation.stable.revision}" if situation.stable is not None else ""
    return f"{found.revision} gets all traffic{instead}, on pool {found.traffic[0].pool}"


def _known(name: str, living: Mapping[str, TaskModelRevision]) -> str:
    """The revision's name, with the version that people know it by."""
    revision = living.get(name)
    version = revision.spec.adapter.version if revision is not None and revision.spec.adapter else None
    return f"{name} ({version})" if version else name


def _normal(reason: str, message: str) -> Event:
    return Event(type="Normal", reason=reason, message=shortened(message, _MAX_MESSAGE))
