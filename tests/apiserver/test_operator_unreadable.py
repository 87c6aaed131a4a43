"""Objects that were stored under a definition that allowed more: each is told of, none stops another, and all come right when they are corrected."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from taskfleet import names
from tests.apiserver.conftest import ROOT, ApiServer, apply_definition, install_definitions
from tests.apiserver.made import all_made
from tests.apiserver.objects import changed, pool, put, revision, serving_class, task_model
from tests.apiserver.operator_process import running_operator
from tests.cluster.api import POOL, REVISION, SERVING_CLASS, TASK_MODEL, Api, ApiError, Kind, Object, condition, eventually, is_true
from tests.cluster.oracles import refused_clearly, said, settled, silent, summary, warnings

CLASS, BROKEN_CLASS = "readable", "unreadable-class"
# Wrong types and a missing part, which no parser of ours can take, and what the message has to name.
BROKEN: dict[str, tuple[str, object, str]] = {
    "number": ("spec.isolation", 5, "spec.isolation"),
    "rule": ("spec.rollout", "Canary", "spec.rollout"),
    "list": ("spec.base", ["oci://registry.example/a"], "spec.base"),
    "word": ("spec.isolation", "Sometimes", "spec.isolation"),
    "null": ("spec.adapter", {"source": None, "version": {"a": 1}}, "spec.adapter"),
}


# A rule of the definition can't be evaluated on a text: the API server takes no write to it at all, but one that corrects it.
TOLD = [name for name in BROKEN if name != "rule"]


def task(namespace: str, name: str, class_name: str = CLASS) -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", class_name))


def broken_task(namespace: str, name: str) -> Object:
    path, value, _ = BROKEN[name]
    return changed(task(namespace, name), put(path, value))


def loosened(definition: Object) -> Object:
    for version in definition["spec"]["versions"]:
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        properties["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version.pop("selectableFields", None)  # they need a schema
    return definition


def loosen(api: Api, probe: Object) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        apply_definition(api, loosened(yaml.safe_load(path.read_text())))
    eventually(lambda: api.create(probe), what="the loose definitions are in force")


def strict(api: Api, broken: Object) -> None:
    install_definitions(api)

    def refused() -> bool:
        try:
            api.apply(broken, dry_run=True)
        except ApiError:
            return True
        return False

    eventually(refused, what="the definitions are in force again")


@pytest.fixture
def stored(api_server: ApiServer, new_namespace: Callable[[str], str]) -> Iterator[str]:
    """A namespace with what no longer fits."""
    api, namespace = api_server.api, new_namespace("unreadable")
    api.apply(serving_class(CLASS))
    try:
        loosen(api, broken_task(namespace, "number"))
        for name in BROKEN:
            if name != "number":
                api.create(broken_task(namespace, name))
        api.create(changed(serving_class(BROKEN_CLASS), put("spec.engine", "vLLM")))
        api.apply(
            changed(revision(namespace, "half-0123456789"), put("spec.taskModelName", "half"), put("spec.adapter", 7)),
            manager=names.FIELD_MANAGER,
        )
        api.apply(changed(pool(namespace, "broken-0a1b2c3d"), put("spec.members", "none")), manager=names.FIELD_MANAGER)
    finally:
        strict(api, changed(broken_task(namespace, "word"), put("metadata.name", "probe")))
    yield namespace
    api_server.kubectl("delete", SERVING_CLASS.plural, CLASS, BROKEN_CLASS)


def test_each_is_told_of_none_stops_another_and_all_come_right(
    api_server: ApiServer, new_namespace: Callable[[str], str], stored: str, tmp_path: Path
) -> None:
    api, other = api_server.api, new_namespace("other")
    api.apply(task(stored, "half"))
    api.apply(task(stored, "asks", BROKEN_CLASS))
    api.apply(task(other, "plain"))
    with running_operator(api_server, tmp_path, namespace=new_namespace("operator"), refused_retry_seconds="2") as operator:
        operator.brings(lambda: all_made(api, other, "plain"), what="the neighbour's task is made")
        operator.brings(lambda: is_true(api.get(TASK_MODEL, "half", stored), "Assigned"), what="the good task beside them is assigned")
        for name in TOLD:
            refused_clearly(api, stored, name, reason="InvalidSpec", mentions=BROKEN[name][2])
        operator.brings(lambda: said_by_event(api, stored, "rule"), what="an event tells of the one that takes no status")
        operator.brings(lambda: summary(api.get(SERVING_CLASS, BROKEN_CLASS)) == "Stalled", what="the class says so")
        refused_clearly(api, stored, "asks", reason="ServingClassNotFound", mentions=BROKEN_CLASS)
        silent(api, stored, other, seconds=3)
        assert api.get(POOL, "broken-0a1b2c3d", stored)["spec"]["members"] == "none", "what can't be read is left alone"
        assert operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0

        for name in BROKEN:
            correct(api, TASK_MODEL, task(stored, name))
        correct(api, SERVING_CLASS, serving_class(BROKEN_CLASS))
        for name in (*BROKEN, "asks", "half"):
            operator.brings(partial(assigned, api, stored, name), what=f"{name} is assigned")
        operator.brings(lambda: summary(api.get(SERVING_CLASS, BROKEN_CLASS)) == "Ready", what="the class is usable")
        # The operator neither mends nor deletes what it can't read; whoever stored it does.
        for kind, name in ((REVISION, "half-0123456789"), (POOL, "broken-0a1b2c3d")):
            api.delete(kind, name, stored)
        settled(api, stored, other)


def correct(api: Api, kind: Kind, body: Object) -> None:
    change = [{"op": "replace", "path": "/spec", "value": body["spec"]}]
    api.patch(kind, body["metadata"]["name"], body["metadata"].get("namespace", ""), change=change, json_patch=True)


def said_by_event(api: Api, namespace: str, name: str) -> bool:
    return [event["reason"] for event in warnings(api, namespace, name)] == ["InvalidSpec"]


def assigned(api: Api, namespace: str, name: str) -> bool:
    found = api.get(TASK_MODEL, name, namespace)
    assert condition(found, "Stalled") is None, said(found)
    return is_true(found, "Assigned")
