"""Nodes and devices: what the scheduler says reaches the TaskModel, and any device's resource name works."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.api import NODE, POD, TASK_MODEL, Api, Object, condition, eventually
from tests.cluster.fleet import Fleet
from tests.cluster.oracles import ready, settled
from tests.cluster.story import tell

LABEL = "example.com/rack"
SCARCE = "example.com/scarce-device"


@pytest.fixture
def node(fleet: Fleet) -> Object:
    return fleet.api.list(NODE)[0]


@contextmanager
def more_devices(api: Api, node: str, count: str) -> Iterator[None]:
    resources = {"capacity": {SCARCE: count}, "allocatable": {SCARCE: count}}
    api.patch(NODE, node, change={"status": resources}, subresource="status")
    try:
        yield
    finally:
        api.patch(NODE, node, change={"status": {place: {SCARCE: None} for place in resources}}, subresource="status")


def told_unschedulable(fleet: Fleet, namespace: str, name: str) -> str:
    """The message that the TaskModel gives, once it says Unschedulable."""

    def check() -> str:
        task = fleet.api.get(TASK_MODEL, name, namespace)
        found = condition(task, "Available")
        assert found, "no condition Available"
        assert (found["status"], found["reason"]) == ("False", "Unschedulable"), found
        return str(found["message"])

    return eventually(check, what=f"{name} says Unschedulable", within=60, describe=lambda: tell(fleet.api, namespace))


def scheduler_message(fleet: Fleet, namespace: str) -> str:
    (pod,) = fleet.api.list(POD, namespace)
    return str((condition(pod, "PodScheduled") or {})["message"])


def test_missing_node_is_told_and_recovers_by_itself(fleet: Fleet, node: Object) -> None:
    fleet.serving_class("far-rack", scheduling={"nodeSelector": {LABEL: "far"}})
    name = node["metadata"]["name"]
    with fleet.tenant("far") as tenant:
        artifact = fleet.artifact("far")
        tenant.apply("far", artifact, serving_class="far-rack")
        message = told_unschedulable(fleet, tenant.namespace, "far")
        assert scheduler_message(fleet, tenant.namespace) in message
        settled(fleet.api, tenant.namespace)
        assert tenant.chat("far").status == 503
        try:
            fleet.api.patch(NODE, name, change={"metadata": {"labels": {LABEL: "far"}}})
            ready(fleet.api, tenant.namespace)
            assert artifact.mark in tenant.chat("far").text
        finally:
            fleet.api.patch(NODE, name, change={"metadata": {"labels": {LABEL: None}}})
    fleet.remove_class("far-rack")


def test_missing_device_is_told_and_recovers_by_itself(fleet: Fleet, node: Object) -> None:
    fleet.serving_class("scarce", accelerator={"resourceName": SCARCE, "count": 2})
    name = node["metadata"]["name"]
    with fleet.tenant("scarce") as tenant:
        tenant.apply("scarce", fleet.artifact("far"), serving_class="scarce")
        assert SCARCE in told_unschedulable(fleet, tenant.namespace, "scarce")
        with more_devices(fleet.api, name, "2"):
            ready(fleet.api, tenant.namespace)
            # The device is given back before the node loses it.
            tenant.remove("scarce")
            eventually(lambda: not fleet.api.list(POD, tenant.namespace), what="the pod is gone", within=90)
    fleet.remove_class("scarce")


def test_devices_of_any_name_are_given_to_the_engine(fleet: Fleet) -> None:
    devices = {"mig": "nvidia.com/mig-1g.5gb", "amd": "amd.com/gpu", "nvidia": "nvidia.com/gpu"}
    with fleet.tenant("devices") as tenant:
        for short, resource in devices.items():
            fleet.serving_class(f"device-{short}", accelerator={"resourceName": resource, "count": 1})
            tenant.apply(short, fleet.artifact("far"), serving_class=f"device-{short}")
        ready(fleet.api, tenant.namespace)
        given = {}
        for pod in fleet.api.list(POD, tenant.namespace):
            (engine,) = [container for container in pod["spec"]["containers"] if container["name"] == "engine"]
            assert engine["resources"]["limits"].keys() & set(devices.values()) == engine["resources"]["requests"].keys() & set(
                devices.values()
            )
            given.update({name: value for name, value in engine["resources"]["limits"].items() if name in devices.values()})
        assert given == dict.fromkeys(devices.values(), "1")
        for short in devices:
            assert fleet.artifact("far").mark in tenant.chat(short).text
    for short in devices:
        fleet.remove_class(f"device-{short}")
