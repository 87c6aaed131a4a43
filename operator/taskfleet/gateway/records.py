"""What the gateway keeps of the cluster's objects: small frozen records, read tolerantly from Kubernetes' JSON.

Nothing here decides anything. An object that can't be read raises UnreadableObjectError, and the caller keeps what it knew.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from taskfleet.api.conditions import CANNOT_START, ConditionType
from taskfleet.api.fields import Model
from taskfleet.api.taskmodel import Metric, Task, TrafficTarget
from taskfleet.gateway.shaping import InvalidTaskError, Shaper, compile_task
from taskfleet.names import AGENT_PORT, LABEL_POOL, LABEL_POOL_UID

Key = tuple[str, str]  # namespace, name

# Phases of revisions that once had all traffic; calling any other by name needs the right to preview.
PROMOTED_PHASES = frozenset({"Stable", "Superseded"})
STABLE_PHASE = "Stable"

# Of a condition's message, in an error for clients.
MAX_WORDS = 500

LABEL_SERVICE = "kubernetes.io/service-name"  # Kubernetes' own, on every EndpointSlice


class UnreadableObjectError(Exception):
    """The object is not what its CRD promises; the message says which and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A TaskModel."""

    namespace: str
    name: str
    uid: str
    created: str
    deleted: bool
    traffic: tuple[TrafficTarget, ...]
    metric: Metric | None  # by which answers of two revisions are compared; None where the task is not evaluated
    tolerance_percent: float
    cannot_start: str | None = None  # why no pod can answer for it before somebody acts, in words for clients; None where one may

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """A TaskModelRevision."""

    namespace: str
    name: str
    uid: str
    created: str
    task_model: str
    owner_uid: str  # of the TaskModel that it is a version of; "" where nobody owns it
    has_adapter: bool
    digest: str | None
    phase: str
    shaper: Shaper

    @property
    def promoted(self) -> bool:
        """It has, or had, all traffic."""
        return self.phase in PROMOTED_PHASES


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecord:
    """A ModelPool. Its UID is the API server's word, and so the audience of what is sent to its pods."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An agent's address, and the UID of the pool whose token it wants."""

    address: str  # host:port, as in a URL
    pool_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRecord:
    """An EndpointSlice of a pool's Service: its Ready agents, and those of pods that are not Ready (yet)."""

    namespace: str
    name: str
    pool: str
    pool_uid: str  # as its labels claim
    endpoints: tuple[Endpoint, ...]
    starting: tuple[Endpoint, ...] = ()


class _Scoring(Model):
    """The part of `spec.evaluation` that says when two answers are the same."""

    metric: Metric | None = None
    tolerance_percent: float = 0


def task_record(item: dict[str, Any]) -> TaskRecord:
    """Of a TaskModel. Raises UnreadableObjectError."""
    metadata = item["metadata"]
    try:
        traffic = tuple(TrafficTarget.model_validate(target) for target in (item.get("status") or {}).get("traffic") or ())
        evaluation = _Scoring.model_validate((item.get("spec") or {}).get("evaluation") or {})
    except ValidationError as error:
        raise UnreadableObjectError(f"TaskModel {metadata['namespace']}/{metadata['name']}: {error}") from None
    return TaskRecord(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata.get("creationTimestamp", ""),
        deleted="deletionTimestamp" in metadata,
        traffic=traffic,
        metric=evaluation.metric,
        tolerance_percent=evaluation.tolerance_percent,
        cannot_start=_cannot_start(item),
    )


def _cannot_start(item: dict[str, Any]) -> str | None:
    """What the condition Available says where it names a reason that doesn't pass by itself, of the spec as it is now."""
    for condition in (item.get("status") or {}).get("conditions") or ():
        if condition.get("type") != ConditionType.AVAILABLE or condition.get("status") != "False":
            continue
        is_old = condition.get("observedGeneration", 0) < item["metadata"].get("generation", 0)
        if condition.get("reason") in CANNOT_START and not is_old:
            words = " ".join(str(condition.get("message", "")).split())[:MAX_WORDS]
            return f"{words} ({condition['reason']})"
    return None


def revision_record(item: dict[str, Any]) -> RevisionRecord:
    """Of a TaskModelRevision. Raises UnreadableObjectError."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    try:
        shaper = compile_task(Task.model_validate(spec.get("task") or {}))
    except (ValidationError, InvalidTaskError) as error:
        raise UnreadableObjectError(f"TaskModelRevision {metadata['namespace']}/{metadata['name']}: spec.task: {error}") from None
    return RevisionRecord(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata.get("creationTimestamp", ""),
        task_model=spec["taskModelName"],
        owner_uid=next((owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")), ""),
        has_adapter=spec.get("adapter") is not None,
        digest=status.get("digest"),
        phase=status.get("phase") or "",
        shaper=shaper,
    )


def pool_record(item: dict[str, Any]) -> PoolRecord:
    """Of a ModelPool."""
    metadata = item["metadata"]
    return PoolRecord(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def slice_record(item: dict[str, Any]) -> SliceRecord | None:
    """Of an EndpointSlice; None where it is not of a pool's Service."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    pool, pool_uid = labels.get(LABEL_POOL), labels.get(LABEL_POOL_UID)
    # The Service has the pool's name: one that only borrows the labels is not the operator's.
    if not pool or not pool_uid or labels.get(LABEL_SERVICE) != pool:
        return None
    port = next((port["port"] for port in item.get("ports") or () if port.get("port")), AGENT_PORT)
    ready, starting = list[Endpoint](), list[Endpoint]()
    for endpoint in item.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        found = [
            Endpoint(f"[{address}]:{port}" if ":" in address else f"{address}:{port}", pool_uid)
            for address in endpoint["addresses"][:1]  # further addresses are the same pod again (EndpointSlice API)
        ]
        # An unknown readiness counts as ready (EndpointSlice API); terminating ones are never ready.
        if conditions.get("ready") is not False:
            ready += found
        elif not conditions.get("terminating"):
            starting += found
    return SliceRecord(
        namespace=metadata["namespace"],
        name=metadata["name"],
        pool=pool,
        pool_uid=pool_uid,
        endpoints=in_order(ready),
        starting=in_order(starting),
    )


def in_order(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """By address, so that the same pods are the same value however they were told."""
    return tuple(sorted(endpoints, key=lambda endpoint: endpoint.address))
