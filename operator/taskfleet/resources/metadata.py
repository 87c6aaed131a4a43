"""What all children of a ModelPool have in common: names, labels, owner references."""

from typing import Any

from taskfleet import names
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import Resources
from taskfleet.planning.pool import selector

Json = dict[str, Any]

# What the pods are, for people and their tools.
_RECOMMENDED = {"app.kubernetes.io/name": "taskfleet-pool", "app.kubernetes.io/component": "pool"}


def child_labels(pool: ModelPool) -> dict[str, str]:
    """The labels of every child and of the pods."""
    return {**_RECOMMENDED, **selector(pool), names.LABEL_POOL_UID: pool.metadata.uid}


def route_selector(pool: ModelPool) -> dict[str, str]:
    """The pods that requests may go to: those of this very pool. Tokens are minted for its UID, so pods of an earlier pool of the same name would refuse them."""
    return {names.LABEL_POOL: pool.metadata.name, names.LABEL_POOL_UID: pool.metadata.uid}


def child_metadata(pool: ModelPool, name: str | None = None) -> Json:
    """Every child goes with the pool, and has its name unless another one is given."""
    return {
        "name": name or pool.metadata.name,
        "namespace": pool.metadata.namespace,
        "labels": child_labels(pool),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": "ModelPool",
                "name": pool.metadata.name,
                "uid": pool.metadata.uid,
                "controller": True,
                # Blocking would need a right on the pool's finalizers, and nothing here has to outlive anything.
                "blockOwnerDeletion": False,
            }
        ],
    }


def given(fields: Json) -> Json:
    """Without what is empty: an empty field in an apply would claim it and take it from others, and the API server drops some, so that the live object would never equal ours."""
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


def container_resources(resources: Resources, devices: dict[str, str] | None = None) -> Json:
    """Requests and limits of a container. Extended resources stand in both, and equal, as Kubernetes asks."""
    extended = devices or {}
    return given({"requests": {**resources.requests, **extended}, "limits": {**resources.limits, **extended}})
