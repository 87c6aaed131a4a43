"""Objects of others where ours should be, rights that are missing, policies that write into our objects: told clearly, never fought over, and over when the cause is."""

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from taskfleet.api.taskmodel import Base, Isolation
from taskfleet.planning.packing_key import key_of
from tests.apiserver.conftest import ApiServer
from tests.apiserver.made import all_made, complete
from tests.apiserver.objects import SOURCE, changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD,
    POOL,
    REVISION,
    SERVICE,
    SERVING_CLASS,
    TASK_MODEL,
    Api,
    Kind,
    Object,
    condition,
    eventually,
)
from tests.cluster.oracles import said, settled, silent, summary

CLASS = "strangers"


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    api_server.api.apply(serving_class(CLASS))
    folder, system = tmp_path_factory.mktemp("operator"), new_namespace("system")
    with running_operator(api_server, folder, namespace=system, refused_retry_seconds="2") as found:
        yield found
    api_server.api.delete(SERVING_CLASS, CLASS)


def task(namespace: str, name: str = "one") -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", CLASS))


def pool_name(namespace: str) -> str:
    """What the operator calls the first pool of these tasks."""
    base = Base(source=SOURCE, revision="v1")
    return key_of(namespace=namespace, task_model="one", base=base, serving_class=CLASS, isolation=Isolation.SHARED).pool_name(0)


def stranger(kind: Kind, namespace: str) -> Object:
    """A valid object of somebody else that has the name of a pool's."""
    labels = {"matchLabels": {"app": "theirs"}}
    spec: dict[Kind, Object] = {
        DEPLOYMENT: {
            "replicas": 0,
            "selector": labels,
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
            },
        },
        SERVICE: {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
        DISRUPTION_BUDGET: {"maxUnavailable": 1, "selector": labels},
        NETWORK_POLICY: {"podSelector": labels},
        POOL: {"servingClassName": "theirs", "base": {"source": SOURCE, "revision": "v9"}, "members": []},
    }
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": pool_name(namespace), "namespace": namespace}}
    return body | ({"spec": spec[kind]} if kind in spec else {})


TAKEN = (*CHILDREN, POOL)


def test_objects_of_others_with_our_names_are_left_alone_and_told_of(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """All at once, each in a namespace of its own: every kind of child, and a ModelPool that the operator did not make."""
    api = api_server.api
    namespaces = {kind: new_namespace("taken") for kind in TAKEN}
    theirs = {kind: api.apply(stranger(kind, namespace)) for kind, namespace in namespaces.items()}
    for namespace in namespaces.values():
        api.apply(task(namespace))
    for kind, namespace in namespaces.items():
        operator.brings(partial(taken, api, namespace, kind), what=f"the taken {kind.kind} is told of")
    silent(api, *namespaces.values(), seconds=5)
    for kind, namespace in namespaces.items():
        found = api.get(kind, pool_name(namespace), namespace)
        assert our_marks(found) == [], f"{kind.kind} was taken over"
        assert found["metadata"]["uid"] == theirs[kind]["metadata"]["uid"]
        assert not api.list(POD, namespace), "no pod runs among strangers"
    for kind, namespace in namespaces.items():
        api.delete(kind, pool_name(namespace), namespace)
    for kind, namespace in namespaces.items():
        operator.brings(partial(all_made, api, namespace, "one"), what=f"all is made once the {kind.kind} is gone")
    settled(api, *namespaces.values())


def taken(api: Api, namespace: str, kind: Kind) -> bool:
    found = api.get(TASK_MODEL, "one", namespace)
    stalled = condition(found, "Stalled")
    assert stalled, said(found)
    assert stalled["reason"] == "NameTaken", said(found)
    assert f"{kind.kind} {namespace}/{pool_name(namespace)} exists and was not made by the operator" in stalled["message"]
    return summary(found) == "Stalled"


def our_marks(body: Object) -> list[str]:
    """What would make it ours: a field, a label, an owner."""
    metadata = body["metadata"]
    managers = [entry["manager"] for entry in metadata.get("managedFields", []) if entry["manager"] == "taskfleet-operator"]
    labels = [label for label in metadata.get("labels", {}) if label.startswith("taskfleet.dev/")]
    return [*managers, *labels, *(owner["kind"] for owner in metadata.get("ownerReferences", []))]


def test_a_revision_and_a_pool_that_others_made_are_neither_used_nor_deleted(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    api, namespace = api_server.api, new_namespace("foreign")
    api.apply(task(namespace))
    operator.brings(lambda: complete(api, namespace, "one"), what="all is made")
    (ours,) = api.list(REVISION, namespace)
    theirs = changed(ours, put("metadata", {"name": "one-theirs", "namespace": namespace}))
    del theirs["status"]
    uids = [api.apply(theirs)["metadata"]["uid"]]
    lonely = stranger(POOL, namespace)
    lonely["metadata"]["name"] = "lonely"
    uids.append(api.apply(lonely)["metadata"]["uid"])
    api.apply(changed(task(namespace), put("spec.adapter.version", "v2")))
    operator.brings(
        lambda: (
            {one["spec"]["adapter"]["version"] for one in api.list(REVISION, namespace) if one["metadata"]["name"] != "one-theirs"}
            == {"v2"}
        ),
        what="the change is carried out",
    )
    silent(api, namespace, seconds=3)
    left = [api.get(REVISION, "one-theirs", namespace), api.get(POOL, "lonely", namespace)]
    assert [one["metadata"]["uid"] for one in left] == uids
    assert "status" not in left[1]
    assert [pool["metadata"]["name"] for pool in api.list(POOL, namespace)] == sorted(["lonely", pool_name(namespace)])


def policy(namespace: str) -> list[Object]:
    """Whatever is made or changed in the namespace gets a label, and Deployments another image and a sidecar, whoever writes."""
    kinds = [
        {
            "apiGroups": [kind.api_version.rpartition("/")[0]],
            "apiVersions": ["*"],
            "resources": [kind.plural],
            "operations": ["CREATE", "UPDATE"],
        }
        for kind in (*CHILDREN, POOL, REVISION)
    ]
    deployment = "object.kind == 'Deployment'"
    label = 'Object{metadata: Object.metadata{labels: {"cost-centre": "42"}}}'
    sidecar = (
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: ["
        'Object.spec.template.spec.containers{name: "mesh", image: "registry.example/mesh:1"}]}}}}'
    )
    replicas = '[JSONPatch{op: "replace", path: "/spec/revisionHistoryLimit", value: 7}]'
    expression = {"patchType": "ApplyConfiguration"}
    metadata = {"name": namespace}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "resourceRules": kinds,
                },
                "mutations": [
                    expression | {"applyConfiguration": {"expression": label}},
                    expression | {"applyConfiguration": {"expression": f"{deployment} ? {sidecar} : Object{{}}"}},
                    {"patchType": "JSONPatch", "jsonPatch": {"expression": f"{deployment} ? {replicas} : []"}},
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": namespace},
        },
    ]


def test_a_policy_that_writes_into_our_objects_is_not_fought(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """R-32: labels, a sidecar, and even another value for a field of ours."""
    api, namespace = api_server.api, new_namespace("mutated")
    try:
        for body in policy(namespace):
            api_server.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        eventually(partial(in_force, api, namespace), what="the policy is in force", within=30)
        api.apply(task(namespace))
        operator.brings(lambda: complete(api, namespace, "one"), what="all is made")
        applied = operator.metric("taskfleet_applies_total", result="sent")
        api.patch(DEPLOYMENT, pool_name(namespace), namespace, change={"spec": {"replicas": 3}})
        operator.brings(lambda: api.get(DEPLOYMENT, pool_name(namespace), namespace)["spec"]["replicas"] == 1, what="drift is put right")
        silent(api, namespace, seconds=4)
        assert operator.metric("taskfleet_applies_total", result="sent") <= applied + 2
        found = api.get(DEPLOYMENT, pool_name(namespace), namespace)
        assert [one["name"] for one in found["spec"]["template"]["spec"]["containers"]] == ["engine", "mesh"]
        assert found["spec"]["revisionHistoryLimit"] == 7
        for kind in (*CHILDREN, POOL):
            assert api.get(kind, pool_name(namespace), namespace)["metadata"]["labels"]["cost-centre"] == "42", kind.kind
    finally:
        for body in policy(namespace):
            api_server.kubectl("delete", body["kind"], namespace, "--ignore-not-found")


def in_force(api: Api, namespace: str) -> bool:
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "namespace": namespace}}
    made = api.apply(probe)
    api.delete(CONFIG_MAP, "probe", namespace)
    return "cost-centre" in made["metadata"].get("labels", {})


LIMITS: dict[str, Object] = {
    "LimitRange": {
        "limits": [{"type": "Container", "max": {"memory": "1Mi"}, "default": {"memory": "1Mi"}, "defaultRequest": {"memory": "1Mi"}}]
    },
    "ResourceQuota": {"hard": {"pods": "0"}},
}


def test_limits_of_pods_are_told_and_got_over(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """R-31: the objects are made, their pods are refused."""
    api = api_server.api
    namespaces = {kind: new_namespace("limited") for kind in LIMITS}
    for kind, namespace in namespaces.items():
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "tight", "namespace": namespace}, "spec": LIMITS[kind]}
        api_server.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        api.apply(task(namespace))
    words = {"LimitRange": "maximum memory usage per Container is 1Mi", "ResourceQuota": "exceeded quota: tight"}
    for kind, namespace in namespaces.items():
        operator.brings(partial(pods_refused, api, namespace, words[kind]), what=f"the {kind} is told of")
    settled(api, *namespaces.values())
    for kind, namespace in namespaces.items():
        api_server.kubectl("delete", kind, "tight", "-n", namespace)
        # The ReplicaSet controller tries again by itself, later and later; a change makes it try now.
        api_server.kubectl("delete", "replicasets", "--all", "-n", namespace)
    for kind, namespace in namespaces.items():
        operator.brings(partial(starting, api, namespace), what=f"pods are made without the {kind}")


def pods_refused(api: Api, namespace: str, words: str) -> bool:
    found = api.get(TASK_MODEL, "one", namespace)
    stalled = condition(found, "Stalled")
    assert stalled, said(found)
    assert stalled["reason"] == "PodRefused", said(found)
    assert words in stalled["message"]
    return True


def starting(api: Api, namespace: str) -> bool:
    assert api.list(POD, namespace)
    return summary(api.get(TASK_MODEL, "one", namespace)) == "Reconciling"
