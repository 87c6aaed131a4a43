"""Pods that lose their processes, their node, their time or their disk: what must serve goes on, what can't says so, and all of it comes back by itself."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.api import POD, POOL, condition, eventually, is_true
from tests.cluster.disturbance import all_ready, kill_container, pods, reboot
from tests.cluster.fleet import Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import identities, minimal, ready, restart_counts, said, settled
from tests.cluster.story import tell

TASKS = ("one", "two")
REPLICAS = 2
RATE = 20.0
# Longer than the engine's liveness probe has patience (60 s): only the startup probe, whose patience is the class's, may decide.
SLOW_START_SECONDS = 75


@pytest.fixture(scope="module")
def slow(fleet: Fleet) -> Iterator[Tenant]:
    """An engine that takes long to start. It begins first, so that it takes its time while other tests take theirs."""
    fleet.serving_class("slow-start", engine={"args": [f"--sim-startup-seconds={SLOW_START_SECONDS}"]})
    with fleet.tenant("slow") as tenant:
        tenant.apply("slow", fleet.artifact("slow"), serving_class="slow-start")
        yield tenant
    fleet.remove_class("slow-start")


@dataclass(frozen=True, slots=True)
class Blocked:
    """Two namespaces whose administrators allow no pod of ours."""

    by_quota: Tenant
    by_limits: Tenant


@pytest.fixture(scope="module")
def blocked(fleet: Fleet, cluster: Cluster) -> Iterator[Blocked]:
    with fleet.tenant("quota") as by_quota, fleet.tenant("limits") as by_limits:
        quota = {"kind": "ResourceQuota", "metadata": {"name": "no-pods-at-all", "namespace": by_quota.namespace}}
        limits = {"kind": "LimitRange", "metadata": {"name": "tiny-containers", "namespace": by_limits.namespace}}
        cluster.apply(
            [
                {"apiVersion": "v1", **quota, "spec": {"hard": {"pods": "0"}}},
                {"apiVersion": "v1", **limits, "spec": {"limits": [{"type": "Container", "max": {"memory": "48Mi"}}]}},
            ]
        )
        for tenant in (by_quota, by_limits):
            tenant.apply("blocked", fleet.artifact("blocked"))
        yield Blocked(by_quota, by_limits)


@pytest.fixture(scope="module")
def team(fleet: Fleet, slow: Tenant) -> Iterator[Tenant]:  # slow begins first
    """Two tasks on one pool of two pods."""
    with fleet.tenant("stress") as tenant:
        for task in TASKS:
            tenant.apply(task, fleet.artifact(f"stress-{task}"), scaling={"minReplicas": REPLICAS})
        ready(fleet.api, tenant.namespace)
        all_ready(fleet.api, tenant.namespace, REPLICAS)
        yield tenant


def test_quota_and_limits_in_the_way_are_told(fleet: Fleet, cluster: Cluster, slow: Tenant, blocked: Blocked) -> None:
    """And taken out of the way. That the pods come then is looked at later: Kubernetes itself asks again less and less often."""
    words = ((blocked.by_quota, "no-pods-at-all"), (blocked.by_limits, "maximum memory usage per Container is 48Mi"))

    def told() -> bool:
        for tenant, theirs in words:
            task = tenant.get("blocked")
            stalled = condition(task, "Stalled")
            assert stalled, said(task)
            assert stalled["reason"] == "PodRefused", stalled
            assert theirs in stalled["message"], stalled
        return True

    eventually(told, what="the refusals are told", describe=lambda: tell(fleet.api, *(tenant.namespace for tenant, _ in words)))
    cluster.kubectl("delete", "resourcequota", "no-pods-at-all", "-n", blocked.by_quota.namespace)
    cluster.kubectl("delete", "limitrange", "tiny-containers", "-n", blocked.by_limits.namespace)


@pytest.mark.parametrize(
    ("containers", "worker"), [(["engine"], True), (["engine", "agent"], False)], ids=["the engine's worker", "engine and agent at once"]
)
def test_killed_processes_of_one_pod_lose_no_request(fleet: Fleet, team: Tenant, containers: list[str], *, worker: bool) -> None:
    targets = [team.target(task, fleet.artifact(f"stress-{task}")) for task in TASKS]
    with constant_load(fleet.gateway_url, targets, rate=RATE) as load:
        load.wait_for(10)
        kill_container(fleet.api, pods(fleet.api, team.namespace)[0], *containers, worker=worker)
        all_ready(fleet.api, team.namespace, REPLICAS)
        ready(fleet.api, team.namespace)
        load.wait_for(20)
    load.assert_no_error()


def test_restart_of_kubelet_and_container_runtime_is_not_noticed(fleet: Fleet, cluster: Cluster, team: Tenant) -> None:
    before = identities(fleet.api, team.namespace)
    targets = [team.target(task, fleet.artifact(f"stress-{task}")) for task in TASKS]
    with constant_load(fleet.gateway_url, targets, rate=RATE) as load:
        load.wait_for(10)
        cluster.restart_containerd()
        cluster.restart_kubelet()
        ready(fleet.api, team.namespace)
        load.wait_for(20)
    load.assert_no_error()
    minimal(before, identities(fleet.api, team.namespace))


def test_rebooted_node_brings_the_same_pods_back_and_says_what_was_missing(fleet: Fleet, cluster: Cluster, team: Tenant) -> None:
    """All pods of the pool at once: nobody can answer for a while, and whoever asks is told so."""
    before = identities(fleet.api, team.namespace)
    served = {task: available_since(team, task) for task in TASKS}
    targets = [team.target(task, fleet.artifact(f"stress-{task}")) for task in TASKS]
    with constant_load(fleet.gateway_url, targets, rate=2) as load:
        load.wait_for(4)
        reboot(fleet.api, cluster, pods(fleet.api, team.namespace))
        begun = time.monotonic()
        eventually(
            lambda: all(available_since(team, task) > served[task] for task in TASKS),
            what="the tasks were unavailable and are available again",
            within=180,
            describe=lambda: tell(fleet.api, team.namespace),
        )
        all_ready(fleet.api, team.namespace, REPLICAS)
        ready(fleet.api, team.namespace)
        back = time.monotonic()
        print(f"all pods of a pool rebooted: Ready again {back - begun:.1f} s after the node was")
        load.wait_for(10)
    assert not load.errors(since=back)
    assert {one.status for one in load.errors()} <= {502, 503}, [one.error for one in load.errors()]
    after = identities(fleet.api, team.namespace)
    minimal(type(before)(before.uids, {}), after)


def available_since(team: Tenant, task: str) -> str:
    """When the task became available; empty while it isn't."""
    found = condition(team.get(task), "Available")
    assert found
    return str(found["lastTransitionTime"]) if found["status"] == "True" else ""


def test_engine_killed_by_one_tenants_request_comes_back_for_all(fleet: Fleet) -> None:
    with fleet.tenant("victims") as tenant:
        for task in ("killer", "neighbour"):
            tenant.apply(task, fleet.artifact(f"victims-{task}"))
        ready(fleet.api, tenant.namespace)
        neighbour = fleet.artifact("victims-neighbour")
        with constant_load(fleet.gateway_url, [tenant.target("neighbour", neighbour)], rate=5) as load:
            load.wait_for(5)
            begun = time.monotonic()
            answer = tenant.chat("killer", sim={"die": True})
            assert answer.status in {502, 503}, answer.raw
            assert answer.error_code

            def unavailable_or_back() -> bool:
                return not is_true(tenant.get("neighbour"), "Ready") or restarts(fleet, tenant) > 0

            eventually(unavailable_or_back, what="the death of the engine shows", describe=lambda: tell(fleet.api, tenant.namespace))
            ready(fleet.api, tenant.namespace)
            back = time.monotonic()
            print(f"an engine killed by a request: all tasks Ready again after {back - begun:.1f} s, {restarts(fleet, tenant)} restarts")
            load.wait_for(10)
        assert not load.errors(since=back)
        assert {one.status for one in load.errors()} <= {502, 503}, [one.error for one in load.errors()]
        print(f"the neighbour's requests: {len(load.errors())} of {len(load.outcomes)} failed meanwhile")


def restarts(fleet: Fleet, tenant: Tenant) -> int:
    return sum(restart_counts(pod)["engine"] for pod in fleet.api.list(POD, tenant.namespace))


BIG = 256  # a rank: two megabytes of weights


def test_full_store_is_told_disturbs_nobody_and_recovers_when_there_is_room(fleet: Fleet) -> None:
    """Base and two big adapters fit; a third doesn't, until one of the two leaves."""
    fleet.serving_class("small-store", adapters={"maxRank": BIG}, store={"sizeLimit": "10Mi", "maxBaseSize": "8Mi"})
    small, leaves = fleet.artifact("store-small"), fleet.artifact("store-leaves", rank=BIG)
    one, two = fleet.artifact("store-grows", "v1", rank=BIG), fleet.artifact("store-grows", "v2", rank=BIG)
    with fleet.tenant("store") as tenant:
        for task, artifact in (("small", small), ("leaves", leaves), ("grows", one)):
            tenant.apply(task, artifact, serving_class="small-store")
        ready(fleet.api, tenant.namespace)
        before = identities(fleet.api, tenant.namespace)
        pool_pods = [name for name in before.uids if name.startswith("Pod/")]
        with constant_load(fleet.gateway_url, [tenant.target("small", small), tenant.target("grows", one, two)], rate=10) as load:
            tenant.apply("grows", two, serving_class="small-store")

            def told() -> bool:
                task = tenant.get("grows")
                stalled = condition(task, "Stalled")
                assert stalled, said(task)
                assert (stalled["status"], stalled["reason"]) == ("True", "StoreFull"), said(task)
                assert "store.sizeLimit" in stalled["message"]
                return is_true(task, "Available")

            eventually(told, what="the full store is told", describe=lambda: tell(fleet.api, tenant.namespace))
            settled(fleet.api, tenant.namespace)
            assert is_true(tenant.get("small"), "Ready")
            assert one.mark in tenant.chat("grows").text
            tenant.remove("leaves")
            (grown,) = ready(fleet.api, tenant.namespace, "grows")
            assert grown["status"]["stable"]["digest"] == two.digest
            load.wait_for(10)
        load.assert_no_error()
        after = identities(fleet.api, tenant.namespace)
        minimal(type(before)({name: before.uids[name] for name in pool_pods}, before.restarts), after)
    fleet.remove_class("small-store")


def test_full_pool_gives_the_next_task_a_pool_of_its_own(fleet: Fleet) -> None:
    fleet.serving_class("one-per-pool", adapters={"maxPerPool": 1, "maxActive": 2})
    with fleet.tenant("full") as tenant:
        for task in TASKS:
            tenant.apply(task, fleet.artifact(f"stress-{task}"), serving_class="one-per-pool")
        ready(fleet.api, tenant.namespace)
        members = [[member["taskModel"] for member in pool["spec"]["members"]] for pool in fleet.api.list(POOL, tenant.namespace)]
        assert sorted(members) == [["one"], ["two"]]
        for task in TASKS:
            assert fleet.artifact(f"stress-{task}").mark in tenant.chat(task).text
    fleet.remove_class("one-per-pool")


def test_pods_come_by_themselves_once_quota_and_limits_allow_them(fleet: Fleet, blocked: Blocked) -> None:
    for tenant in (blocked.by_quota, blocked.by_limits):
        ready(fleet.api, tenant.namespace)
        assert fleet.artifact("blocked").mark in tenant.chat("blocked").text


def test_slow_start_is_waited_for(fleet: Fleet, slow: Tenant) -> None:
    """The last test: by now most of the time has passed."""
    ready(fleet.api, slow.namespace)
    assert fleet.artifact("slow").mark in slow.chat("slow").text
    (pod,) = fleet.api.list(POD, slow.namespace)
    assert set(restart_counts(pod).values()) == {0}, "the start was cut off"
