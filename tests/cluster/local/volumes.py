"""Folders of the machine as read-only claims: how a gigabyte of engine gets into pods without becoming an image."""

from pathlib import Path

from .instance import Instance
from .kubectl import apply, kubectl

CAPACITY = "10Gi"  # a number the API asks for; nothing measures it on a folder


def provide_read_only_claim(instance: Instance, *, node_name: str, folder: Path, namespace: str, claim: str) -> None:
    """Makes a PersistentVolume of `folder` and a bound claim `namespace/claim` that pods may mount read-only, several at a time.

    Pod Security `restricted` allows claims and forbids hostPath volumes in pods. The namespace must exist. A volume left by a deleted claim of the
    same name is made afresh.
    """
    name = f"{namespace}-{claim}"
    phase = kubectl(instance, "get", "persistentvolume", name, "--ignore-not-found", "-o", "jsonpath={.status.phase}").strip()
    if phase in {"Released", "Failed"}:
        kubectl(instance, "delete", "persistentvolume", name)
    volume: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": claim},
            "local": {"path": str(folder)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node_name]}]},
                    ]
                }
            },
        },
    }
    wanted: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": {"storage": CAPACITY}},
        },
    }
    apply(instance, [volume, wanted])
    kubectl(
        instance,
        "wait",
        f"--namespace={namespace}",
        "--for=jsonpath={.status.phase}=Bound",
        f"persistentvolumeclaim/{claim}",
        "--timeout=60s",
    )
