"""What was asked of a TaskModel on the last days, as a ConfigMap: it outlives the operator's process, and goes with the TaskModel."""

from collections.abc import Mapping

from taskfleet import names
from taskfleet.api.fields import Metadata
from taskfleet.resources.metadata import Json


def demand_record(task: Metadata, data: Mapping[str, str]) -> Json:
    """`data` is by date, as `planning.demandhistory` writes it."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": "TaskModel",
        "name": task.name,
        "uid": task.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_TASK_MODEL: task.name}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.demand_record(task.name), "namespace": task.namespace, "labels": labels, "ownerReferences": [owner]},
        "data": dict(data),
    }


def data_of(record: Json, task: Metadata) -> dict[str, str]:
    """What is in a record of this very TaskModel; nothing in one of an earlier of its name."""
    owners = record["metadata"].get("ownerReferences") or ()
    data = record.get("data")
    if not isinstance(data, dict) or all(owner.get("uid") != task.uid for owner in owners):
        return {}
    return {name: text for name, text in data.items() if isinstance(text, str)}
