"""Which keys are to be looked at when an object has changed.

Too many keys cost time, too few leave something unnoticed; each line says what the other object's decision takes from this one.
"""

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from taskfleet.api.modelpool import ModelPool
from taskfleet.controller.cache import Change, Json
from taskfleet.controller.fleet import Fleet, is_offered, pool_of_child, task_of_evaluation, task_of_revision
from taskfleet.controller.keys import ClassKey, Key, PoolKey, TaskKey
from taskfleet.kube.resources import (
    MODEL_POOLS,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    SERVING_CLASSES,
    TASK_MODEL_REVISIONS,
    TASK_MODELS,
)
from taskfleet.planning.claims import claim_of
from taskfleet.planning.packing_key import key_of_pool


def keys_of(change: Change, fleet: Fleet) -> Iterator[Key]:
    """The keys whose decisions take something from the changed object."""
    if change.resource is TASK_MODELS:
        yield _task_key(change.any)
    elif change.resource is TASK_MODEL_REVISIONS:
        yield from _of_revision(change, fleet)
    elif change.resource is MODEL_POOLS:
        yield from _of_pool(change, fleet)
    elif change.resource is SERVING_CLASSES:
        yield from _of_class(change, fleet)
    elif change.resource is NAMESPACES:
        # Its labels decide which classes may be used.
        if change.old is not None and _labels(change.old) != _labels(change.new):
            yield from fleet.task_keys(change.any["metadata"]["name"])
    elif change.resource is PERSISTENT_VOLUME_CLAIMS:
        yield from _of_claim(change, fleet)
    else:
        # Children, Jobs and pods; an object whose label was changed belongs to two pools at this moment.
        for owner_of in (pool_of_child, task_of_evaluation):
            yield from {key for body in (change.old, change.new) if (key := owner_of(body)) is not None}


def _task_key(body: Json) -> TaskKey:
    return TaskKey(body["metadata"]["namespace"], body["metadata"]["name"])


def _of_revision(change: Change, fleet: Fleet) -> Iterator[Key]:
    if change.foreign:
        yield from _waiting_for_the_name(change, fleet)
        return
    yield from {key for body in (change.old, change.new) if (key := task_of_revision(body)) is not None}
    # A pool says of a member without digest whether it is waiting for one.
    name, namespace = change.any["metadata"]["name"], change.any["metadata"]["namespace"]
    for pool in fleet.pools(namespace):
        if any(member.revision == name for member in pool.spec.members):
            yield PoolKey(namespace, pool.metadata.name)


def _of_pool(change: Change, fleet: Fleet) -> Iterator[Key]:
    key = PoolKey(change.any["metadata"]["namespace"], change.any["metadata"]["name"])
    yield key
    if change.foreign:
        yield from _waiting_for_the_name(change, fleet)
        return
    old, new = change.old or {}, change.new or {}
    if change.new is None or _written(old) != _written(new):
        # Only packing writes the spec and the owners; somebody else's edit is put right by it.
        found = fleet.pool(key) if change.new is not None else _readable(change.old)
        if isinstance(found, ModelPool):
            yield key_of_pool(found)
    yield from (TaskKey(key.namespace, name) for name in sorted(_tasks_told(old, new)))


def _waiting_for_the_name(change: Change, fleet: Fleet) -> Iterator[Key]:
    """Somebody else's object is none of our business, but when it goes, whoever could not have its name may go on."""
    if change.new is None:
        yield from fleet.task_keys(change.any["metadata"]["namespace"])


def _tasks_told(old: Json, new: Json) -> set[str]:
    """TaskModels for which the pool says something else than before."""
    if _conditions(old) != _conditions(new):
        return set(_members(old).values()) | set(_members(new).values())
    owner = _members(old) | _members(new)
    changed = {revision for revision, _ in set(_told(old).items()) ^ set(_told(new).items())}
    return {owner[revision] for revision in changed if revision in owner}


def _members(pool: Json) -> dict[str, str]:
    """The TaskModel of each member revision."""
    return {member["revision"]: member["taskModel"] for member in _entries(pool, "spec", "members") if "taskModel" in member}


def _told(pool: Json) -> dict[str, str]:
    """Everything that the pool says of each member."""
    assigned = {member["revision"]: repr(member) for member in _entries(pool, "spec", "members")}
    states = {member["revision"]: repr(member) for member in _entries(pool, "status", "members")}
    return {revision: f"{assigned.get(revision)} {states.get(revision)}" for revision in assigned.keys() | states.keys()}


def _entries(pool: Json, part: str, name: str) -> list[Json]:
    """Members of a list that have a revision; an object of another version of the kind may be otherwise."""
    found = (pool.get(part) or {}).get(name)
    return [entry for entry in found if isinstance(entry, dict) and "revision" in entry] if isinstance(found, list) else []


def _conditions(pool: Json) -> list[tuple[object, ...]]:
    found: Iterable[Json] = (pool.get("status") or {}).get("conditions") or ()
    return [tuple(condition.get(name) for name in ("type", "status", "reason", "message")) for condition in found]


def _written(pool: Json) -> tuple[object, ...]:
    metadata = pool.get("metadata") or {}
    return pool.get("spec"), metadata.get("ownerReferences"), metadata.get("labels"), metadata.get("deletionTimestamp")


def _readable(body: Json | None) -> ModelPool | None:
    """A deleted pool, which is no longer in the cache. One that could not be read had no packing that knew of it."""
    try:
        return ModelPool.model_validate(body) if body is not None else None
    except ValidationError:
        return None


def _of_class(change: Change, fleet: Fleet) -> Iterator[Key]:
    name = change.any["metadata"]["name"]
    yield ClassKey(name)
    if change.old is not None and change.new is not None and _meant(change.old) == _meant(change.new):
        return
    for pool_key in fleet.pool_keys():
        pool = fleet.pool(pool_key)
        if isinstance(pool, ModelPool) and pool.spec.serving_class_name == name:
            yield pool_key
            yield key_of_pool(pool)
    for key in fleet.task_keys():
        body = fleet.task_body(key) or {}
        chosen = (body.get("spec") or {}).get("servingClassName") or (body.get("status") or {}).get("servingClassName")
        # Without a class a task waits for a default.
        if chosen in {name, None}:
            yield key


def _of_claim(change: Change, fleet: Fleet) -> Iterator[Key]:
    """TaskModels whose artifacts come from it, where it is offered from now on or no longer."""
    offered = [body is not None and is_offered(body["metadata"]) for body in (change.old, change.new)]
    if offered[0] == offered[1]:
        return
    metadata = change.any["metadata"]
    for task in fleet.tasks(metadata["namespace"]):
        sources = [task.spec.base.source, task.spec.adapter.source if task.spec.adapter is not None else ""]
        if metadata["name"] in {claim_of(source) for source in sources}:
            yield TaskKey(task.metadata.namespace, task.metadata.name)


def _meant(body: Json) -> tuple[object, ...]:
    return body.get("spec"), body["metadata"].get("annotations"), body["metadata"].get("deletionTimestamp")


def _labels(body: Json | None) -> object:
    return (body or {}).get("metadata", {}).get("labels")
