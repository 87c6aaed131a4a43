"""The operator with exactly the rights that the chart gives it: enough for all that it does, from the first TaskModel to the last one's end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.apiserver.api_proxy import ApiProxy, api_proxy
from tests.apiserver.chart import CASES, CHART, arguments, render, rules_of_roles
from tests.apiserver.conftest import ApiServer
from tests.apiserver.golden_sets import GATE, golden_set
from tests.apiserver.objects import changed, claim, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.apiserver.pods import pod_at
from tests.benchmarks.fleet_agents import fleet_agents
from tests.cluster.api import (
    CHILDREN,
    CLUSTER_ROLE,
    DEPLOYMENT,
    EVENT,
    JOB,
    LEASE,
    POOL,
    REVISION,
    SERVING_CLASS,
    TASK_MODEL,
    Kind,
    Object,
    condition,
    is_true,
)

SYSTEM = "taskfleet-system"
AGENT = "127.77.200.1"


@dataclass(frozen=True, slots=True)
class Entitled:
    """An operator that runs as its ServiceAccount, the proxy that it asks through, and the chart that gives it its rights."""

    operator: OperatorProcess
    proxy: ApiProxy
    chart: list[Object]


@pytest.fixture(scope="module")
def entitled(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entitled]:
    folder = tmp_path_factory.mktemp("operator")
    values = arguments(CASES[0], folder)
    api_server.helm("upgrade", "--install", "taskfleet", str(CHART), "-n", SYSTEM, "--create-namespace", "--take-ownership", *values)
    # What an earlier run left would need no making.
    api_server.api.delete(LEASE, "taskfleet-operator", SYSTEM)
    api_server.api.delete(SERVING_CLASS, "rights")
    try:
        with api_proxy(api_server.kubeconfig) as proxy:
            kubeconfig = proxy.kubeconfig(folder, token=api_server.api.token("taskfleet-operator", SYSTEM))
            with running_operator(api_server, folder, namespace=SYSTEM, kubeconfig=kubeconfig, refused_retry_seconds="1") as operator:
                yield Entitled(operator, proxy, render(api_server, CASES[0], folder))
    finally:
        api_server.helm("uninstall", "taskfleet", "-n", SYSTEM)


def test_the_charts_rights_are_enough_and_all_of_them_are_used(
    api_server: ApiServer, entitled: Entitled, new_namespace: Callable[[str], str]
) -> None:
    """R-30."""
    operator = entitled.operator
    api, namespace = api_server.api, new_namespace("rights")
    api.apply(serving_class("rights"))
    for name in ("one", "two"):
        api.apply(changed(task_model(namespace, name), put("spec.servingClassName", "rights")))

    operator.brings(lambda: api.list(POOL, namespace), what="a pool exists", within=120)
    (pool,) = (one["metadata"]["name"] for one in api.list(POOL, namespace))
    operator.brings(lambda: all(api.find(kind, pool, namespace) for kind in CHILDREN), what="all children exist")
    for kind, name, where in ((TASK_MODEL, "one", namespace), (POOL, pool, namespace), (SERVING_CLASS, "rights", "")):
        operator.brings(partial(ready_condition, api_server, kind, name, where), what=f"{kind.kind} has a status")
    operator.brings(lambda: api.list(EVENT, namespace), what="an event is written")
    assert api.get(LEASE, "taskfleet-operator", SYSTEM)["spec"]["holderIdentity"]

    # A claim that is offered while the operator runs.
    api.apply(claim(namespace, "models", offered=True))
    from_claim = put("spec.adapter.source", "pvc://models/two")
    mounted = changed(task_model(namespace, "two"), put("spec.servingClassName", "rights"), from_claim)
    api.apply(mounted)
    operator.brings(lambda: is_true(api.get(TASK_MODEL, "two", namespace), "Accepted"), what="the claim is known")

    # Another version, with a gate before it; all children lost, all tasks gone: what else the operator writes and deletes.
    api.create(golden_set(namespace))
    gated = changed(
        task_model(namespace, "one"),
        put("spec.servingClassName", "rights"),
        put("spec.adapter.version", "v2"),
        put("spec.evaluation", GATE),
    )
    api.apply(gated)
    operator.brings(lambda: "v2" in versions(api_server, namespace), what="a revision of the new version")
    for kind in CHILDREN:
        api.delete(kind, pool, namespace)
    operator.brings(lambda: all(api.find(kind, pool, namespace) for kind in CHILDREN), what="the children are back")
    with fleet_agents([AGENT]):
        # A pod that has an address is spoken to, with a token for its pool; what is proven there is measured.
        pod_at(api, namespace, pool, AGENT)
        operator.brings(lambda: ("create", "", "serviceaccounts/token") in entitled.proxy.used(), what="a token is minted")
        operator.brings(lambda: api.list(JOB, namespace), what="the new version is measured")
        (first,) = (job["metadata"]["uid"] for job in api.list(JOB, namespace))
        # Another question: what the first Job would answer nobody asks any more.
        api.apply(changed(gated, put("spec.evaluation.metric", "FieldF1")))
        operator.brings(lambda: [job["metadata"]["uid"] for job in api.list(JOB, namespace)] not in ([], [first]), what="another Job")
        operator.brings(lambda: ("delete", "batch", "jobs") in entitled.proxy.used(), what="the first Job is deleted")
        # A pool that gets smaller: Kubernetes is told which of its pods goes.
        for pods in (2, 1):
            size = put("spec.scaling", {"minReplicas": pods, "maxReplicas": pods})
            for task in (changed(gated, put("spec.evaluation.metric", "FieldF1")), mounted):
                api.apply(changed(task, size))
            operator.brings(partial(pods_are, api_server, pool, namespace, pods), what=f"the pool has {pods} pods")
        assert ("patch", "", "pods") in entitled.proxy.used()
    # The last member of a pool leaves it.
    api.delete(TASK_MODEL, "two", namespace)
    api.apply(changed(task_model(namespace, "one"), put("spec.servingClassName", "rights"), put("spec.base.revision", "v2")))
    operator.brings(lambda: ("delete", "taskfleet.dev", "modelpools") in entitled.proxy.used(), what="the empty pool is deleted")
    api.delete(TASK_MODEL, "one", namespace)
    operator.brings(lambda: not api.list(POOL, namespace) and not api.list(REVISION, namespace), what="nothing of ours is left", within=120)
    operator.brings(lambda: not any(api.find(kind, pool, namespace) for kind in CHILDREN), what="no child is left", within=120)

    operator.brings(lambda: ("update", "coordination.k8s.io", "leases") in entitled.proxy.used(), what="the lease is renewed")
    text = operator.log.read_text()
    assert "Traceback" not in text, operator.told()
    # Not by the word in the log: the operator copies what Kubernetes' own controllers were forbidden.
    assert [call for call, status in entitled.proxy.calls if status == 403] == []
    given = rights(entitled.chart)
    # Discovery is shown to everybody.
    used = {one for one in entitled.proxy.used() if not one[2].startswith("/api")}
    assert given - used == set(), "given and never used"
    assert used - given == set(), "used, and not by the chart's leave"


def rights(chart: list[Object]) -> set[tuple[str, str, str]]:
    """(verb, group, resource) of the operator's roles; for other paths than resources the path."""
    found = set()
    for role, rule in rules_of_roles(chart):
        if role == "taskfleet-operator":
            places = [("", path) for path in rule.get("nonResourceURLs", [])]
            places += [(group, resource) for group in rule.get("apiGroups", []) for resource in rule.get("resources", [])]
            found |= {(verb, group, place) for verb in rule["verbs"] for group, place in places}
    return found


def test_a_missing_right_is_told_and_got_over(api_server: ApiServer, entitled: Entitled, new_namespace: Callable[[str], str]) -> None:
    api, namespace, operator = api_server.api, new_namespace("unentitled"), entitled.operator
    api.apply(serving_class("rights"))
    role = api.get(CLUSTER_ROLE, "taskfleet-operator")
    fewer = [rule for rule in role["rules"] if rule.get("resources") != ["deployments"]]
    assert len(fewer) < len(role["rules"])
    watched = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]}
    api.patch(CLUSTER_ROLE, "taskfleet-operator", change={"rules": [*fewer, watched]})
    try:
        api.apply(changed(task_model(namespace, "one"), put("spec.servingClassName", "rights")))

        def told() -> bool:
            stalled = condition(api.get(TASK_MODEL, "one", namespace), "Stalled")
            return stalled is not None and stalled["reason"] == "ApiRefused" and 'cannot patch resource "deployments"' in stalled["message"]

        operator.brings(told, what="the missing right is told")
        assert operator.metric("taskfleet_kube_requests_total", resource="deployments", code="403") >= 1
    finally:
        api.patch(CLUSTER_ROLE, "taskfleet-operator", change={"rules": role["rules"]})
    operator.brings(lambda: api.list(DEPLOYMENT, namespace), what="the Deployment is made once it may be")
    operator.brings(lambda: condition(api.get(TASK_MODEL, "one", namespace), "Stalled") is None, what="it is no longer told")


def ready_condition(api_server: ApiServer, kind: Kind, name: str, namespace: str) -> Object | None:
    return condition(api_server.api.get(kind, name, namespace), "Ready")


def pods_are(api_server: ApiServer, pool: str, namespace: str, count: int) -> bool:
    """As many are wanted, and the operator has seen at least so many."""
    found = api_server.api.get(POOL, pool, namespace)
    return bool(found["spec"]["replicas"] == count and found.get("status", {}).get("replicas", 0) >= count)


def versions(api_server: ApiServer, namespace: str) -> set[str]:
    return {one["spec"]["adapter"]["version"] for one in api_server.api.list(REVISION, namespace)}
