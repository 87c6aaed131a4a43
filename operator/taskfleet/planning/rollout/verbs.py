"""What people and pipelines ask of a rollout, by annotations of the TaskModel.

Each value names the revision that it is about, by its name or the hash at its end, so that it means nothing to any other revision and may stay where it is: what is asked for
is a state, not an act, and asking twice changes nothing.
"""

from dataclasses import dataclass

from taskfleet import names
from taskfleet.api.taskmodel import TaskModel

# `promote: REVISION@full`: beyond the last step.
FULL = 10_000
_FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbs:
    """What is asked of one revision. `mistake` says what can't be understood."""

    paused: bool = False
    promote_to: int = 0  # the step, counted from 1, that is to be reached at least; FULL: all traffic
    aborted: bool = False
    undone: bool = False
    retry: str | None = None  # the whole value: a new one asks anew
    mistake: str | None = None


def verbs_for(task: TaskModel, revision: str) -> Verbs:
    """What the annotations ask of this revision."""
    asked = {name: rest for name in _ALL if (rest := _about(task, name, revision)) is not None}
    promote_to, mistake = _step(asked.get(names.ANNOTATION_PROMOTE))
    return Verbs(
        paused=names.ANNOTATION_PAUSE in asked,
        promote_to=promote_to,
        aborted=names.ANNOTATION_ABORT in asked,
        undone=names.ANNOTATION_UNDO in asked,
        retry=task.metadata.annotations[names.ANNOTATION_RETRY][:128] if names.ANNOTATION_RETRY in asked else None,
        mistake=mistake,
    )


_ALL = (
    names.ANNOTATION_PAUSE,
    names.ANNOTATION_PROMOTE,
    names.ANNOTATION_ABORT,
    names.ANNOTATION_RETRY,
    names.ANNOTATION_UNDO,
)


def _about(task: TaskModel, annotation: str, revision: str) -> str | None:
    """What stands behind the revision in an annotation that names it; None where it names another one."""
    named, _, rest = task.metadata.annotations.get(annotation, "").partition("@")
    return rest if named and named in {revision, revision.removeprefix(f"{task.metadata.name}-")} else None


def _step(rest: str | None) -> tuple[int, str | None]:
    if rest is None:
        return 0, None
    if rest == _FULL:
        return FULL, None
    if rest.isascii() and rest.isdigit() and 1 <= int(rest[:4]) <= FULL:
        return int(rest[:4]), None
    return 0, f"annotation {names.ANNOTATION_PROMOTE} must be REVISION@STEP or REVISION@{_FULL}, and has {rest[:32]!r} behind the revision"
