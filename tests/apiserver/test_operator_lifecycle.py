"""Operators come and go: what they missed is caught up with, one of them writes, and nothing is left of what is deleted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.made import complete
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import leader, running_operator, start
from tests.cluster.api import (
    DEPLOYMENT,
    LEASE,
    NAMESPACE,
    POOL,
    REVISION,
    SERVICE,
    SERVING_CLASS,
    TASK_MODEL,
    Object,
    eventually,
)
from tests.cluster.oracles import identities, minimal, no_orphan, silent, standing

CLASS = "lifecycle"


@pytest.fixture(scope="module", autouse=True)
def the_class(api_server: ApiServer) -> Iterator[None]:
    api_server.api.apply(serving_class(CLASS))
    yield
    api_server.api.delete(SERVING_CLASS, CLASS)


@pytest.fixture
def system(new_namespace: Callable[[str], str]) -> str:
    """The operator's namespace, with its lease."""
    return new_namespace("system")


@pytest.fixture
def namespace(new_namespace: Callable[[str], str]) -> str:
    return new_namespace("fleet")


def task(namespace: str, name: str, version: str = "v1") -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", CLASS), put("spec.adapter.version", version))


def test_a_restart_writes_nothing(api_server: ApiServer, system: str, namespace: str, tmp_path: Path) -> None:
    api = api_server.api
    for name in ("one", "two", "three"):
        api.apply(task(namespace, name))
    with running_operator(api_server, tmp_path, namespace=system) as first:
        first.brings(lambda: complete(api, namespace, "one", "two", "three"), what="all is made")
        assert first.stop() == 0
    before, uids = standing(api, namespace), identities(api, namespace)
    with running_operator(api_server, tmp_path, namespace=system) as second:
        second.brings(lambda: second.metric("taskfleet_reconcile_seconds_count", kind="pool") > 0, what="the pool was looked at")
        silent(api, namespace, seconds=4)
        assert standing(api, namespace) == before
        minimal(uids, identities(api, namespace))


def test_what_changed_while_no_operator_ran_is_caught_up_with(api_server: ApiServer, system: str, namespace: str, tmp_path: Path) -> None:
    """R-13, R-23."""
    api = api_server.api
    for name in ("stays", "changes", "goes"):
        api.apply(task(namespace, name))
    with running_operator(api_server, tmp_path, namespace=system) as first:
        first.brings(lambda: complete(api, namespace, "stays", "changes", "goes"), what="all is made")
        first.kill()
    (pool,) = api.list(POOL, namespace)
    name = pool["metadata"]["name"]
    api.delete(TASK_MODEL, "goes", namespace)
    api.apply(task(namespace, "changes", "v2"))
    api.apply(task(namespace, "comes"))
    api.delete(SERVICE, name, namespace)
    api.patch(DEPLOYMENT, name, namespace, change={"spec": {"replicas": 4}})
    with running_operator(api_server, tmp_path, namespace=system) as second:
        second.brings(lambda: complete(api, namespace, "stays", "changes", "comes"), what="all is caught up with")
    assert api.list(POOL, namespace)[0]["metadata"]["uid"] == pool["metadata"]["uid"]
    assert api.get(DEPLOYMENT, name, namespace)["spec"]["replicas"] == 1
    versions = {one["spec"]["taskModelName"]: one["spec"]["adapter"]["version"] for one in api.list(REVISION, namespace)}
    assert versions == {"stays": "v1", "changes": "v2", "comes": "v1"}


def test_of_two_replicas_one_writes_and_the_other_takes_over(api_server: ApiServer, system: str, namespace: str, tmp_path: Path) -> None:
    """R-27: at once from a leader that ends well, within the lease's time from one that is killed."""
    api = api_server.api
    with (
        running_operator(api_server, tmp_path, namespace=system, name="one") as one,
        running_operator(api_server, tmp_path, namespace=system, name="two") as two,
    ):
        one.brings(lambda: leader(api_server, system) == "one", what="the first leads", within=30)
        api.apply(task(namespace, "first"))
        one.brings(lambda: complete(api, namespace, "first"), what="the leader's work")
        assert two.writes() == 0
        assert two.probe("/readyz") == two.probe("/livez") == 200, "who stands by is well"
        assert one.stop() == 0
        two.brings(lambda: leader(api_server, system) == "two", what="the second leads", within=10)
        api.apply(task(namespace, "second"))
        two.brings(lambda: complete(api, namespace, "first", "second"), what="the second leader's work")
        with running_operator(api_server, tmp_path, namespace=system, name="three") as three:
            two.kill()
            three.brings(lambda: leader(api_server, system) == "three", what="the third leads", within=30)
            api.delete(TASK_MODEL, "first", namespace)
            three.brings(lambda: complete(api, namespace, "second"), what="the third leader's work")


def test_a_replica_that_lost_its_lease_ends(api_server: ApiServer, system: str, tmp_path: Path) -> None:
    api = api_server.api
    operator = start(api_server, tmp_path, namespace=system)
    operator.brings(lambda: operator.metric("taskfleet_leader") == 1, what="it leads")
    lease = api.get(LEASE, "taskfleet-operator", system)
    change = {"spec": {"holderIdentity": "another_1", "renewTime": lease["spec"]["renewTime"]}}
    api.patch(LEASE, "taskfleet-operator", system, change=change)
    assert operator.process.wait(timeout=30) == 1
    assert "lease is lost" in operator.told()
    assert api.get(LEASE, "taskfleet-operator", system)["spec"]["holderIdentity"] == "another_1"


def test_it_ends_soon_and_well_when_told_to(api_server: ApiServer, system: str, tmp_path: Path) -> None:
    with running_operator(api_server, tmp_path, namespace=system) as operator:
        operator.brings(lambda: operator.metric("taskfleet_leader") == 1, what="it leads")
        assert operator.stop(within=15) == 0
    assert leader(api_server, system) == "", "the lease is free"


def test_its_figures_are_there_for_whoever_scrapes(api_server: ApiServer, system: str, tmp_path: Path) -> None:
    with running_operator(api_server, tmp_path, namespace=system) as operator:
        operator.brings(lambda: operator.metric("taskfleet_leader") == 1, what="it leads")
        operator.brings(
            lambda: operator.metric("taskfleet_objects", kind="ServingClass", condition="Ready", status="True") >= 1, what="objects"
        )
        operator.brings(lambda: operator.metric("taskfleet_reconcile_seconds_count", result="done") >= 1, what="reconciliations")
        operator.brings(lambda: operator.metric("taskfleet_kube_requests_total", verb="list", code="200") >= 1, what="API calls")
        operator.brings(lambda: operator.metric("taskfleet_queue_depth") == 0, what="an empty queue")


def test_a_namespace_with_ten_tasks_goes(api_server: ApiServer, system: str, namespace: str, tmp_path: Path) -> None:
    """R-24."""
    api = api_server.api
    with running_operator(api_server, tmp_path, namespace=system) as operator:
        names = [f"task-{number}" for number in range(10)]
        for name in names:
            api.apply(task(namespace, name))
        operator.brings(lambda: complete(api, namespace, *names), what="all is made")
        api.delete(NAMESPACE, namespace)
        operator.brings(lambda: api.find(NAMESPACE, namespace) is None, what="the namespace is gone", within=180)
        assert operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0


def test_tasks_that_are_deleted_while_no_operator_runs_leave_nothing(
    api_server: ApiServer, system: str, namespace: str, tmp_path: Path
) -> None:
    """R-25: Kubernetes alone takes everything, by owner references."""
    api = api_server.api
    for name in ("one", "two"):
        api.apply(task(namespace, name))
    with running_operator(api_server, tmp_path, namespace=system) as operator:
        operator.brings(lambda: complete(api, namespace, "one", "two"), what="all is made")
    for name in ("one", "two"):
        api.delete(TASK_MODEL, name, namespace)
    no_orphan(api, namespace, others={})
    eventually(lambda: not api.list(POOL, namespace), what="the pool is gone")
