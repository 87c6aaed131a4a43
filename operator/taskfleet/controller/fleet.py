"""The cache as decisions look at it: tasks, revisions, pools, pods.

Revisions, pools and children that somebody else made are not seen by any decision, so nothing of them is changed or deleted; that they stand in the way is noticed by `writer`.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

from taskfleet import names
from taskfleet.api.conditions import Condition, ConditionType
from taskfleet.api.fields import Model
from taskfleet.api.modelpool import ModelPool, ScalingReason
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from taskfleet.controller.cache import Cache, Change, Json, Unreadable
from taskfleet.controller.keys import PoolKey, TaskKey
from taskfleet.controller.metrics import ConditionCounts, PoolFigures, RevisionFigures
from taskfleet.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    MODEL_POOLS,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVING_CLASSES,
    TASK_MODEL_REVISIONS,
    TASK_MODELS,
    Resource,
)

K = TypeVar("K", bound=Hashable)

_CONDITION_TYPES = frozenset(kind.value for kind in ConditionType)

# The custom resources and their models.
MODELS: dict[Resource, type[TaskModel | TaskModelRevision | ModelPool | ServingClass]] = {
    TASK_MODELS: TaskModel,
    TASK_MODEL_REVISIONS: TaskModelRevision,
    MODEL_POOLS: ModelPool,
    SERVING_CLASSES: ServingClass,
}


class Fleet:
    """Reads only. `index` must be told of every change of the cache, before anybody reads."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._revisions: dict[TaskKey, set[str]] = {}
        self._pools: dict[TaskKey, set[str]] = {}
        self._pods: dict[PoolKey, set[str]] = {}
        self._evaluation_jobs: dict[TaskKey, set[str]] = {}
        self._evaluation_pods: dict[TaskKey, set[str]] = {}

    def index(self, change: Change) -> None:
        """Keeps revisions, pools and evaluations by task and pods by pool, so that one task's decision doesn't look at all the others'."""
        if change.resource is TASK_MODEL_REVISIONS:
            _move(self._revisions, task_of_revision(change.old), task_of_revision(change.new), change.any)
        elif change.resource is MODEL_POOLS:
            self._index_members(change)
        elif change.resource is PODS:
            _move(self._pods, pool_of_child(change.old), pool_of_child(change.new), change.any)
            _move(self._evaluation_pods, task_of_evaluation(change.old), task_of_evaluation(change.new), change.any)
        elif change.resource is JOBS:
            _move(self._evaluation_jobs, task_of_evaluation(change.old), task_of_evaluation(change.new), change.any)

    def task(self, key: TaskKey) -> TaskModel | Unreadable | None:
        return self._cache.parsed(TASK_MODELS, TaskModel, key.name, key.namespace)

    def tasks(self, namespace: str) -> list[TaskModel]:
        return self._cache.readable(TASK_MODELS, TaskModel, namespace)

    def task_body(self, key: TaskKey) -> Json | None:
        return self._cache.get(TASK_MODELS, key.name, key.namespace)

    def unreadable_tasks(self, namespace: str) -> frozenset[str]:
        found = [body["metadata"]["name"] for body in self._cache.bodies(TASK_MODELS, namespace)]
        return frozenset(name for name in found if isinstance(self.task(TaskKey(namespace, name)), Unreadable))

    def revisions(self, task: TaskKey) -> tuple[TaskModelRevision, ...]:
        found = [self.revision(task.namespace, name) for name in sorted(self._revisions.get(task, ()))]
        return tuple(revision for revision in found if revision is not None)

    def revision(self, namespace: str, name: str) -> TaskModelRevision | None:
        if not self._cache.is_ours(TASK_MODEL_REVISIONS, name, namespace):
            return None
        found = self._cache.parsed(TASK_MODEL_REVISIONS, TaskModelRevision, name, namespace)
        return None if isinstance(found, Unreadable) else found

    def has_revision(self, namespace: str, name: str, uid: str) -> bool:
        """Whether there is this very revision."""
        body = self._cache.get(TASK_MODEL_REVISIONS, name, namespace)
        return body is not None and body["metadata"]["uid"] == uid

    def pools(self, namespace: str) -> tuple[ModelPool, ...]:
        return tuple(self._cache.readable(MODEL_POOLS, ModelPool, namespace, ours=True))

    def pools_of(self, task: TaskKey) -> list[PoolKey]:
        """Pools that have the task as a member."""
        return [PoolKey(task.namespace, name) for name in sorted(self._pools.get(task, ()))]

    def pool(self, key: PoolKey) -> ModelPool | Unreadable | None:
        return self._cache.parsed(MODEL_POOLS, ModelPool, key.name, key.namespace) if self._is_ours(MODEL_POOLS, key) else None

    def foreign_pool(self, key: PoolKey) -> Json | None:
        """A ModelPool that somebody else made."""
        return None if self._is_ours(MODEL_POOLS, key) else self._cache.get(MODEL_POOLS, key.name, key.namespace)

    def scaler_of(self, key: PoolKey) -> str:
        """The field manager, other than the operator, that the pool's replicas belong to; empty where there is none."""
        return self._cache.scaler(MODEL_POOLS, key.name, key.namespace)

    def serving_classes(self) -> tuple[ServingClass, ...]:
        return tuple(self._cache.readable(SERVING_CLASSES, ServingClass))

    def serving_class(self, name: str) -> ServingClass | Unreadable | None:
        return self._cache.parsed(SERVING_CLASSES, ServingClass, name)

    def serving_class_body(self, name: str) -> Json | None:
        return self._cache.get(SERVING_CLASSES, name)

    def namespace_labels(self, name: str) -> dict[str, str]:
        body = self._cache.get(NAMESPACES, name)
        return dict(body["metadata"].get("labels") or {}) if body is not None else {}

    def claims(self, namespace: str) -> frozenset[str]:
        """Claims that the namespace offers for artifacts. Only such are watched; what is being deleted is offered no more."""
        found = [body["metadata"] for body in self._cache.bodies(PERSISTENT_VOLUME_CLAIMS, namespace)]
        return frozenset(metadata["name"] for metadata in found if is_offered(metadata))

    def is_ending(self, namespace: str) -> bool:
        """Is the namespace being deleted? Nothing is made in it any more."""
        body = self._cache.get(NAMESPACES, namespace)
        return body is not None and "deletionTimestamp" in body["metadata"]

    def deployment(self, key: PoolKey) -> Json | None:
        return self._cache.get(DEPLOYMENTS, key.name, key.namespace) if self._is_ours(DEPLOYMENTS, key) else None

    def pods(self, key: PoolKey, pool_uid: str) -> tuple[Json, ...]:
        """Pods of this very pool; those of an earlier one of the same name are leaving."""
        found = [self._cache.get(PODS, name, key.namespace) for name in sorted(self._pods.get(key, ()))]
        return tuple(pod for pod in found if pod is not None and pod["metadata"]["labels"].get(names.LABEL_POOL_UID) == pool_uid)

    def evaluation_jobs(self, task: TaskKey) -> tuple[Json, ...]:
        """Jobs that measure revisions of the task; those that are being deleted count no more."""
        found = [self.evaluation_job(task.namespace, name) for name in sorted(self._evaluation_jobs.get(task, ()))]
        return tuple(job for job in found if job is not None and "deletionTimestamp" not in job["metadata"])

    def evaluation_job(self, namespace: str, name: str) -> Json | None:
        return self._cache.get(JOBS, name, namespace) if self._cache.is_ours(JOBS, name, namespace) else None

    def demand_record(self, task: TaskKey) -> Json | None:
        """The ConfigMap with what was asked of a task on the last days."""
        name = names.demand_record(task.name)
        return self._cache.get(CONFIG_MAPS, name, task.namespace) if self._cache.is_ours(CONFIG_MAPS, name, task.namespace) else None

    def evaluation_pods(self, task: TaskKey) -> tuple[Json, ...]:
        """Pods of these Jobs, of whichever."""
        found = [self._cache.get(PODS, name, task.namespace) for name in sorted(self._evaluation_pods.get(task, ()))]
        return tuple(pod for pod in found if pod is not None)

    def task_keys(self, namespace: str | None = None) -> Iterable[TaskKey]:
        """Of all TaskModels, those that can't be parsed among them."""
        for body in self._cache.bodies(TASK_MODELS, namespace):
            yield TaskKey(body["metadata"]["namespace"], body["metadata"]["name"])

    def pool_keys(self) -> Iterable[PoolKey]:
        for body in self._cache.bodies(MODEL_POOLS):
            yield PoolKey(body["metadata"]["namespace"], body["metadata"]["name"])

    def class_names(self) -> Iterable[str]:
        for body in self._cache.bodies(SERVING_CLASSES):
            yield body["metadata"]["name"]

    def condition_counts(self) -> ConditionCounts:
        """For the metrics."""
        counts: Counter[tuple[str, str, str]] = Counter()
        for resource, model in MODELS.items():
            for found in self._cache.readable(resource, model):
                # A status may hold what somebody else wrote there, and a label must not be a stranger's text.
                told = (condition for condition in _conditions(found) if condition.type in _CONDITION_TYPES)
                counts.update((resource.kind, condition.type, condition.status) for condition in told)
        return counts

    def shares(self) -> RevisionFigures:
        """For the metrics: percent of a task's conversations, where more than one revision has some."""
        steps = [task for task in self._cache.readable(TASK_MODELS, TaskModel) if len(task.status.traffic) > 1]
        return {
            (task.metadata.namespace, task.metadata.name, target.revision): target.weight_percent
            for task in steps
            for target in task.status.traffic
        }

    def scores(self) -> RevisionFigures:
        """For the metrics: percent on the golden set, of revisions that were measured."""
        found = {}
        for revision in self._cache.readable(TASK_MODEL_REVISIONS, TaskModelRevision, ours=True):
            report = revision.status.evaluation
            if report is not None and report.candidate is not None:
                key = (revision.metadata.namespace, revision.spec.task_model_name, revision.metadata.name)
                found[key] = report.candidate.score_percent
        return found

    def sizes(self) -> list[PoolFigures]:
        """For the metrics."""
        found = []
        for pool in self._cache.readable(MODEL_POOLS, ModelPool, ours=True):
            scaling = pool.status.scaling
            # A label must not be a stranger's text.
            reason = scaling.reason if scaling is not None and scaling.reason in set(ScalingReason) else ""
            found.append(
                PoolFigures(
                    namespace=pool.metadata.namespace,
                    pool=pool.metadata.name,
                    desired=pool.spec.replicas,
                    ready=pool.status.ready_replicas,
                    reason=reason,
                )
            )
        return found

    def _index_members(self, change: Change) -> None:
        name = change.any["metadata"]["name"]
        old, new = _tasks_of_pool(change.old), _tasks_of_pool(change.new)
        for task in old - new:
            self._pools[task].discard(name)
            if not self._pools[task]:
                del self._pools[task]
        for task in new - old:
            self._pools.setdefault(task, set()).add(name)

    def _is_ours(self, resource: Resource, key: PoolKey) -> bool:
        return self._cache.is_ours(resource, key.name, key.namespace)


def is_offered(metadata: Json) -> bool:
    """May artifacts come from the claim?"""
    offered = (metadata.get("labels") or {}).get(names.LABEL_ARTIFACTS) == names.ARTIFACTS_OFFERED
    return offered and "deletionTimestamp" not in metadata


def pool_of_child(body: Json | None) -> PoolKey | None:
    """The pool that a child or a pod says it belongs to."""
    name = ((body or {}).get("metadata", {}).get("labels") or {}).get(names.LABEL_POOL)
    return PoolKey(body["metadata"].get("namespace", ""), name) if body is not None and name else None


def task_of_evaluation(body: Json | None) -> TaskKey | None:
    """The TaskModel whose revision a Job, or a pod of one, measures."""
    labels = (body or {}).get("metadata", {}).get("labels") or {}
    name = labels.get(names.LABEL_TASK_MODEL) if names.LABEL_EVALUATION in labels else None
    return TaskKey(body["metadata"].get("namespace", ""), name) if body is not None and name else None


def task_of_revision(body: Json | None) -> TaskKey | None:
    name = ((body or {}).get("spec") or {}).get("taskModelName")
    return TaskKey(body["metadata"]["namespace"], name) if body is not None and isinstance(name, str) else None


def _tasks_of_pool(body: Json | None) -> set[TaskKey]:
    """The tasks that are members; an object of another version of the kind may be otherwise."""
    members = ((body or {}).get("spec") or {}).get("members")
    found = [member.get("taskModel") for member in members if isinstance(member, dict)] if isinstance(members, list) else []
    return {TaskKey(body["metadata"]["namespace"], name) for name in found if isinstance(name, str)} if body is not None else set()


def _conditions(found: Model) -> list[Condition]:
    status = getattr(found, "status", None)
    return list(getattr(status, "conditions", ()))


def _move(index: dict[K, set[str]], old: K | None, new: K | None, body: Json) -> None:
    """Puts the object's name under its new owner."""
    name = body["metadata"]["name"]
    if old is not None and old != new:
        index[old].discard(name)
        if not index[old]:
            del index[old]
    if new is not None:
        index.setdefault(new, set()).add(name)
