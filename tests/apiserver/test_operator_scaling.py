"""Whose a pool's replicas are, by the API server's own account, and what becomes of a task that serves when one of its schedules can't be kept."""

from collections.abc import Callable, Iterator

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.history import History, traffic
from tests.apiserver.nodes import nodes
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import DEPLOYMENT, POD, POOL, SERVING_CLASS, TASK_MODEL, Api, ApiError, Object, eventually, is_true
from tests.cluster.oracles import ready, refused_clearly, settled, still

AGENTS = [f"127.77.215.{number}" for number in range(1, 5)]
CLASS = "scaled"
OPERATOR = "taskfleet-operator"
ALWAYS = {"name": "always", "timeZone": "Europe/Berlin", "start": "* * * * *", "end": "0 0 29 2 *", "minReplicas": 2}


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    system = new_namespace("scaling-operator")
    # In whose name agents are asked.
    api_server.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OPERATOR, "namespace": system}})
    scaled_by(api_server.api, "Builtin")
    with running_operator(api_server, tmp_path_factory.mktemp("operator"), namespace=system) as found:
        yield found
    api_server.api.delete(SERVING_CLASS, CLASS)


@pytest.fixture
def namespace(api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]) -> Iterator[str]:
    found = new_namespace("scaling")
    yield found
    for task in api_server.api.list(TASK_MODEL, found):
        api_server.api.delete(TASK_MODEL, task["metadata"]["name"], found)


def scaled_by(api: Api, autoscaler: str) -> None:
    api.apply(changed(serving_class(CLASS), put("spec.scaling", {"autoscaler": autoscaler, "minReplicas": 1, "maxReplicas": 4})))


def task(namespace: str, name: str = "one", **scaling: object) -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", CLASS), put("spec.scaling", scaling))


def the_pool(api: Api, namespace: str) -> Object:
    pools = api.list(POOL, namespace)
    assert len(pools) == 1, "there is one pool"
    return pools[0]


def owners_of_replicas(pool: Object) -> set[tuple[str, str, str]]:
    """Who owns `spec.replicas`: manager, operation, subresource."""
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", ""))
        for entry in pool["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }


def test_replicas_change_hands_without_a_jump(api_server: ApiServer, operator: OperatorProcess, namespace: str) -> None:
    """A-12: there is an owner at any time, and never a number that neither of them has decided."""
    api, history = api_server.api, History.begin(api_server.api, namespace, POOL)
    ours, theirs = {(OPERATOR, "Apply", "")}, {("kubectl", "Update", "scale")}

    def is_at(replicas: int, owners: set[tuple[str, str, str]]) -> bool:
        pool = the_pool(api, namespace)
        assert (pool["spec"]["replicas"], owners_of_replicas(pool)) == (replicas, owners)
        return bool(api.get(DEPLOYMENT, pool["metadata"]["name"], namespace)["spec"]["replicas"] == replicas)

    api.apply(task(namespace))
    operator.brings(lambda: is_at(1, ours), what="the operator has the field")
    scaled_by(api, "External")
    operator.brings(
        lambda: the_pool(api, namespace)["status"].get("scaling", {}).get("reason") == "External", what="it is told that another may scale"
    )
    # A field that nobody owns would fall back to its default.
    assert is_at(1, ours)
    api_server.kubectl("scale", "modelpool", the_pool(api, namespace)["metadata"]["name"], "-n", namespace, "--replicas=3")
    operator.brings(lambda: is_at(3, theirs), what="the other has the field")
    api.apply(task(namespace, "two"))
    operator.brings(lambda: len(the_pool(api, namespace)["spec"]["members"]) == 2, what="the operator writes the rest of the pool")
    still(api, namespace)
    assert is_at(3, theirs)
    scaled_by(api, "Builtin")
    # Whoever applies the value that is there owns it together with who wrote it.
    operator.brings(lambda: is_at(3, ours | theirs), what="the operator takes the field again, with what it found")
    still(api, namespace)
    settled(api, namespace)
    for name in ("one", "two"):
        api.apply(task(namespace, name, maxReplicas=2))
    operator.brings(lambda: is_at(2, ours), what="with its next decision the field is the operator's alone")
    name = the_pool(api, namespace)["metadata"]["name"]
    versions = history.versions(name)
    numbers = [version["spec"]["replicas"] for version in versions]
    assert [number for before, number in zip([0, *numbers], numbers, strict=False) if number != before] == [1, 3, 2]
    assert all(owners_of_replicas(version) for version in versions)


REFUSED = {
    "zone": ({"timeZone": "Europe/Atlantis"}, "must be a time zone of the IANA database"),
    "hour": ({"start": "0 24 * * *"}, "spec.scaling.schedules[1].start"),
}


def test_task_that_serves_goes_on_with_its_valid_schedules(api_server: ApiServer, operator: OperatorProcess, namespace: str) -> None:
    """O10: what the API server can see never gets in, and what it can't is told with the field's name."""
    api = api_server.api
    bad = ALWAYS | {"name": "bad", "minReplicas": 3}
    with nodes(api, AGENTS) as found:
        found.namespaces.add(namespace)
        api.apply(task(namespace, schedules=[ALWAYS]))
        operator.brings(lambda: len(api.list(POD, namespace)) == 2, what="the schedule has its pods")
        ready(api, namespace)
        still(api, namespace)
        before = api.get(TASK_MODEL, "one", namespace)
        assert sum(traffic(before).values()) == 100
        pods = {pod["metadata"]["uid"] for pod in api.list(POD, namespace)}
        pool = the_pool(api, namespace)

        for change, words in REFUSED.values():
            with pytest.raises(ApiError) as refused:
                api.apply(task(namespace, schedules=[ALWAYS, bad | change]))
            assert (refused.value.status, words in refused.value.message) == (422, True), refused.value.message
        assert api.get(TASK_MODEL, "one", namespace)["metadata"]["generation"] == before["metadata"]["generation"]

        api.apply(task(namespace, schedules=[ALWAYS, bad | {"start": "0 8 30 2 *"}]))
        told = refused_clearly(api, namespace, "one", reason="InvalidSpec", mentions="spec.scaling.schedules[bad].start: 0 8 30 2 *")
        assert not is_true(told, "Accepted")
        still(api, namespace)
        now = api.get(TASK_MODEL, "one", namespace)
        assert is_true(now, "Available"), now["status"]["conditions"]
        assert traffic(now) == traffic(before)
        assert the_pool(api, namespace)["spec"] == pool["spec"]
        assert the_pool(api, namespace)["status"]["scaling"]["floor"] == pool["status"]["scaling"]["floor"]
        assert {pod["metadata"]["uid"] for pod in api.list(POD, namespace)} == pods

        api.apply(task(namespace, schedules=[ALWAYS, bad]))
        operator.brings(lambda: the_pool(api, namespace)["spec"]["replicas"] == 3, what="once it can be kept, it is")
        eventually(lambda: is_true(api.get(TASK_MODEL, "one", namespace), "Accepted"), what="accepted")
