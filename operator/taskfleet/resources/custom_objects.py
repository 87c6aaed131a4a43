"""The operator's own objects from their drafts, as Kubernetes JSON for server-side apply."""

from taskfleet import names
from taskfleet.api.fields import Model
from taskfleet.planning.plans import PoolDraft, RevisionDraft
from taskfleet.resources.metadata import Json


def task_model_revision(draft: RevisionDraft) -> Json:
    """Goes with its TaskModel."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": "TaskModel",
        "name": draft.task_model,
        "uid": draft.task_model_uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TaskModelRevision",
        "metadata": {"name": draft.name, "namespace": draft.namespace, "labels": dict(draft.labels), "ownerReferences": [owner]},
        "spec": draft.spec.to_json(),
    }


def model_pool(draft: PoolDraft) -> Json:
    """Goes with the last of its members: an owned object is collected when all of its owners are gone."""
    owners = [
        {
            "apiVersion": names.API_VERSION,
            "kind": "TaskModelRevision",
            "name": owner.revision,
            "uid": owner.uid,
            "controller": False,
            "blockOwnerDeletion": False,
        }
        for owner in draft.owners
    ]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelPool",
        "metadata": {"name": draft.name, "namespace": draft.namespace, "labels": dict(draft.labels), "ownerReferences": owners},
        "spec": {name: value for name, value in draft.spec.to_json().items() if name != "replicas" or not draft.scaled_by_other},
    }


def status_of(kind: str, name: str, status: Model, *, namespace: str = "", resource_version: str = "") -> Json:
    """The body for the status subresource. With a `resource_version` a stale writer's fails."""
    metadata = {"name": name, "namespace": namespace, "resourceVersion": resource_version}
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {key: value for key, value in metadata.items() if value},
        "status": status.to_json(),
    }
