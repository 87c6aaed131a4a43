"""An artifact that its source has lost: pods that start have it from the pool's other pods."""

from tests.cluster.api import POD, Object, condition, eventually
from tests.cluster.disturbance import all_ready, pods
from tests.cluster.fleet import Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.oracles import ready
from tests.cluster.story import tell

REPLICAS = 2
RATE = 10.0


def test_replaced_pod_has_a_lost_artifact_from_its_sibling_and_no_request_fails(fleet: Fleet) -> None:
    artifact = fleet.artifact("peers")
    with fleet.tenant("peers") as tenant:
        tenant.apply("vendor", artifact, scaling={"minReplicas": REPLICAS})
        all_ready(fleet.api, tenant.namespace, REPLICAS)
        (before,) = ready(fleet.api, tenant.namespace)
        fleet.unpush(artifact)
        with constant_load(fleet.gateway_url, [tenant.target("vendor", artifact)], rate=RATE) as load:
            load.wait_for(10)
            gone, sibling = pods(fleet.api, tenant.namespace)
            new = replaced(fleet, tenant, gone)
            load.wait_for(20)
            # The new pod is the only one that was there from now on: it answers alone.
            replaced(fleet, tenant, sibling)
            load.wait_for(20)
        load.assert_no_error()
        assert "artifact was copied" in fleet.api.logs(new["metadata"]["name"], tenant.namespace, container="agent")
        (after,) = ready(fleet.api, tenant.namespace)
        assert since(after, "Ready") == since(before, "Ready"), "the task was Ready all the time"
        assert after["status"]["stable"] == before["status"]["stable"]


def replaced(fleet: Fleet, tenant: Tenant, doomed: Object) -> Object:
    """Deletes a pod; gives the one that has come in its place, once all are Ready."""
    known = {pod["metadata"]["uid"] for pod in fleet.api.list(POD, tenant.namespace)}
    fleet.api.delete(POD, doomed["metadata"]["name"], tenant.namespace)

    def found() -> Object:
        listed = {pod["metadata"]["uid"]: pod for pod in fleet.api.list(POD, tenant.namespace)}
        assert doomed["metadata"]["uid"] not in listed, "the old one is still there"
        (new,) = (pod for uid, pod in listed.items() if uid not in known)
        return new

    new = eventually(found, what="a new pod", within=120, describe=lambda: tell(fleet.api, tenant.namespace))
    all_ready(fleet.api, tenant.namespace, REPLICAS)
    return new


def since(task: Object, name: str) -> str:
    found = condition(task, name)
    assert found is not None
    return str(found["lastTransitionTime"])
