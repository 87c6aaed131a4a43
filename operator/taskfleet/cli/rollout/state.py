"""How a rollout stands, in one word and one exit code: what `kubectl rollout status` is asked for by pipelines."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from taskfleet.api.conditions import ConditionType
from taskfleet.cli.rollout.view import View
from taskfleet.planning.revisions import Phase, living, previous_name, target_name
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.verbs import verbs_for


class ExitCode(IntEnum):
    """Exit codes of `taskfleet rollout`."""

    DONE = 0  # the spec's revision serves; or: the verb was written
    FAILED = 1  # the spec's revision was rejected, failed or is not accepted; or: there was nothing to do for the verb
    UNUSABLE = 2  # wrong usage, no such TaskModel, no right, or the cluster can't be reached
    UNDER_WAY = 3  # goes on by itself
    HELD = 4  # goes on when somebody acts


class State(StrEnum):
    """How a rollout stands."""

    SERVING = "Serving"
    REJECTED = "Rejected"
    FAILED = "Failed"
    UNDER_WAY = "UnderWay"
    HELD = "Held"

    @property
    def exit_code(self) -> ExitCode:
        return _EXIT_CODES[self]

    @property
    def ended(self) -> bool:
        return self not in {State.UNDER_WAY, State.HELD}


_EXIT_CODES = {
    State.SERVING: ExitCode.DONE,
    State.REJECTED: ExitCode.FAILED,
    State.FAILED: ExitCode.FAILED,
    State.UNDER_WAY: ExitCode.UNDER_WAY,
    State.HELD: ExitCode.HELD,
}
_ENDS = {RolloutPhase.DONE.value: State.SERVING, RolloutPhase.REJECTED.value: State.REJECTED, RolloutPhase.FAILED.value: State.FAILED}


@dataclass(frozen=True, slots=True)
class Standing:
    """The state, and one sentence that says more."""

    state: State
    message: str


Check = Callable[[View], Standing | None]


def is_being_deleted(view: View) -> Standing | None:
    return Standing(State.FAILED, "the TaskModel is being deleted") if view.task.metadata.deletion_timestamp is not None else None


def spec_is_not_seen(view: View) -> Standing | None:
    if view.task.status.observed_generation >= view.task.metadata.generation:
        return None
    return Standing(State.UNDER_WAY, "the operator has not acted on the last change of the spec yet")


def is_not_accepted(view: View) -> Standing | None:
    accepted = next((one for one in view.task.status.conditions if one.type == ConditionType.ACCEPTED), None)
    if accepted is None or accepted.status != "False":
        return None
    return Standing(State.FAILED, f"{accepted.reason}: {accepted.message}")


def retry_is_not_seen(view: View) -> Standing | None:
    rollout = view.task.status.rollout
    found = view.revision(rollout.revision) if rollout is not None else None
    if found is None or found.status.phase != Phase.REJECTED:
        return None
    asked = verbs_for(view.task, found.metadata.name)
    # The operator does nothing about it as long as the revision is aborted or undone too.
    if asked.retry in {None, found.status.retried} or asked.aborted or asked.undone:
        return None
    return Standing(State.UNDER_WAY, "the operator has not acted on the retry yet")


def undo_is_not_seen(view: View) -> Standing | None:
    stable = view.task.status.stable
    found = view.revision(stable.revision) if stable is not None else None
    if found is None or found.metadata.name != target_name(view.task) or found.status.phase != Phase.STABLE:
        return None
    if not verbs_for(view.task, found.metadata.name).undone or previous_name(found, living(view.revisions)) is None:
        return None
    return Standing(State.UNDER_WAY, "the operator has not acted on the undo yet")


def has_ended(view: View) -> Standing | None:
    rollout = view.task.status.rollout
    return Standing(_ENDS[rollout.phase], rollout.message or "") if rollout is not None and rollout.phase in _ENDS else None


def is_held(view: View) -> Standing | None:
    rollout = view.task.status.rollout
    if rollout is None or rollout.hold is None:
        return None
    return Standing(State.HELD, f"{rollout.hold}: {rollout.message}" if rollout.message else rollout.hold)


def is_suspended(view: View) -> Standing | None:
    return Standing(State.HELD, "spec.suspend is set: nothing of this task is changed") if view.task.spec.suspend else None


CHECKS: tuple[Check, ...] = (
    is_being_deleted,
    spec_is_not_seen,  # all below is about another spec
    is_not_accepted,
    retry_is_not_seen,  # annotations don't count as changes of the spec, so the status still says Rejected
    undo_is_not_seen,
    has_ended,
    is_held,
    is_suspended,  # after the end: a suspended task may have nothing left to do
)


def standing(view: View) -> Standing:
    """The first of `CHECKS` that has something to say. What was asked for and not acted on yet counts as under way, so that a pipeline can change, then watch."""
    found = next((found for check in CHECKS if (found := check(view))), None)
    if found is not None:
        return found
    rollout = view.task.status.rollout
    return Standing(State.UNDER_WAY, (rollout.message or "") if rollout is not None else "no rollout has begun yet")
