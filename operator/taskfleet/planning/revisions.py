"""Revisions of a task: what they are called, and which are kept.

A revision is everything that shapes an answer: base, adapter, prompt, defaults, schema. Its name is a hash over all of it, so that going back to an earlier spec is
going back to an earlier revision, and applying the same spec twice makes nothing new.
"""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum

from taskfleet import names
from taskfleet.api.revision import Outcome, TaskModelRevision, TaskModelRevisionSpec
from taskfleet.api.taskmodel import Override, Rollout, Task, TaskModel
from taskfleet.planning.memo import once_per_object
from taskfleet.planning.plans import RevisionDraft
from taskfleet.planning.rollout.verbs import verbs_for

HASH_LENGTH = 10
_DEFAULT_OVERRIDES = frozenset(Task().allow_overrides)


class Phase(StrEnum):
    """The place of a revision in the life of its task (`TaskModelRevision.status.phase`)."""

    PENDING = "Pending"  # never had traffic
    STABLE = "Stable"  # has the traffic
    SUPERSEDED = "Superseded"  # had it
    FAILED = "Failed"  # can't be served
    REJECTED = "Rejected"  # may not be served until it is retried


def spec_of(task: TaskModel) -> TaskModelRevisionSpec:
    """What the revision of the task's present spec is."""
    # In one order, because a revision can't be written again in another one.
    in_order = [override for override in Override if override in task.spec.task.allow_overrides]
    how_asked = task.spec.task.model_copy(update={"allow_overrides": in_order})
    return TaskModelRevisionSpec(task_model_name=task.metadata.name, base=task.spec.base, adapter=task.spec.adapter, task=how_asked)


def name_of(spec: TaskModelRevisionSpec) -> str:
    """`<task>-<10 hexadecimal digits>`.

    Fields at their default don't count: a later version that adds a field with a default names all existing revisions as before. The order of a set doesn't count either.
    """
    content = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    how_asked = content.pop("task", {})
    how_asked.pop("allowOverrides", None)
    if set(spec.task.allow_overrides) != _DEFAULT_OVERRIDES:
        how_asked["allowOverrides"] = sorted(spec.task.allow_overrides)
    if how_asked:
        content["task"] = how_asked
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{spec.task_model_name}-{names.short_hash(text, length=HASH_LENGTH)}"


@once_per_object
def target_name(task: TaskModel) -> str:
    """The name of the revision that the task's present spec asks for."""
    return name_of(spec_of(task))


def goal_name(task: TaskModel, living: Mapping[str, TaskModelRevision]) -> str | None:
    """The revision that all traffic is to end at: the spec's; where that was rejected, what serves, or served last before it. None: there is no such."""
    target = target_name(task)
    revision = living.get(target)
    if revision is None:
        return target
    serving = task.status.traffic[0].revision if task.status.traffic else None
    if revision.status.phase == Phase.REJECTED:
        return serving if serving is not None and serving != target else previous_name(revision, living)
    if serving == target and verbs_for(task, target).undone:
        return previous_name(revision, living) or target
    return target


def previous_name(revision: TaskModelRevision, living: Mapping[str, TaskModelRevision]) -> str | None:
    """The revision that served last before this one. Of the same base: another one's pool would have to be made first."""
    found = _last([other for other in _served_beside(revision, living) if other.spec.base == revision.spec.base])
    return found.metadata.name if found is not None else None


def why_nothing_before(revision: TaskModelRevision, living: Mapping[str, TaskModelRevision]) -> str | None:
    """Why this one can't be undone, in words that follow "can't be undone: "; None where it can."""
    if previous_name(revision, living) is not None:
        return None
    last = _last(_served_beside(revision, living))
    if last is None:
        return "no revision before it is kept (spec.rollout.rollbackWindowRevisions)"
    return (
        f"{last.metadata.name}, which served before it, has another base ({last.spec.base.source}, revision {last.spec.base.revision}), and an undo stays on the base "
        f"that serves ({revision.spec.base.source}, revision {revision.spec.base.revision}); go back by changing the spec"
    )


def _served_beside(revision: TaskModelRevision, living: Mapping[str, TaskModelRevision]) -> list[TaskModelRevision]:
    served = {Phase.SUPERSEDED, Phase.STABLE}
    return [other for name, other in living.items() if name != revision.metadata.name and other.status.phase in served]


def _last(served: Iterable[TaskModelRevision]) -> TaskModelRevision | None:
    return max(served, key=lambda other: (other.status.promoted_at or other.metadata.creation_timestamp, other.metadata.name), default=None)


def draft(task: TaskModel) -> RevisionDraft:
    """The revision of the task's present spec."""
    spec = spec_of(task)
    return RevisionDraft(
        name=name_of(spec),
        namespace=task.metadata.namespace,
        task_model=task.metadata.name,
        task_model_uid=task.metadata.uid,
        labels={names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_TASK_MODEL: task.metadata.name},
        spec=spec,
    )


def living(revisions: Iterable[TaskModelRevision]) -> dict[str, TaskModelRevision]:
    """Those that are not being deleted, by name."""
    return {revision.metadata.name: revision for revision in revisions if revision.metadata.deletion_timestamp is None}


def unneeded(task: TaskModel, revisions: Iterable[TaskModelRevision], *, needed: frozenset[str]) -> tuple[str, ...]:
    """Those to delete: neither needed nor among the newest that `rollbackWindowRevisions` keeps, of those that served and, for the record, of those that were rejected."""
    window = (task.spec.rollout or Rollout()).rollback_window_revisions
    spare = [revision for name, revision in living(revisions).items() if name not in needed]
    served = [revision for revision in spare if revision.status.phase == Phase.SUPERSEDED]
    rejected = [revision for revision in spare if revision not in served and _was_rejected(revision)]
    kept = {revision.metadata.name for group in (served, rejected) for revision in sorted(group, key=_age, reverse=True)[:window]}
    return tuple(sorted(revision.metadata.name for revision in spare if revision.metadata.name not in kept))


def _was_rejected(revision: TaskModelRevision) -> bool:
    return revision.status.verdict is not None and revision.status.verdict.outcome is Outcome.REJECTED


def _age(revision: TaskModelRevision) -> tuple[str, str]:
    return revision.metadata.creation_timestamp, revision.metadata.name
