"""Whatever way led there, the end is what the last spec asks for: edits of every kind of field, deletions in every order, restored objects."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.made import all_made, members
from tests.apiserver.objects import Change, changed, drop, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import DEPLOYMENT, POOL, REVISION, SERVING_CLASS, TASK_MODEL, Api, Object, condition, eventually
from tests.cluster.oracles import no_orphan, ours, settled, still
from tests.cluster.states import same_state, state

CLASSES = ("paths", "paths-too")


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    for name in CLASSES:
        api_server.api.apply(serving_class(name))
    with running_operator(api_server, tmp_path_factory.mktemp("operator"), namespace=new_namespace("operator")) as found:
        yield found
    for name in CLASSES:
        api_server.api.delete(SERVING_CLASS, name)


def nothing(_: Object) -> None:
    """The plain task."""


def stops(*texts: str) -> Object:
    return {"defaults": {"stop": list(texts)}}


STEPS = [{"weightPercent": 10}, {"weightPercent": 50}]
GOLDEN = {"dataset": {"configMapName": "golden"}}


def scored_by(metric: str, *, task: Object | None = None, **more: Object) -> Change:
    """With what the metric needs beside it."""

    def change(one: Object) -> None:
        put("spec.evaluation", GOLDEN | {"metric": metric} | more)(one)
        put("spec.task", task or {})(one)

    return change


# Where each task goes, step by step; the last step is where it must arrive.
PATHS: dict[str, tuple[Change, ...]] = {
    "version-and-back": (nothing, put("spec.adapter.version", "v2"), nothing),
    "adapter-removed": (nothing, drop("spec.adapter")),
    "adapter-added": (drop("spec.adapter"), nothing),
    "digest-unpinned": (put("spec.adapter.digest", "sha256:" + "a" * 64), nothing),
    "base": (nothing, put("spec.base.revision", "v2")),
    "class": (nothing, put("spec.servingClassName", "paths-too")),
    "isolation-and-back": (nothing, put("spec.isolation", "Dedicated"), nothing),
    "suspended-and-resumed": (put("spec.suspend", value=True), nothing),
    "prompt": (nothing, put("spec.task", {"systemPrompt": "Say less."}), put("spec.task", {"promptTemplate": "{input} =>"})),
    "schema-removed": (put("spec.task", {"outputSchema": "{}"}), nothing),
    "stops-pushed": (put("spec.task", stops("a")), put("spec.task", stops("a", "b"))),
    "stops-popped": (put("spec.task", stops("a", "b")), put("spec.task", stops("b"))),
    "stops-emptied": (put("spec.task", stops("a")), put("spec.task", stops())),
    "overrides-emptied": (put("spec.task", {"allowOverrides": ["Seed"]}), put("spec.task", {"allowOverrides": []})),
    "replicas-up-and-down": (nothing, put("spec.scaling", {"minReplicas": 3, "maxReplicas": 3}), nothing),
    "rollout": (nothing, put("spec.rollout", {"strategy": "Canary", "steps": STEPS}), put("spec.rollout", {"strategy": "Canary"})),
    "no-traffic": (put("spec.rollout", {"analysis": {"onNoTraffic": "Promote"}}), put("spec.rollout", {"strategy": "Immediate"})),
    **{
        f"metric-{metric.lower()}": (put("spec.evaluation", GOLDEN), put("spec.evaluation", GOLDEN | {"metric": metric}))
        for metric in ("FieldF1", "Regex", "NumericTolerance")
    },
    "metric-jsonschema": (put("spec.evaluation", GOLDEN), scored_by("JSONSchema", task={"outputSchema": "{}"})),
    "metric-judge": (put("spec.evaluation", GOLDEN), scored_by("Judge", judge={"url": "https://judge.example/v1", "model": "large"})),
    "evaluation-removed": (put("spec.evaluation", GOLDEN), nothing),
}


def at(namespace: str, name: str, step: int) -> Object:
    path = PATHS[name]
    plain = changed(task_model(namespace, name), put("spec.servingClassName", "paths"))
    return changed(plain, path[min(step, len(path) - 1)])


def test_every_kind_of_edit_leads_where_a_fresh_start_leads(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """R-03, O4: all paths at once, in one namespace, and then again from nothing with the last specs only."""
    api, namespace = api_server.api, new_namespace("paths")
    length = max(len(path) for path in PATHS.values())
    for step in range(length):
        for name in PATHS:
            api.apply(at(namespace, name, step))
        operator.brings(lambda: members(api, namespace) == set(PATHS) - suspended(api, namespace), what=f"step {step} is made")
    wandered = at_rest(api, namespace)
    named = [one["metadata"]["name"] for one in api.list(TASK_MODEL, namespace) if condition(one, "FieldsWithoutEffect") is not None]
    assert named == [], "O3: what is set in the end is acted on"
    for name in PATHS:
        api.delete(TASK_MODEL, name, namespace)
    no_orphan(api, namespace, others={})
    for name in PATHS:
        api.apply(at(namespace, name, length))
    operator.brings(lambda: members(api, namespace) == set(PATHS), what="the last specs are made")
    same_state(wandered, at_rest(api, namespace), what="the way matters")


def suspended(api: Api, namespace: str) -> set[str]:
    return {one["metadata"]["name"] for one in api.list(TASK_MODEL, namespace) if one["spec"]["suspend"]}


def at_rest(api: Api, namespace: str) -> dict[str, Object]:
    """One revision for each task, nothing in motion."""

    def one_each() -> bool:
        found = [one["spec"]["taskModelName"] for one in api.list(REVISION, namespace)]
        return sorted(found) == sorted(one["metadata"]["name"] for one in api.list(TASK_MODEL, namespace))

    eventually(one_each, what="one revision each")
    settled(api, namespace)
    still(api, namespace)
    return state(api, namespace)


def test_deletions_in_every_order_leave_nothing(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    api = api_server.api
    orders = list(itertools.permutations((TASK_MODEL, REVISION, POOL, DEPLOYMENT)))[::3]
    namespaces = [new_namespace("order") for _ in orders]
    for namespace in namespaces:
        api.apply(changed(task_model(namespace, "one"), put("spec.servingClassName", "paths")))
    for namespace in namespaces:
        operator.brings(lambda namespace=namespace: all_made(api, namespace, "one"), what="all is made")  # type: ignore[misc]
    for namespace, order in zip(namespaces, orders, strict=True):
        for kind in order:
            for one in api.list(kind, namespace):
                api.delete(kind, one["metadata"]["name"], namespace)
    for namespace in namespaces:
        no_orphan(api, namespace, others={})
    assert operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0


def test_objects_restored_from_a_backup_converge(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """R-40: without status, UIDs and field managers, and with owners that are no more."""
    api, namespace = api_server.api, new_namespace("restored")
    for name in ("one", "two"):
        api.apply(changed(task_model(namespace, name), put("spec.servingClassName", "paths")))
    operator.brings(lambda: all_made(api, namespace, "one", "two"), what="all is made")
    before = at_rest(api, namespace)
    backup = [restorable(one) for kind in (POOL, REVISION, TASK_MODEL) for one in api.list(kind, namespace)]
    for name in ("one", "two"):
        api.delete(TASK_MODEL, name, namespace)
    eventually(lambda: not ours(api, namespace), what="all is gone")
    for body in backup:
        api.create(body)
    operator.brings(lambda: all_made(api, namespace, "one", "two"), what="all is made again")
    same_state(before, at_rest(api, namespace), what="restored")


def restorable(body: Object) -> Object:
    """As a backup tool writes it."""
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {name: value for name, value in body["metadata"].items() if name in kept}
    return {name: body[name] for name in ("apiVersion", "kind", "spec")} | {"metadata": metadata}
