"""Kubernetes JSON for tests of the operator's edges."""

from typing import Any

from taskfleet import names

Json = dict[str, Any]


def body(
    name: str,
    version: int,
    *,
    namespace: str = "finance",
    uid: str = "",
    labels: dict[str, str] | None = None,
    owned: dict[str, Any] | None = None,
    owner: str = "",
    **parts: Any,
) -> Json:
    """An object as the API server gives it. `owned`: the fields that are the operator's; `owner`: the kind of ours that owns it."""
    metadata: Json = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    if labels:
        metadata["labels"] = labels
    if owned is not None:
        entry = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": owned}
        metadata["managedFields"] = [{"manager": "kubectl", "operation": "Update", "fieldsV1": {}}, entry]
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": names.API_VERSION, "kind": owner, "name": "owner", "uid": "uid-owner"}]
    return {"metadata": metadata, **parts}


def task_model(name: str, version: int, *, namespace: str = "finance", **spec: Any) -> Json:
    base = {"source": "oci://registry.example/tiny", "revision": "v1"}
    return body(name, version, namespace=namespace, spec={"base": base, **spec})


def revision(name: str, version: int, *, task: str, namespace: str = "finance") -> Json:
    base = {"source": "oci://registry.example/tiny", "revision": "v1"}
    return body(name, version, namespace=namespace, owner="TaskModel", spec={"taskModelName": task, "base": base})


def pool(name: str, version: int, *members: tuple[str, str], namespace: str = "finance", status: Json | None = None, **spec: Any) -> Json:
    """`members`: pairs of TaskModel and revision."""
    found = [{"revision": one, "uid": f"uid-{one}", "taskModel": task, "role": "Stable"} for task, one in members]
    base = {"source": "oci://registry.example/tiny", "revision": "v1"}
    spec = {"servingClassName": "cpu", "base": base, "members": found, **spec}
    result = body(name, version, namespace=namespace, owner="TaskModelRevision", spec=spec)
    return {**result, "status": status} if status else result
