"""Objects as the API server shows them, and the records that the gateway makes of them."""

from collections.abc import Sequence
from typing import Any

from taskfleet.gateway.records import (
    Endpoint,
    PoolRecord,
    RevisionRecord,
    SliceRecord,
    TaskRecord,
    pool_record,
    revision_record,
    slice_record,
    task_record,
)

DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32


def traffic(revision: str, *, pool: str = "tiny-pool", weight: int = 100, shadow: int | None = None) -> dict[str, Any]:
    target = {"revision": revision, "uid": f"uid-{revision}", "pool": pool, "weightPercent": weight}
    return target if shadow is None else target | {"shadowPercent": shadow}


def task_json(
    name: str = "vendor",
    *,
    namespace: str = "finance",
    uid: str = "uid-1",
    to: list[dict[str, Any]] | None = None,
    deleted: bool = False,
    evaluation: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "uid": uid,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "generation": 3,
    }
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-02T04:04:05Z"
    return {
        "kind": "TaskModel",
        "metadata": metadata,
        "spec": {"evaluation": evaluation} if evaluation else {},
        "status": ({"traffic": to} if to is not None else {}) | ({"conditions": conditions} if conditions is not None else {}),
    }


def unavailable(reason: str, message: str = "no node can take a pod", *, generation: int = 3) -> dict[str, Any]:
    return {"type": "Available", "status": "False", "reason": reason, "message": message, "observedGeneration": generation}


def task(name: str = "vendor", **arguments: Any) -> TaskRecord:
    return task_record(task_json(name, **arguments))


def revision_json(
    name: str = "vendor-1",
    *,
    of: str = "vendor",
    namespace: str = "finance",
    owner: str = "uid-1",
    digest: str | None = DIGEST,
    phase: str = "Stable",
    adapter: bool = True,
    created: str = "2026-01-02T03:04:05Z",
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    spec: dict[str, Any] = {"taskModelName": of, "base": {"source": "oci://registry/base", "revision": "v1"}, "task": settings or {}}
    if adapter:
        spec["adapter"] = {"source": "oci://registry/adapter", "version": "v1"}
    return {
        "kind": "TaskModelRevision",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": created,
            "ownerReferences": [{"kind": "TaskModel", "name": of, "uid": owner, "controller": True}],
        },
        "spec": spec,
        "status": {"phase": phase} | ({"digest": digest} if digest else {}),
    }


def revision(name: str = "vendor-1", **arguments: Any) -> RevisionRecord:
    return revision_record(revision_json(name, **arguments))


def slice_json(
    *addresses: str, pool: str = "tiny-pool", namespace: str = "finance", name: str = "slice-1", port: int = 8080, ready: bool | None = True
) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"kubernetes.io/service-name": pool, "taskfleet.dev/pool": pool, "taskfleet.dev/pool-uid": f"uid-{pool}"},
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {} if ready is None else {"ready": ready}} for address in addresses],
    }


def endpoints(*addresses: str, **arguments: Any) -> SliceRecord:
    record = slice_record(slice_json(*addresses, **arguments))
    assert record is not None
    return record


def pool(name: str = "tiny-pool", *, namespace: str = "finance", uid: str | None = None) -> PoolRecord:
    return pool_record({"metadata": {"namespace": namespace, "name": name, "uid": uid or f"uid-{name}"}})


def at(
    *addresses: str, starting: Sequence[str] = (), pool: str = "tiny-pool", namespace: str = "finance", name: str = "slice-1"
) -> SliceRecord:
    """A slice whose endpoints stand at host:port addresses of this machine, each its own port."""
    ready, others = (tuple(Endpoint(address, f"uid-{pool}") for address in sorted(some)) for some in (addresses, starting))
    return SliceRecord(namespace=namespace, name=name, pool=pool, pool_uid=f"uid-{pool}", endpoints=ready, starting=others)
