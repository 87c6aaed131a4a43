"""What each verb writes, decided from what was read: annotations on the TaskModel whose value names the revision that is meant.

Nothing here weighs figures: the operator decides what follows. What can't have an effect is refused, with a reason, and nothing is written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taskfleet import names
from taskfleet.api.conditions import Reason
from taskfleet.api.taskmodel import Rollout, RolloutStatus, Strategy
from taskfleet.cli.rollout.view import View
from taskfleet.planning.revisions import Phase, living, previous_name, target_name, why_nothing_before
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.steps import steps_of
from taskfleet.planning.rollout.verbs import verbs_for


class Verb(StrEnum):
    """What people can say about a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    PROMOTE_FULLY = "promote --full"
    ABORT = "abort"
    RETRY = "retry"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Order:
    """Annotations to set (None: to remove), what that does, and what happens next."""

    annotations: Mapping[str, str | None]
    done: str
    follows: str


@dataclass(frozen=True, slots=True)
class Already:
    """It is as the verb wants it; nothing is written."""

    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The verb has nothing to act on; nothing is written."""

    message: str


Decision = Order | Already | Refused

_UNDER_WAY = frozenset({RolloutPhase.RESOLVING, RolloutPhase.PROVING, RolloutPhase.EVALUATING, RolloutPhase.STEPPING})
_ABORT_WORDS = "its traffic goes back to the stable revision at once, and it gets none until `taskfleet rollout retry`"


def decide(verb: Verb, view: View, *, now: datetime) -> Decision:
    """What to write for a verb. `now` makes one retry different from the one before."""
    if verb is Verb.RETRY:
        return _retry(view, now)
    return _DECISIONS[verb](view)


def _pause(view: View) -> Decision:
    rollout = _under_way(view)
    if rollout is None:
        return _nothing(view, "pause")
    if verbs_for(view.task, rollout.revision).paused:
        return Already(f"{_known(view, rollout.revision)} is paused already")
    return Order(
        {names.ANNOTATION_PAUSE: rollout.revision},
        f"paused {_known(view, rollout.revision)}",
        "it stays where it is, with the traffic that it has, until `taskfleet rollout resume`; it is still rolled back if it does badly",
    )


def _resume(view: View) -> Decision:
    paused = view.task.metadata.annotations.get(names.ANNOTATION_PAUSE)
    if paused is None:
        return Already(f"{view.task.metadata.key} is not paused")
    return Order({names.ANNOTATION_PAUSE: None}, f"resumed {paused}", "the rollout goes on from where it stands")


def _promote(view: View) -> Decision:
    rollout = _under_way(view)
    if rollout is None:
        return _nothing(view, "promote")
    if rollout.phase != RolloutPhase.STEPPING or rollout.step is None:
        return Refused(
            f"nothing to promote yet: {_known(view, rollout.revision)} is {rollout.phase}. `promote --full` makes it skip its steps afterwards; nothing skips the gate"
        )
    if rollout.steps is None or rollout.step >= rollout.steps:
        return _promote_fully(view)
    step = rollout.step + 1
    return Order(
        {names.ANNOTATION_PROMOTE: f"{rollout.revision}@{step}"},
        f"promoted {_known(view, rollout.revision)} to step {step} of {rollout.steps}{_share(view, step)}",
        "it is judged there as on every step",
    )


def _promote_fully(view: View) -> Decision:
    rollout = _under_way(view)
    if rollout is None:
        return _nothing(view, "promote")
    if (view.task.spec.rollout or Rollout()).strategy is not Strategy.CANARY:
        return Refused(
            "nothing to promote: with strategy Immediate a revision gets all traffic as soon as it is proven and has passed its gate"
        )
    stepping = rollout.phase == RolloutPhase.STEPPING
    return Order(
        {names.ANNOTATION_PROMOTE: f"{rollout.revision}@full"},
        f"promoted {_known(view, rollout.revision)} to all traffic",
        "it gets all traffic now" if stepping else "it gets all traffic once it is proven and has passed its gate, without steps",
    )


def _abort(view: View) -> Decision:
    rollout = _under_way(view)
    if rollout is None:
        return _nothing(view, "abort", advice="`taskfleet rollout undo` takes back the revision that serves")
    return Order({names.ANNOTATION_ABORT: rollout.revision}, f"aborted {_known(view, rollout.revision)}", _ABORT_WORDS)


def _retry(view: View, now: datetime) -> Decision:
    rollout = view.task.status.rollout
    found = view.revision(rollout.revision) if rollout is not None else None
    unmeasured = rollout is not None and rollout.hold == Reason.GATE_UNMEASURABLE
    if found is None or not (found.status.phase == Phase.REJECTED or unmeasured):
        return Refused(
            f"nothing to retry: the revision that the spec of {view.task.metadata.key} asks for was not rejected, and its gate is not held"
        )
    name = found.metadata.name
    # What was said of it before would stop it, or let it skip its steps, again.
    said = verbs_for(view.task, name)
    spent = {
        names.ANNOTATION_ABORT: said.aborted,
        names.ANNOTATION_UNDO: said.undone,
        names.ANNOTATION_PROMOTE: said.promote_to or said.mistake,
        names.ANNOTATION_PAUSE: said.paused,
    }
    cleared = dict.fromkeys(annotation for annotation, is_said in spent.items() if is_said)
    return Order(
        {names.ANNOTATION_RETRY: f"{name}@{now:%Y%m%dT%H%M%SZ}", **cleared},
        f"retried {_known(view, name)}",
        "it is rolled again from its gate on",
    )


def _undo(view: View) -> Decision:
    under_way = _under_way(view)
    if under_way is not None:
        return Refused(f"{_known(view, under_way.revision)} is on its way, and is not the one that serves: abort it, then undo if need be")
    stable = view.task.status.stable
    served = view.revision(stable.revision) if stable is not None else None
    if served is None:
        return Refused(f"nothing to undo: no revision of {view.task.metadata.key} serves")
    name = served.metadata.name
    if name != target_name(view.task):
        return Refused(
            f"nothing to undo: {_known(view, name)} is not what the spec asks for, it serves in that one's place; change the spec"
        )
    back = previous_name(served, living(view.revisions))
    if back is None:
        return Refused(f"{_known(view, name)} can't be undone: {why_nothing_before(served, living(view.revisions))}")
    return Order(
        {names.ANNOTATION_UNDO: name},
        f"undid {_known(view, name)}",
        f"{_known(view, back)} gets all traffic again as soon as it is proven; the spec stays as it is",
    )


_DECISIONS: Mapping[Verb, Callable[[View], Decision]] = {
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.PROMOTE: _promote,
    Verb.PROMOTE_FULLY: _promote_fully,
    Verb.ABORT: _abort,
    Verb.UNDO: _undo,
}


def _under_way(view: View) -> RolloutStatus | None:
    rollout = view.task.status.rollout
    return rollout if rollout is not None and rollout.phase in _UNDER_WAY else None


def _nothing(view: View, verb: str, *, advice: str = "") -> Refused:
    rollout = view.task.status.rollout
    stands = f"the rollout of {_known(view, rollout.revision)} is {rollout.phase}" if rollout else "no rollout has begun"
    return Refused(f"nothing to {verb}: {stands}" + (f"; {advice}" if advice else ""))


def _known(view: View, revision: str) -> str:
    """The revision's name, with the version that people know it by."""
    found = view.revision(revision)
    version = found.spec.adapter.version if found is not None and found.spec.adapter else None
    return f"{revision} ({version})" if version else revision


def _share(view: View, step: int) -> str:
    steps = steps_of(view.task.spec.rollout or Rollout())
    if len(steps) < step:
        return ""
    chosen = steps[step - 1]
    return f" ({chosen.weight_percent} %{f', {chosen.shadow_percent} % mirrored' if chosen.shadow_percent else ''})"
