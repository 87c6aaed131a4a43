"""Which revisions of a task belong on the pools of a packing key.

Not here: on which of these pools, and whether there is room (`packing`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from taskfleet.api.modelpool import Role
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModel
from taskfleet.planning import revisions
from taskfleet.planning.admission import Admission, admit
from taskfleet.planning.packing_key import PackingKey, key_of
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.snapshot import PackingSnapshot, PackingTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one task wants of the pools of one key.

    `target` is the revision of its spec, where it belongs here; `kept` are revisions that stay where they are members now. A frozen task's members stay exactly as they are.
    """

    task: TaskModel
    revisions: Mapping[str, TaskModelRevision]  # living, by name
    target: str | None
    kept: frozenset[str]
    frozen: bool

    @property
    def refused(self) -> list[str]:
        """Revisions that no engine could load."""
        return [name for name, revision in self.revisions.items() if revision.status.phase == revisions.Phase.FAILED]

    def role(self, revision: str) -> Role:
        """What a revision is to the task: a candidate until it has traffic; one that is drained keeps its role."""
        # The stable revision's route stands first; the other one has a canary's share.
        routed = any(target.revision == revision for target in self.task.status.traffic[:1])
        is_candidate = revision == self.target and not routed and self.revisions[revision].status.phase != revisions.Phase.STABLE
        return Role.CANDIDATE if is_candidate else Role.STABLE


def wanted(snapshot: PackingSnapshot, entry: PackingTask, *, pool_names: frozenset[str], members: frozenset[str]) -> Wanted | None:
    """What the task wants of the key's pools; None where it has nothing to do with them. `members` are its revisions on these pools now.

    Target: where all traffic is to end, mostly the revision of the spec, also one that failed: an agent tries it again when its pod or its class changes, so that what was
    refused under too small a limit comes right by itself. Kept: what has traffic on these pools; everything while a switch is not yet known to every gateway; after a lost
    status, what had the traffic last.
    """
    task = entry.task
    if task.metadata.deletion_timestamp is not None or not (members or _same_base(task, snapshot.key)):
        return None
    living = revisions.living(entry.revisions)
    admission = admit(
        task,
        namespace_labels=snapshot.namespace_labels,
        serving_classes=snapshot.serving_classes,
        pools=snapshot.pools,
        claims=snapshot.claims,
    )
    target = revisions.goal_name(task, living) if _belongs(task, admission, snapshot.key) else None
    if task.spec.suspend:
        return Wanted(task=task, revisions=living, target=None, kept=members, frozen=True)
    return Wanted(
        task=task,
        revisions=living,
        target=target if target in living and living[target].spec.base == task.spec.base else None,
        kept=_kept(task, living, members, pool_names),
        frozen=False,
    )


def _kept(task: TaskModel, living: Mapping[str, TaskModelRevision], members: frozenset[str], pool_names: frozenset[str]) -> frozenset[str]:
    status = task.status
    if status.rollout is not None and status.rollout.phase == RolloutPhase.DRAINING:
        return members & living.keys()
    serves = {target.revision for target in status.traffic[:1]}
    # One that was rejected leaves at once, and its agents refuse it from then on; one that was undone serves until the one before it can.
    here = frozenset(name for name in members & living.keys() if name in serves or living[name].status.phase != revisions.Phase.REJECTED)
    if not status.traffic:
        return frozenset(name for name in here if living[name].status.phase == revisions.Phase.STABLE)
    return here & {target.revision for target in status.traffic if target.pool in pool_names}


def _belongs(task: TaskModel, admission: Admission, key: PackingKey) -> bool:
    if admission.violation is not None or admission.class_name is None:
        return False
    spec = task.spec
    own = key_of(
        namespace=task.metadata.namespace,
        task_model=task.metadata.name,
        base=spec.base,
        serving_class=admission.class_name,
        isolation=spec.isolation,
    )
    return own == key


def _same_base(task: TaskModel, key: PackingKey) -> bool:
    # Cheap, and rules out most tasks of a namespace before anything is hashed.
    return (task.spec.base.source, task.spec.base.revision) == (key.base_source, key.base_revision)
