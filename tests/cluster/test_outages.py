"""What happens while parts of the control plane are gone: what serves goes on, and what was asked meanwhile is done afterwards."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.api import DEPLOYMENT, POD, POOL, SERVICE, eventually
from tests.cluster.disturbance import OPERATOR, kill_container, no_operator, pods, rolled_out
from tests.cluster.fleet import SYSTEM, Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import SOAK, foreign, identities, minimal, no_orphan, ready, settled
from tests.cluster.story import tell

# The operator is killed, and ends itself when it can't keep its lease.
ENDS_PROCESSES = True
OUTAGE_REQUESTS = 1800 if SOAK else 100
RATE = 10.0
NOTICED_SECONDS = 30.0
MOMENTS = ["at once", "once the candidate is a member", "once it has traffic"] if SOAK else ["at once", "once it has traffic"]

# Said to the simulator's own fault route, which stands beside vLLM's; the engine listens on the loopback interface only.
FORGET = """
import json, urllib.request
def adapters():
    return [card["id"] for card in json.load(urllib.request.urlopen("http://127.0.0.1:8000/v1/models"))["data"] if card.get("parent")]
before = adapters()
body = json.dumps({"forget": before}).encode()
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/sim/faults", data=body, headers={"content-type": "application/json"}))
print(json.dumps({"before": before, "after": adapters()}))
"""


@pytest.fixture
def team(fleet: Fleet) -> Iterator[Tenant]:
    with fleet.tenant("outage") as tenant:
        tenant.apply("steady", fleet.artifact("outage"))
        ready(fleet.api, tenant.namespace)
        yield tenant


@pytest.mark.parametrize("moment", MOMENTS)
def test_operator_killed_in_mid_change_ends_where_it_would_have_ended(fleet: Fleet, team: Tenant, moment: str) -> None:
    old, new = fleet.artifact("outage"), fleet.artifact("outage", "v2")

    def come() -> bool:
        members = [member for pool in fleet.api.list(POOL, team.namespace) for member in pool["spec"]["members"]]
        versions = {target["revision"] for target in team.get("steady")["status"]["traffic"]}
        reached = {"at once": True, "once the candidate is a member": len(members) > 1, "once it has traffic": first not in versions}
        return reached[moment]

    first = team.get("steady")["status"]["stable"]["revision"]
    (operator,) = pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=operator")
    with constant_load(fleet.gateway_url, [team.target("steady", old, new)], rate=RATE) as load:
        team.apply("steady", new)
        eventually(come, what=moment, within=30)
        kill_container(fleet.api, operator, "operator")
        (task,) = ready(fleet.api, team.namespace, "steady")
        assert task["status"]["stable"]["digest"] == new.digest

        def alone() -> bool:
            return [member["adapter"]["digest"] for pool in fleet.api.list(POOL, team.namespace) for member in pool["spec"]["members"]] == [
                new.digest
            ]

        eventually(alone, what="the old version left the pool", describe=lambda: tell(fleet.api, team.namespace))
        load.wait_for(20)
    load.assert_no_error()
    # A pod that was killed is restarted later and later: the next test begins with a fresh one.
    fleet.api.delete(POD, operator["metadata"]["name"], SYSTEM)
    rolled_out(fleet.api, OPERATOR, SYSTEM)


def test_what_was_changed_without_an_operator_is_done_when_one_is_back(fleet: Fleet, team: Tenant) -> None:
    old, new = fleet.artifact("outage"), fleet.artifact("outage", "v2")
    team.apply("leaves", fleet.artifact("outage-leaves"), isolation="Dedicated")
    ready(fleet.api, team.namespace)
    with constant_load(fleet.gateway_url, [team.target("steady", old, new)], rate=RATE) as load:
        before = identities(fleet.api, team.namespace)
        with no_operator(fleet.api):
            load.wait_for(30)
            minimal(before, identities(fleet.api, team.namespace))
            team.remove("leaves")
            team.apply("steady", new)
            team.apply("comes", fleet.artifact("outage-comes"))
            (pool,) = [pool for pool in fleet.api.list(POOL, team.namespace) if pool["spec"]["isolation"] == "Shared"]
            fleet.api.patch(SERVICE, pool["metadata"]["name"], team.namespace, change={"metadata": {"ownerReferences": None}})
            fleet.api.patch(DEPLOYMENT, pool["metadata"]["name"], team.namespace, change={"spec": {"progressDeadlineSeconds": 99}})
        ready(fleet.api, team.namespace, "steady", "comes")
        assert new.mark in team.chat("steady").text
        assert fleet.artifact("outage-comes").mark in team.chat("comes").text
        load.wait_for(20)
    load.assert_no_error()
    settled(fleet.api, team.namespace)
    assert fleet.api.get(DEPLOYMENT, pool["metadata"]["name"], team.namespace)["spec"]["progressDeadlineSeconds"] != 99
    assert fleet.api.get(SERVICE, pool["metadata"]["name"], team.namespace)["metadata"]["ownerReferences"]
    assert [one for one in fleet.api.list(POOL, team.namespace) if one["spec"]["isolation"] == "Dedicated"] == []


def test_api_server_outage_disturbs_no_traffic_and_rolls_nothing(fleet: Fleet, cluster: Cluster, team: Tenant) -> None:
    before = identities(fleet.api, team.namespace)
    url = fleet.gateway_url
    with constant_load(url, [team.target("steady", fleet.artifact("outage"))], rate=RATE) as load:
        load.wait_for(10)
        cluster.stop_component("kube-apiserver")
        try:
            load.wait_for(OUTAGE_REQUESTS, within=OUTAGE_REQUESTS / RATE + 120)
        finally:
            cluster.start_component("kube-apiserver")
        eventually(lambda: fleet.api.request("GET", "/readyz"), what="the API server is ready again", within=120)
        # It lists pods before it knows custom resources; until then it asks to try again, and so does kubectl's user.
        eventually(lambda: team.apply("afterwards", fleet.artifact("outage-afterwards")), what="TaskModels are taken again")
        ready(fleet.api, team.namespace)
        load.wait_for(20)
    load.assert_no_error()
    minimal(before, identities(fleet.api, team.namespace))
    assert fleet.artifact("outage-afterwards").mark in team.chat("afterwards").text


def test_adapter_that_the_engine_dropped_silently_comes_back_and_is_never_replaced_by_the_base(
    fleet: Fleet, cluster: Cluster, team: Tenant
) -> None:
    (pod,) = fleet.api.list(POD, team.namespace)
    mark = fleet.artifact("outage").mark
    with constant_load(fleet.gateway_url, [team.target("steady", fleet.artifact("outage"))], rate=RATE) as load:
        load.wait_for(10)
        forgotten = cluster.kubectl("exec", "-n", team.namespace, pod["metadata"]["name"], "-c", "engine", "--", "python3", "-c", FORGET)
        # The engine's own word, of that moment: without it the test would pass where nothing was dropped.
        said = json.loads(forgotten)
        assert len(said["before"]) == 1, said
        assert said["after"] == [], said
        eventually(lambda: mark in team.chat("steady").text, what="the adapter is back", within=NOTICED_SECONDS)
        load.wait_for(20)
    load.assert_no_error()


def test_deletion_of_everything_without_an_operator_leaves_nothing(fleet: Fleet) -> None:
    with fleet.tenant("abandoned") as tenant:
        others = foreign(fleet.api, tenant.namespace)
        tenant.apply("one", fleet.artifact("outage"))
        tenant.apply("two", fleet.artifact("outage"))
        ready(fleet.api, tenant.namespace)
        with no_operator(fleet.api):
            for name in ("one", "two"):
                tenant.remove(name)
            no_orphan(fleet.api, tenant.namespace, others=others)
