"""The operator against a real API server: what it makes of TaskModels, keeps as it is, and puts right."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskfleet.names import peers_service
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POOL,
    REVISION,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVING_CLASS,
    TASK_MODEL,
    Api,
    Kind,
    Object,
    condition,
    eventually,
)
from tests.cluster.oracles import identities, minimal, no_orphan, settled, silent, standing, summary

# R-19 allows 30 s; the machine is shared.
BACK_SECONDS = 30


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    api_server.api.apply(serving_class("children"))
    with running_operator(api_server, tmp_path_factory.mktemp("operator"), namespace=new_namespace("operator")) as found:
        yield found
    api_server.api.delete(SERVING_CLASS, "children")


def of_class(body: Object) -> Object:
    return changed(body, put("spec.servingClassName", "children"))


@pytest.fixture
def namespace(api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]) -> str:
    """Two TaskModels that share a pool, settled, for one test."""
    return populated(api_server, operator, new_namespace("own"))


@pytest.fixture(scope="module")
def shared(api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]) -> str:
    """The same for all tests after which everything of ours is as it was: that is what they show."""
    return populated(api_server, operator, new_namespace("shared"))


def populated(api_server: ApiServer, operator: OperatorProcess, found: str) -> str:
    for name in ("one", "two"):
        api_server.api.apply(of_class(task_model(found, name)))
    operator.brings(lambda: len(children(api_server.api, found)) == len(CHILDREN), what="all children of the pool")
    settled(api_server.api, found)
    quiet(api_server.api, found)
    return found


def children(api: Api, namespace: str) -> dict[str, Object]:
    """By kind."""
    name = pool_name(api, namespace)
    found = {kind.kind: api.find(kind, name, namespace) for kind in CHILDREN}
    return {kind: child for kind, child in found.items() if child is not None}


def pool_name(api: Api, namespace: str) -> str:
    names = [pool["metadata"]["name"] for pool in api.list(POOL, namespace)]
    assert len(names) == 1, f"pools: {names}"
    return str(names[0])


def quiet(api: Api, namespace: str) -> None:
    """Kubernetes' own controllers have done their part, too."""

    def still() -> bool:
        silent(api, namespace, seconds=2.5)
        return True

    eventually(still, what=f"{namespace} is quiet", within=60)


def test_task_models_share_a_pool_that_goes_with_the_last_of_them(api_server: ApiServer, namespace: str) -> None:
    api = api_server.api
    (pool,) = api.list(POOL, namespace)
    revisions = {one["spec"]["taskModelName"]: one for one in api.list(REVISION, namespace)}
    assert {member["taskModel"]: member["uid"] for member in pool["spec"]["members"]} == {
        name: one["metadata"]["uid"] for name, one in revisions.items()
    }
    assert {(owner["kind"], owner["uid"], owner.get("controller", False)) for owner in pool["metadata"]["ownerReferences"]} == {
        ("TaskModelRevision", one["metadata"]["uid"], False) for one in revisions.values()
    }
    for kind, child in children(api, namespace).items():
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelPool", pool["metadata"]["uid"], True), kind
    api.delete(TASK_MODEL, "one", namespace)
    eventually(lambda: len(api.list(POOL, namespace)[0]["spec"]["members"]) == 1, what="the member is gone")
    api.delete(TASK_MODEL, "two", namespace)
    no_orphan(api, namespace, others={})


def test_nothing_of_the_users_is_written_and_nothing_has_a_finalizer(api_server: ApiServer, shared: str) -> None:
    api = api_server.api
    for task in api.list(TASK_MODEL, shared):
        managers = {(entry["manager"], entry.get("subresource", "")) for entry in task["metadata"]["managedFields"]}
        assert managers == {("taskfleet-tests", ""), ("taskfleet-operator", "status")}
        assert "annotations" not in task["metadata"]
    everything = [*api.list(TASK_MODEL, shared), *api.list(REVISION, shared), *api.list(POOL, shared)]
    assert not [one for one in [*everything, *children(api, shared).values()] if one["metadata"].get("finalizers")]


def test_applying_the_same_twenty_times_writes_nothing(api_server: ApiServer, operator: OperatorProcess, shared: str) -> None:
    """R-02."""
    api = api_server.api
    before, uids, written = standing(api, shared), identities(api, shared), operator.writes()
    for _ in range(20):
        for name in ("one", "two"):
            api.apply(of_class(task_model(shared, name)))
    silent(api, shared, seconds=5)
    assert standing(api, shared) == before
    minimal(uids, identities(api, shared))
    assert operator.writes() == written


@pytest.mark.parametrize("kind", CHILDREN, ids=lambda kind: kind.kind)
def test_a_deleted_child_comes_back(api_server: ApiServer, shared: str, kind: Kind) -> None:
    """R-19."""
    api, name = api_server.api, pool_name(api_server.api, shared)
    others = {one: child["metadata"]["uid"] for one, child in children(api, shared).items() if one != kind.kind}
    gone = api.get(kind, name, shared)["metadata"]["uid"]
    api.delete(kind, name, shared)
    eventually(
        lambda: (found := api.find(kind, name, shared)) is not None and found["metadata"]["uid"] != gone,
        what=f"{kind.kind} is back",
        within=BACK_SECONDS,
    )
    assert {one: child["metadata"]["uid"] for one, child in children(api, shared).items() if one != kind.kind} == others


def test_the_service_by_which_pods_find_each_other_comes_back(api_server: ApiServer, shared: str) -> None:
    api, name = api_server.api, peers_service(pool_name(api_server.api, shared))
    gone = api.get(SERVICE, name, shared)["metadata"]["uid"]
    api.delete(SERVICE, name, shared)
    eventually(
        lambda: (found := api.find(SERVICE, name, shared)) is not None and found["metadata"]["uid"] != gone,
        what="it is back",
        within=BACK_SECONDS,
    )


# A field of ours, and what somebody makes of it; None removes it.
EDITS: list[tuple[Kind, tuple[str, ...], object]] = [
    (DEPLOYMENT, ("spec", "replicas"), 5),
    (DEPLOYMENT, ("spec", "template", "spec", "automountServiceAccountToken"), True),
    (SERVICE, ("spec", "selector", "taskfleet.dev/pool"), "elsewhere"),
    (SERVICE, ("metadata", "labels", "taskfleet.dev/pool-uid"), "another"),
    (SERVICE, ("metadata", "labels", "taskfleet.dev/pool"), None),  # by this one we watch
    (CONFIG_MAP, ("data", "desired.json"), "{}"),
    (CONFIG_MAP, ("data", "trust.json"), None),
    (NETWORK_POLICY, ("spec", "ingress"), [{}]),
    (DISRUPTION_BUDGET, ("spec", "maxUnavailable"), 7),
    (SERVICE_ACCOUNT, ("automountServiceAccountToken",), True),
]


@pytest.mark.parametrize(("kind", "path", "value"), EDITS, ids=lambda value: getattr(value, "kind", None))
def test_an_edit_of_ours_is_undone_and_additions_of_others_stay(
    api_server: ApiServer, shared: str, kind: Kind, path: tuple[str, ...], value: object
) -> None:
    """R-20."""
    api, name = api_server.api, pool_name(api_server.api, shared)
    before = at(api.get(kind, name, shared), path)
    theirs = {"labels": {"team": "theirs"}, "annotations": {"theirs.example/note": "kept"}}
    api.patch(kind, name, shared, change={"metadata": theirs})
    edited = api.patch(kind, name, shared, change=nested(path, value))
    assert at(edited, path) == value
    eventually(lambda: at(api.get(kind, name, shared), path) == before, what="the edit is undone", within=BACK_SECONDS)
    found = api.get(kind, name, shared)["metadata"]
    assert found["labels"]["team"] == "theirs"
    assert found["annotations"]["theirs.example/note"] == "kept"


def test_a_sidecar_that_others_add_to_the_template_stays(api_server: ApiServer, namespace: str) -> None:
    """R-20, R-32: a policy or a mesh adds containers; fighting it would roll the pods for ever."""
    api, name = api_server.api, pool_name(api_server.api, namespace)
    sidecar = {"name": "mesh", "image": "registry.example/mesh:1"}
    api.patch(
        DEPLOYMENT, name, namespace, change=[{"op": "add", "path": "/spec/template/spec/containers/-", "value": sidecar}], json_patch=True
    )
    api.patch(DEPLOYMENT, name, namespace, change={"spec": {"replicas": 3}})
    eventually(lambda: api.get(DEPLOYMENT, name, namespace)["spec"]["replicas"] == 1, what="our field is back", within=BACK_SECONDS)
    quiet(api, namespace)
    containers = api.get(DEPLOYMENT, name, namespace)["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in containers] == ["engine", "mesh"]


@pytest.mark.parametrize("kind", [*CHILDREN, REVISION, POOL], ids=lambda kind: kind.kind)
def test_a_stripped_owner_reference_is_restored(api_server: ApiServer, shared: str, kind: Kind) -> None:
    """R-21."""
    api = api_server.api
    name = api.list(REVISION, shared)[0]["metadata"]["name"] if kind is REVISION else pool_name(api, shared)
    before = api.get(kind, name, shared)["metadata"]
    api.patch(kind, name, shared, change=[{"op": "remove", "path": "/metadata/ownerReferences"}], json_patch=True)
    eventually(
        lambda: api.get(kind, name, shared)["metadata"].get("ownerReferences") == before["ownerReferences"],
        what="the owner reference is back",
        within=BACK_SECONDS,
    )
    assert api.get(kind, name, shared)["metadata"]["uid"] == before["uid"]


def test_members_that_somebody_edited_are_put_right(api_server: ApiServer, shared: str) -> None:
    api, name = api_server.api, pool_name(api_server.api, shared)
    before = api.get(POOL, name, shared)["spec"]["members"]
    api.patch(POOL, name, shared, change={"spec": {"members": before[:1], "replicas": 9}})
    eventually(lambda: api.get(POOL, name, shared)["spec"]["members"] == before, what="the members are back", within=BACK_SECONDS)
    assert api.get(POOL, name, shared)["spec"]["replicas"] == 1


def test_two_that_join_and_one_that_leaves_in_the_same_second_lose_no_member(api_server: ApiServer, namespace: str) -> None:
    """R-42."""
    api = api_server.api
    for name in ("three", "four"):
        api.apply(of_class(task_model(namespace, name)))
    api.delete(TASK_MODEL, "one", namespace)
    wanted = {"two", "three", "four"}
    eventually(
        lambda: {member["taskModel"] for member in api.list(POOL, namespace)[0]["spec"]["members"]} == wanted, what="the members are right"
    )
    eventually(lambda: {one["spec"]["taskModelName"] for one in api.list(REVISION, namespace)} == wanted, what="revisions follow")
    settled(api, namespace)
    quiet(api, namespace)
    assert {member["taskModel"] for member in api.list(POOL, namespace)[0]["spec"]["members"]} == wanted


def test_of_fifty_edits_only_the_last_counts(api_server: ApiServer, namespace: str) -> None:
    """R-10."""
    api = api_server.api
    for number in range(50):
        api.apply(of_class(changed(task_model(namespace, "one"), put("spec.adapter.version", f"v{number}"))))

    def only_the_last() -> bool:
        found = [one for one in api.list(REVISION, namespace) if one["spec"]["taskModelName"] == "one"]
        return [one["spec"]["adapter"]["version"] for one in found] == ["v49"]

    eventually(only_the_last, what="only the last revision is left")
    settled(api, namespace)
    assert len(api.list(POOL, namespace)[0]["spec"]["members"]) == 2


def test_a_quota_in_the_way_is_told_and_got_over(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """R-31."""
    api, found = api_server.api, new_namespace("quota")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": found},
        "spec": {"hard": {"count/deployments.apps": "0"}},
    }
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    eventually(
        lambda: "hard" in json.loads(api_server.kubectl("get", "quota", "none", "-n", found, "-o", "json"))["status"],
        what="quota is counted",
    )
    api.apply(of_class(task_model(found, "one")))
    operator.brings(lambda: "exceeded quota" in ready_message(api, found, "one"), what="the quota is told")
    assert summary(api.get(TASK_MODEL, "one", found)) == "Stalled"
    quiet(api, found)
    api_server.kubectl("delete", "quota", "none", "-n", found)
    eventually(lambda: api.list(DEPLOYMENT, found) or None, what="the Deployment is made", within=90)
    eventually(lambda: "exceeded quota" not in ready_message(api, found, "one"), what="the quota is no longer told")


def ready_message(api: Api, namespace: str, name: str) -> str:
    ready = condition(api.get(TASK_MODEL, name, namespace), "Ready")
    return str(ready["message"]) if ready else ""


def at(body: Object, path: tuple[str, ...]) -> object:
    found: Any = body
    for name in path:
        found = found.get(name)
        if found is None:
            return None
    return found


def nested(path: tuple[str, ...], value: object) -> Object:
    result: Any = value
    for name in reversed(path):
        result = {name: result}
    return dict(result)
