"""Writes to the API server, and skips those that would change nothing: an apply of what is there already costs the server as much as one that changes something.

An apply is skipped while the intent is the one applied last and the fields that are ours in the live object are those that this apply left: whoever changes or removes one of
them takes it out of our field set. So drift is noticed without comparing values, and fields of others are none of our business. An object that has the name and was made by
somebody else is not written at all: an apply would take its fields and make its end depend on ours.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.fields import Metadata, Model
from taskfleet.controller import metrics
from taskfleet.controller.cache import Cache, Json, ObjectKey, is_ours, key_of, owned_fields
from taskfleet.controller.queue import RetryError
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import ConflictError, ForbiddenError, InvalidError, KubeError, MisfitError, NotFoundError, ThrottledError
from taskfleet.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from taskfleet.logs import fields
from taskfleet.planning.snapshot import Refusal
from taskfleet.resources.custom_objects import status_of

log = logging.getLogger(__name__)

CHILDREN = (DEPLOYMENTS, SERVICES, CONFIG_MAPS, POD_DISRUPTION_BUDGETS, NETWORK_POLICIES, SERVICE_ACCOUNTS)
# Known to the watches by their label only.
_SEEN_BY_LABEL = frozenset({*CHILDREN, JOBS})
_CHILD_BY_KIND = {resource.kind: resource for resource in CHILDREN}

_OUR_CONDITIONS = frozenset(kind.value for kind in ConditionType)

# A namespace that is ending takes no new objects; nothing of ours is missing there.
_ENDING = "because it is being terminated"


class RefusedError(RetryError):
    """The object can't be written as things are. Whoever can say so on an object does; for all others it is a reason to try again much later."""

    def __init__(self, message: str, *, least_seconds: float, reason: Reason = Reason.API_REFUSED) -> None:
        super().__init__(message, least_seconds=least_seconds)
        self.refusal = Refusal(reason, message)


@dataclass(frozen=True, slots=True)
class _Applied:
    intent: str
    uid: str
    owned: str


class Writer:
    """All writes of objects and statuses. Answers go into the cache at once, so that the next decision sees them.

    Every method raises RefusedError where the object is at fault, and RetryError where it is worth another attempt. `may_write` says whether this replica may still write: one
    that was stopped for a while wakes up with decisions of the time before. `refused_retry_seconds`: when what was refused is worth another attempt.
    """

    def __init__(
        self, kube: Kube, cache: Cache, *, may_write: Callable[[], bool] = lambda: True, refused_retry_seconds: float = 30.0
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._may_write = may_write
        self._refused_retry_seconds = refused_retry_seconds
        self._applied: dict[tuple[Resource, ObjectKey], _Applied] = {}

    async def apply_child(self, body: Json) -> bool:
        """Applies a child of a ModelPool; True where a write was sent."""
        return await self.apply(_CHILD_BY_KIND[body["kind"]], body)

    async def apply(self, resource: Resource, body: Json, *, adopt: bool = False, resource_version: str = "") -> bool:
        """Applies an object; True where a write was sent. With a `resource_version` one that was decided on an older object fails.

        `adopt`: after a restart, a live object that has everything of `body` counts as applied. Right for objects that nobody else writes, and saves a write for each of them.
        """
        key = key_of(body)
        intent = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
        live = await self._live(resource, key)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            raise RetryError(f"{resource.kind} {key[0]}/{key[1]} is being deleted", least_seconds=1.0)
        if live is not None and self._stands(resource, key, intent, live, body if adopt else None):
            metrics.APPLIES.labels(resource.kind, "skipped").inc()
            return False
        versioned = {**body, "metadata": {**body["metadata"], "resourceVersion": resource_version}} if resource_version else body
        answer = await self._send(resource, versioned, live)
        self._cache.put(resource, answer)
        self._remember(resource, key, intent, answer["metadata"]["uid"], owned_fields(answer["metadata"]))
        return True

    async def apply_part(self, resource: Resource, body: Json) -> bool:
        """Applies a few fields of an object that others made; False where that very object (`metadata.uid`) is gone."""
        self._check_lease()
        try:
            answer = await self._kube.apply(resource, body)
        except (NotFoundError, ConflictError):
            return False
        except KubeError as error:
            raise self._told(resource, body, error) from error
        metrics.APPLIES.labels(resource.kind, "sent").inc()
        self._cache.put(resource, answer)
        return True

    async def write_status(self, resource: Resource, metadata: Metadata, before: Model, after: Model) -> bool:
        """Writes a status that differs from the one before; True where a write was sent. It fails where the object has changed since the decision."""
        if before == after:
            return False
        body = status_of(resource.kind, metadata.name, after, namespace=metadata.namespace, resource_version=metadata.resource_version)
        self._check_lease()
        try:
            answer = await self._send_status(resource, body)
        except NotFoundError:
            return False
        except ConflictError as error:
            # The cache will have the newer version in a moment.
            raise RetryError(error.message) from error
        except KubeError as error:
            raise self._told(resource, body, error) from error
        self._cache.put(resource, answer)
        return True

    async def _send_status(self, resource: Resource, body: Json) -> Json:
        """Server-side apply; a plain patch of an object that does not fit its definition, and once more for the conditions that such a patch left to nobody."""
        try:
            answer = await self._kube.apply_status(resource, body)
        except MisfitError:
            return await self._kube.replace_status(resource, body)
        kept = _without_leftovers(answer, body)
        if kept is None:
            return answer
        metadata = {**body["metadata"], "resourceVersion": answer["metadata"]["resourceVersion"]}
        return await self._kube.replace_status(resource, {**body, "metadata": metadata, "status": {"conditions": kept}})

    async def delete(self, resource: Resource, name: str, namespace: str, *, uid: str) -> None:
        """Deletes the object of that UID; one that is gone, or another of that name, is left alone."""
        self._check_lease()
        try:
            was_there = await self._kube.delete(resource, name, namespace, uid=uid)
        except ConflictError:
            log.info("not deleted: another object has the name now", extra=fields(kind=resource.kind, name=f"{namespace}/{name}"))
            return
        except KubeError as error:
            raise self._told(resource, {"metadata": {"name": name, "namespace": namespace}}, error) from error
        self.forget(resource, (namespace, name))
        if was_there:
            log.info("deleted", extra=fields(kind=resource.kind, name=f"{namespace}/{name}"))

    def forget(self, resource: Resource, key: ObjectKey) -> None:
        """The object is gone; nothing need be remembered of it."""
        self._applied.pop((resource, key), None)

    async def _live(self, resource: Resource, key: ObjectKey) -> Json | None:
        """The object of that name, if it is ours; children without our label are known to no watch. Raises RefusedError where it is somebody else's."""
        live = self._cache.get(resource, key[1], key[0])
        ours = live is not None and self._cache.is_ours(resource, key[1], key[0])
        if live is None and resource in _SEEN_BY_LABEL:
            try:
                found = (await self._kube.list(resource, namespace=key[0], field_selector=f"metadata.name={key[1]}")).items
            except KubeError as error:
                raise self._classified(resource, {"metadata": {"name": key[1], "namespace": key[0]}}, error) from error
            live = found[0] if found else None
            ours = live is not None and is_ours(live)
        if live is not None and not ours:
            taken = f"{resource.kind} {key[0]}/{key[1]} exists and was not made by the operator; it is left alone. Rename or delete it"
            raise RefusedError(taken, least_seconds=self._refused_retry_seconds, reason=Reason.NAME_TAKEN)
        return live

    def _check_lease(self) -> None:
        if not self._may_write():
            raise RetryError("the lease may have run out, nothing is written", least_seconds=1.0)

    def _told(self, resource: Resource, body: Json, error: KubeError) -> Exception:
        """A refusal that no condition will tell of is told in the log."""
        found = self._classified(resource, body, error)
        if isinstance(found, RefusedError):
            log.warning("write refused", extra=fields(kind=resource.kind, name="/".join(key_of(body)), why=error.message))
        return found

    def _classified(self, resource: Resource, body: Json, error: KubeError) -> Exception:
        name = "/".join(part for part in key_of(body) if part)
        if isinstance(error, ForbiddenError) and _ENDING in error.message:
            return RetryError(error.message, least_seconds=10.0)
        if isinstance(error, InvalidError | ForbiddenError):
            message = f"the API server refused {resource.kind} {name}: {error.message}"
            return RefusedError(message, least_seconds=self._refused_retry_seconds)
        log.warning("write failed", extra=fields(kind=resource.kind, name=name, why=error.message, status=error.status))
        return RetryError(error.message, least_seconds=error.retry_after if isinstance(error, ThrottledError) else 0.0)

    def _stands(self, resource: Resource, key: ObjectKey, intent: str, live: Json, adoptable: Json | None) -> bool:
        applied, owned = self._applied.get((resource, key)), self._cache.owned(resource, key[1], key[0]) or ""
        if applied is None and adoptable is not None and contains(live, adoptable):
            self._remember(resource, key, intent, live["metadata"]["uid"], owned)
            return True
        return applied is not None and applied == _Applied(intent, live["metadata"]["uid"], owned)

    def _remember(self, resource: Resource, key: ObjectKey, intent: str, uid: str, owned: str) -> None:
        """`owned` is as of the apply's own answer: the cache may have heard already of what somebody else changed after it."""
        self._applied[(resource, key)] = _Applied(intent, uid, owned)

    async def _send(self, resource: Resource, body: Json, live: Json | None) -> Json:
        self._check_lease()
        try:
            answer = await self._kube.apply(resource, body)
        except KubeError as error:
            raise self._classified(resource, body, error) from error
        metrics.APPLIES.labels(resource.kind, "sent").inc()
        before = live["metadata"] if live is not None else {}
        if before.get("resourceVersion") != answer["metadata"]["resourceVersion"]:
            what = "created" if before.get("uid") != answer["metadata"]["uid"] else "changed"
            log.info(what, extra=fields(kind=resource.kind, name="/".join(part for part in key_of(body) if part)))
        return answer


def _without_leftovers(live: Json, intent: Json) -> list[Json] | None:
    """The conditions without those of ours that are no longer meant; None where there are no such. Conditions of others stay."""
    meant = {condition["type"] for condition in intent["status"].get("conditions") or ()}
    found = (live.get("status") or {}).get("conditions") or []
    kept = [condition for condition in found if condition["type"] in meant or condition["type"] not in _OUR_CONDITIONS]
    return kept if len(kept) < len(found) else None


def contains(live: Any, intent: Any) -> bool:
    """Has `live` everything of `intent`? Further fields of objects and further owners don't count; lists have the same length, in any order."""
    if isinstance(intent, Mapping):
        return isinstance(live, Mapping) and all(
            name in live and (_covers(live[name], value) if name == "ownerReferences" else contains(live[name], value))
            for name, value in intent.items()
        )
    if isinstance(intent, list):
        return isinstance(live, list) and len(live) == len(intent) and _covers(live, intent)
    return bool(live == intent)


def _covers(live: Any, intent: list[Any]) -> bool:
    return isinstance(live, list) and all(any(contains(one, wanted) for one in live) for wanted in intent)
