"""How long pods take to be Ready, and pods that are there before anybody asks: what stands in the status and in the operator's figures."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskfleet.api.agent import StartReport
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.apiserver.pods import made_of, tell_start
from tests.benchmarks.fleet_agents import fleet_agents
from tests.cluster.api import POOL, SERVING_CLASS, TASK_MODEL, Api, Object, eventually
from tests.cluster.oracles import still

AGENT = "127.77.213.1"
CLASS, SPARE = "starts", "spare-pods"


@pytest.fixture(scope="module")
def system(api_server: ApiServer, new_namespace: Callable[[str], str]) -> str:
    found = new_namespace("starts-operator")
    # In whose name agents are asked.
    api_server.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "taskfleet-operator", "namespace": found}})
    return found


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator")


@pytest.fixture
def namespace(api_server: ApiServer, new_namespace: Callable[[str], str]) -> Iterator[str]:
    api, found = api_server.api, new_namespace("starts")
    api.apply(serving_class(CLASS))
    scaling = {"minReplicas": 0, "maxReplicas": 4, "spareReplicas": 2}
    api.apply(changed(serving_class(SPARE), put("spec.scaling", scaling)))
    yield found
    for task in api.list(TASK_MODEL, found):
        api.delete(TASK_MODEL, task["metadata"]["name"], found)
    for name in (CLASS, SPARE):
        api.delete(SERVING_CLASS, name)


def the_pool(api: Api, namespace: str) -> Object:
    pools = api.list(POOL, namespace)
    assert len(pools) == 1, "there is one pool"
    return pools[0]


def counted(operator: OperatorProcess) -> float:
    return operator.metric("taskfleet_cold_start_seconds_count", serving_class=CLASS)


def test_start_of_a_pod_is_told_once_part_by_part(api_server: ApiServer, system: str, namespace: str, folder: Path) -> None:
    api, begun = api_server.api, datetime.now(UTC)
    with running_operator(api_server, folder, namespace=system) as operator:
        api.apply(changed(task_model(namespace), put("spec.servingClassName", CLASS)))
        pool = eventually(lambda: the_pool(api, namespace), what="the pool is there")["metadata"]["name"]
        pod = made_of(api, namespace, pool)
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        assert created >= begun - timedelta(seconds=1)
        runs, base, engine, adapters = (created + timedelta(seconds=after) for after in (2.4, 5.3, 38.2, 39.1))
        with fleet_agents([AGENT], start=StartReport(agent_at=runs, base_at=base, engine_at=engine, adapters_at=adapters)):
            tell_start(api, pod, AGENT, ready_after=None)
            operator.brings(
                lambda: the_pool(api, namespace).get("status", {}).get("replicas") == 1, what="the pod is seen before it is Ready"
            )
            assert "lastStart" not in the_pool(api, namespace)["status"]
            tell_start(api, pod, AGENT, ready_after=40)
            operator.brings(lambda: the_pool(api, namespace)["status"].get("lastStart"), what="its start is told")
            start = the_pool(api, namespace)["status"]["lastStart"]
            phases = [("Schedule", "1.0"), ("Pull", "4.1"), ("Base", "2.9"), ("Engine", "30.2"), ("Adapters", "0.9"), ("Ready", "0.9")]
            assert start == {
                "pod": pod["metadata"]["name"],
                "createdTime": pod["metadata"]["creationTimestamp"],
                "seconds": "40.0",
                "slowest": "Engine",
                "phases": [{"phase": phase, "seconds": seconds} for phase, seconds in phases],
            }
            assert counted(operator) == 1
            assert operator.metric("taskfleet_cold_start_phase_seconds_sum", serving_class=CLASS, phase="Engine") == 30.2

            # A drain that was taken back, or a slow probe.
            tell_start(api, pod, AGENT, ready_after=None)
            operator.brings(lambda: the_pool(api, namespace)["status"]["readyReplicas"] == 0, what="it is not Ready")
            tell_start(api, pod, AGENT, ready_after=400)
            operator.brings(lambda: the_pool(api, namespace)["status"]["readyReplicas"] == 1, what="it is Ready again")
            still(api, namespace)
            assert (the_pool(api, namespace)["status"]["lastStart"], counted(operator)) == (start, 1)

            operator.stop()
            with running_operator(api_server, folder, namespace=system, name="next") as following:
                before = still(api, namespace)
                assert counted(following) == 0, "another leader has not watched it"
                assert the_pool(api, namespace)["status"]["lastStart"] == start
                assert still(api, namespace).versions == before.versions


def test_spare_pods_are_there_before_anybody_asks(api_server: ApiServer, system: str, namespace: str, folder: Path) -> None:
    api = api_server.api
    with running_operator(api_server, folder, namespace=system) as operator:
        api.apply(changed(task_model(namespace), put("spec.servingClassName", SPARE)))

        def told() -> bool:
            pool = the_pool(api, namespace)
            scaling = pool.get("status", {}).get("scaling", {})
            return pool["spec"]["replicas"] == 2 and (scaling.get("desiredReplicas"), scaling.get("reason")) == (2, "Spare")

        operator.brings(told, what="the pool has its spare pods, and says why")
        still(api, namespace)
        # An order of people: it counts at once, whatever is known.
        api.apply(changed(task_model(namespace), put("spec.servingClassName", SPARE), put("spec.scaling", {"maxReplicas": 1})))
        operator.brings(lambda: the_pool(api, namespace)["spec"]["replicas"] == 1, what="none is beyond the maximum")
