"""A namespace while it is packed: objects come and go, and plans are carried out as the controller would."""

from dataclasses import dataclass, field

from taskfleet.api.fields import Metadata
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import RolloutStatus, TaskModel
from taskfleet.planning.packing import pack
from taskfleet.planning.packing_key import PackingKey
from taskfleet.planning.plans import PackingPlan
from taskfleet.planning.revisions import Phase
from taskfleet.planning.snapshot import PackingSnapshot, PackingTask
from tests.unit.planning.builders import digest, key_for, revision_of, serving_class, task_model


@dataclass
class PackingWorld:
    """`pack()` packs one key once."""

    serving_class: ServingClass = field(default_factory=serving_class)
    tasks: dict[str, TaskModel] = field(default_factory=dict)
    revisions: dict[str, list[TaskModelRevision]] = field(default_factory=dict)
    pools: dict[str, ModelPool] = field(default_factory=dict)
    base_digests: dict[str, str] = field(default_factory=dict)
    base_versions: dict[str, str] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    replicas: dict[str, int] = field(default_factory=dict)
    scaled_by_others: set[str] = field(default_factory=set)
    clock: int = 0

    def add(self, name: str, *, resolved: bool = True, **spec: object) -> TaskModelRevision:
        self.clock += 1
        self.tasks[name] = task_model(name, created=self._time(), **spec)  # type: ignore[arg-type]
        self.revisions[name] = []
        return self._revise(name, resolved=resolved)

    def change(self, name: str, version: str, *, resolved: bool = True) -> TaskModelRevision:
        """Another version: the old revision stays, and with it whatever traffic it has."""
        task = self.tasks[name]
        changed = task_model(name, version=version)
        self.tasks[name] = task.model_copy(update={"spec": changed.spec.model_copy(update={"isolation": task.spec.isolation})})
        return self._revise(name, resolved=resolved)

    def resolve(self, name: str, *, version: str | None = None) -> None:
        self.revisions[name] = [
            revision.model_copy(
                update={"status": revision.status.model_copy(update={"digest": _digest_of(revision), "resolved_version": version})}
            )
            for revision in self.revisions[name]
        ]

    def serve(self, name: str, *, phase: str = "Done") -> None:
        """The newest revision gets all traffic; what the task's rollout says is `phase`."""
        revision = self.revisions[name][-1]
        pool = next(pool for pool in self.pools.values() if revision.metadata.name in {member.revision for member in pool.spec.members})
        target = {
            "revision": revision.metadata.name,
            "uid": revision.metadata.uid,
            "pool": pool.metadata.name,
            "weightPercent": 100,
        }
        status = {"traffic": [target], "rollout": {"revision": revision.metadata.name, "phase": phase}}
        task = self.tasks[name]
        self.tasks[name] = task.model_copy(update={"status": type(task.status).model_validate(status)})
        self._promote(name, revision)

    def share(self, name: str, weight: int) -> None:
        """The newest revision gets a part of what the one before it had, 0 standing for a mirrored one."""
        task, revision = self.tasks[name], self.revisions[name][-1]
        stable = task.status.traffic[0]
        candidate = stable.model_copy(
            update={"revision": revision.metadata.name, "uid": revision.metadata.uid, "weight_percent": weight, "shadow_percent": 20}
        )
        traffic = [stable.model_copy(update={"weight_percent": 100 - weight}), candidate]
        self.tasks[name] = task.model_copy(update={"status": task.status.model_copy(update={"traffic": traffic})})

    def withdraw(self, name: str) -> None:
        """The newest revision's part goes back to the one before it."""
        task = self.tasks[name]
        stable = task.status.traffic[0].model_copy(update={"weight_percent": 100})
        self.tasks[name] = task.model_copy(update={"status": task.status.model_copy(update={"traffic": [stable]})})

    def hold(self, name: str, reason: str | None, phase: str = "Evaluating") -> None:
        """The newest revision goes no further by itself; None: it does again."""
        task = self.tasks[name]
        rollout = RolloutStatus(revision=self.revisions[name][-1].metadata.name, phase=phase, hold=reason)
        self.tasks[name] = task.model_copy(update={"status": task.status.model_copy(update={"rollout": rollout})})

    def phase(self, name: str, phase: str) -> None:
        """What the newest revision's status says."""
        *others, newest = self.revisions[name]
        self.revisions[name] = [*others, newest.model_copy(update={"status": newest.status.model_copy(update={"phase": phase})})]

    def remove(self, name: str) -> None:
        del self.tasks[name], self.revisions[name]

    def pack(self, key: PackingKey | None = None) -> PackingPlan:
        plan = pack(self.snapshot(key))
        for draft in plan.apply:
            before = self.pools.get(draft.name)
            generation = before.metadata.generation if before else 0
            changed = before is None or before.spec != draft.spec
            self.pools[draft.name] = ModelPool(
                metadata=Metadata(
                    name=draft.name,
                    namespace=draft.namespace,
                    uid=before.metadata.uid if before else f"uid-{draft.name}-{self.clock}",
                    generation=generation + changed,
                    resource_version=f"version-{generation + changed}",
                    labels=dict(draft.labels),
                ),
                spec=draft.spec,
                status=before.status if before else ModelPool.model_fields["status"].default,
            )
        for deletion in plan.delete:
            assert self.pools.pop(deletion.name).metadata.uid == deletion.uid
        return plan

    def snapshot(self, key: PackingKey | None = None) -> PackingSnapshot:
        return PackingSnapshot(
            key=key or key_for(task_model(), self.serving_class.metadata.name),
            serving_classes=(self.serving_class,),
            tasks=tuple(PackingTask(task=task, revisions=tuple(self.revisions[name])) for name, task in self.tasks.items()),
            pools=tuple(self.pools.values()),
            unreadable=frozenset(self.unreadable),
            base_digests=self.base_digests,
            base_versions=self.base_versions,
            replicas=self.replicas,
            scaled_by_others=frozenset(self.scaled_by_others),
        )

    def home(self, revision: TaskModelRevision) -> str | None:
        """The pool that has the revision."""
        name = revision.metadata.name
        homes = [pool.metadata.name for pool in self.pools.values() if name in {member.revision for member in pool.spec.members}]
        assert len(homes) <= 1
        return homes[0] if homes else None

    def _time(self) -> str:
        return f"2026-01-01T00:{self.clock // 60:02}:{self.clock % 60:02}Z"

    def _revise(self, name: str, *, resolved: bool) -> TaskModelRevision:
        revision = revision_of(self.tasks[name], uid=f"uid-{name}-{self.clock}", created=self._time())
        known = [found for found in self.revisions[name] if found.metadata.name != revision.metadata.name]
        self.revisions[name] = [*known, revision]
        if resolved:
            self.resolve(name)
        return self.revisions[name][-1]

    def _promote(self, name: str, promoted: TaskModelRevision) -> None:
        self.revisions[name] = [
            revision.model_copy(update={"status": revision.status.model_copy(update={"phase": _phase(revision, promoted)})})
            for revision in self.revisions[name]
        ]


def _phase(revision: TaskModelRevision, promoted: TaskModelRevision) -> str | None:
    if revision.metadata.name == promoted.metadata.name:
        return Phase.STABLE
    return Phase.SUPERSEDED if revision.status.phase == Phase.STABLE else revision.status.phase


def _digest_of(revision: TaskModelRevision) -> str:
    return digest(revision.metadata.name[-1])


def small(max_per_pool: int = 2, candidate_slots: int = 1) -> PackingWorld:
    """A world whose pools have little room."""
    limits = {"maxPerPool": max_per_pool, "candidateSlots": candidate_slots, "maxActive": 1}
    return PackingWorld(serving_class=serving_class(adapters=limits))
