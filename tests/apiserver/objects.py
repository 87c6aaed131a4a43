"""Valid objects to start from, and one change at a time."""

import copy
from collections.abc import Callable

from tests.cluster.api import Object

Change = Callable[[Object], None]

SOURCE = "oci://registry.example/models/tiny"
DIGEST = "sha256:" + "a" * 64
UID = "6f1f5a3e-8f7e-4c3b-9c57-0d7f5c8f9a10"


def task_model(namespace: str, name: str = "invoice-total") -> Object:
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "base": {"source": SOURCE, "revision": "v1"},
            "adapter": {"source": "oci://registry.example/finance/total", "version": "v1"},
        },
    }


def revision(namespace: str, name: str = "invoice-total-0123456789") -> Object:
    spec = task_model(namespace)["spec"]
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskModelRevision",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"taskModelName": "invoice-total", **spec},
    }


def pool(namespace: str, name: str = "tiny-0a1b2c3d") -> Object:
    member = {"revision": "invoice-total-0123456789", "uid": UID, "taskModel": "invoice-total", "role": "Stable"}
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"servingClassName": "l4", "base": {"source": SOURCE, "revision": "v1"}, "members": [member]},
    }


def serving_class(name: str = "l4") -> Object:
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "ServingClass",
        "metadata": {"name": name},
        "spec": {
            "engine": {"type": "vLLM", "image": "registry.example/vllm:1"},
            "accelerator": {"resourceName": "nvidia.com/gpu"},
        },
    }


def claim(namespace: str, name: str, *, offered: bool) -> Object:
    """A PersistentVolumeClaim, with the label that offers it for artifacts or without."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": {"taskfleet.dev/artifacts": "true"} if offered else {}},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": f"{namespace}-{name}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def put(path: str, value: object) -> Change:
    """Sets the field at a dotted path; what lies between is made where it is missing."""

    def change(body: Object) -> None:
        *folders, last = path.split(".")
        place = body
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value

    return change


def drop(path: str) -> Change:
    """Removes the field at a dotted path."""

    def change(body: Object) -> None:
        *folders, last = path.split(".")
        place = body
        for folder in folders:
            place = place[folder]
        del place[last]

    return change


def changed(body: Object, *changes: Change) -> Object:
    result = copy.deepcopy(body)
    for change in changes:
        change(result)
    return result
