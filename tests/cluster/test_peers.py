"""An artifact that its source has lost: pods that start have it from the pool's other pods."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from taskfleet import names
from tests.cluster.api import POD, SERVICE, Object, condition, eventually
from tests.cluster.disturbance import all_ready, pods
from tests.cluster.fleet import Artifact, Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import ready
from tests.cluster.story import tell

REPLICAS = 2
RATE = 10.0
LOOK_UP = """
import socket, sys
try:
    print(*{answer[4][0] for answer in socket.getaddrinfo(sys.argv[1], None)})
except OSError as error:
    print(error)
"""


@dataclass(frozen=True, slots=True)
class Team:
    """A task on two pods whose artifact is nowhere else any more; `since` when it is Ready."""

    tenant: Tenant
    artifact: Artifact
    since: str


@pytest.fixture(scope="module")
def team(fleet: Fleet, cluster: Cluster) -> Iterator[Team]:
    artifact = fleet.artifact("peers")
    with fleet.tenant("peers") as tenant:
        tenant.apply("vendor", artifact, scaling={"minReplicas": REPLICAS})
        started = all_ready(fleet.api, tenant.namespace, REPLICAS)
        (task,) = ready(fleet.api, tenant.namespace)
        all_named(fleet, cluster, started)
        fleet.unpush(artifact)
        yield Team(tenant, artifact, since(task))


def test_replaced_pod_has_a_lost_artifact_from_its_sibling_and_no_request_fails(fleet: Fleet, team: Team) -> None:
    tenant = team.tenant
    with constant_load(fleet.gateway_url, [tenant.target("vendor", team.artifact)], rate=RATE) as load:
        load.wait_for(10)
        replaced(fleet, tenant, REPLICAS)
        load.wait_for(20)
    load.assert_no_error()
    (task,) = ready(fleet.api, tenant.namespace)
    assert since(task) == team.since, "the task was Ready all the time"


def test_pod_in_the_place_of_the_only_one_has_the_last_copy_from_it(fleet: Fleet, team: Team) -> None:
    tenant = team.tenant
    tenant.apply("vendor", team.artifact, scaling={"minReplicas": 1})
    all_ready(fleet.api, tenant.namespace, 1)
    replaced(fleet, tenant, 1)
    ready(fleet.api, tenant.namespace)
    answer = tenant.chat("vendor")
    assert (answer.status, team.artifact.mark in answer.text) == (200, True)


def all_named(fleet: Fleet, cluster: Cluster, started: list[Object]) -> None:
    """Returns when the cluster's DNS gives each of these pods the addresses of all: after an outage of the API server it may need half a minute to hear of new pods."""
    namespace = started[0]["metadata"]["namespace"]
    (service,) = (
        found for one in fleet.api.list(SERVICE, namespace) if (found := one["metadata"]["name"]).endswith(names.peers_service(""))
    )

    addresses = {pod["status"]["podIP"] for pod in started}

    def named() -> bool:
        for pod in started:
            where = ["-n", namespace, pod["metadata"]["name"], "-c", "agent"]
            told = cluster.kubectl("exec", *where, "--", "python3", "-c", LOOK_UP, f"{service}.{namespace}.svc")
            assert set(told.split()) == addresses, told
        return True

    eventually(named, what=f"DNS names the pods behind {service}", within=120, describe=lambda: tell(fleet.api, namespace))


def replaced(fleet: Fleet, tenant: Tenant, count: int) -> None:
    """Deletes a pod, and waits until another one, which has copied everything, is Ready in its place."""
    before = {pod["metadata"]["uid"]: pod for pod in pods(fleet.api, tenant.namespace)}
    doomed = next(iter(before.values()))
    fleet.api.delete(POD, doomed["metadata"]["name"], tenant.namespace)

    def found() -> Object:
        listed = {pod["metadata"]["uid"]: pod for pod in fleet.api.list(POD, tenant.namespace)}
        assert doomed["metadata"]["uid"] not in listed, "the old one is still there"
        (new,) = (pod for uid, pod in listed.items() if uid not in before)
        return new

    new = eventually(found, what="a new pod", within=120, describe=lambda: tell(fleet.api, tenant.namespace))
    all_ready(fleet.api, tenant.namespace, count)
    told = fleet.api.logs(new["metadata"]["name"], tenant.namespace, container="agent")
    assert told.count("artifact was copied") == 2, f"the base and the adapter\n{told}"


def since(task: Object) -> str:
    found = condition(task, "Ready")
    assert found is not None
    return str(found["lastTransitionTime"])
