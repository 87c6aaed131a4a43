"""The annotation by which Kubernetes knows which pods of a ReplicaSet to delete first."""

from taskfleet import names
from taskfleet.planning.snapshot import PodView
from taskfleet.resources.metadata import Json


def deletion_cost(pod: PodView, *, namespace: str, cost: int) -> Json:
    """For server-side apply: nothing else of the pod is touched, and with its UID no other pod of that name."""
    annotations = {names.ANNOTATION_DELETION_COST: str(cost)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": namespace, "uid": pod.uid, "annotations": annotations},
    }
