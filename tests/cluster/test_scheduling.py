"""Nodes and devices: what the scheduler says reaches the TaskModel, and any device's resource name works."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.api import DEPLOYMENT, NODE, POD, TASK_MODEL, Api, Object, condition, eventually
from tests.cluster.fleet import Fleet
from tests.cluster.openai_client import Answer
from tests.cluster.oracles import ready, settled
from tests.cluster.story import tell

LABEL = "example.com/rack"
SCARCE = "example.com/scarce-device"
MISSING = "taskfleet.local/no-such-engine:v9"


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


def told_why(fleet: Fleet, namespace: str, name: str, reason: str = "Unschedulable") -> str:
    """The message that the TaskModel gives, once it is not available for this reason."""

    def check() -> str:
        task = fleet.api.get(TASK_MODEL, name, namespace)
        found = condition(task, "Available")
        assert found, "no condition Available"
        assert (found["status"], found["reason"]) == ("False", reason), found
        return str(found["message"])

    return eventually(check, what=f"{name} says {reason}", within=60, describe=lambda: tell(fleet.api, namespace))


def refused_at_once(answer: Answer, message: str) -> None:
    """In the condition's words, and without having waited: nobody waits for what can't start before somebody acts."""
    assert answer.status == 503, answer.raw[:300]
    assert answer.error_code == "cannot_start"
    assert message in answer.body["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0
    assert "x-taskfleet-held-seconds" not in answer.headers


def scheduler_message(fleet: Fleet, namespace: str) -> str:
    (pod,) = fleet.api.list(POD, namespace)
    return str((condition(pod, "PodScheduled") or {})["message"])


def test_missing_node_is_told_and_recovers_by_itself(fleet: Fleet, node: Object) -> None:
    fleet.serving_class("far-rack", scheduling={"nodeSelector": {LABEL: "far"}})
    name = node["metadata"]["name"]
    with fleet.tenant("far") as tenant:
        artifact = fleet.artifact("far")
        tenant.apply("far", artifact, serving_class="far-rack")
        message = told_why(fleet, tenant.namespace, "far")
        assert scheduler_message(fleet, tenant.namespace) in message
        settled(fleet.api, tenant.namespace)
        refused_at_once(tenant.chat("far"), message)
        try:
            fleet.api.patch(NODE, name, change={"metadata": {"labels": {LABEL: "far"}}})
            ready(fleet.api, tenant.namespace)
            assert artifact.mark in tenant.chat("far").text
        finally:
            fleet.api.patch(NODE, name, change={"metadata": {"labels": {LABEL: None}}})
    fleet.remove_class("far-rack")


def test_missing_image_is_told_to_who_waits_and_to_who_comes(fleet: Fleet) -> None:
    """The pool slept, as it may, and its class lost its image: the first request wakes it, and learns as the others why it can't start."""
    scaling = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 10, "stableWindowSeconds": 10}
    fleet.serving_class("losing", scaling=scaling)
    with fleet.tenant("losing") as tenant:
        tenant.apply("losing", fleet.artifact("far"), serving_class="losing")
        ready(fleet.api, tenant.namespace)
        eventually(
            lambda: not fleet.api.list(POD, tenant.namespace),
            what="it sleeps",
            within=90,
            describe=lambda: tell(fleet.api, tenant.namespace),
        )
        fleet.serving_class("losing", scaling=scaling, engine={"image": MISSING})
        (deployment,) = fleet.api.list(DEPLOYMENT, tenant.namespace)
        eventually(lambda: MISSING in str(fleet.api.get(DEPLOYMENT, deployment["metadata"]["name"], tenant.namespace)), what="it is told")
        first = tenant.chat("losing")
        message = told_why(fleet, tenant.namespace, "losing", "ImageUnavailable")
        assert (first.status, first.error_code) == (503, "cannot_start"), first.raw[:300]
        assert float(first.headers["x-taskfleet-held-seconds"]) < 25
        refused_at_once(tenant.chat("losing"), message)
    fleet.remove_class("losing")


def test_missing_device_is_told_and_recovers_by_itself(fleet: Fleet, node: Object) -> None:
    fleet.serving_class("scarce", accelerator={"resourceName": SCARCE, "count": 2})
    name = node["metadata"]["name"]
    with fleet.tenant("scarce") as tenant:
        tenant.apply("scarce", fleet.artifact("far"), serving_class="scarce")
        assert SCARCE in told_why(fleet, tenant.namespace, "scarce")
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
