"""What the objects do in a real API server: defaults, listing, scaling, selecting, explaining, being written by several, and staying small."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from tests.apiserver.conftest import ROOT, ApiServer, apply_definition
from tests.apiserver.objects import DIGEST, UID, changed, pool, put, revision, serving_class, task_model
from tests.cluster.api import POOL, REVISION, TASK_MODEL, ApiError, Object

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
NOW = "2026-01-01T00:00:00Z"
WIDTH = 120  # columns of a usual terminal


@pytest.fixture(scope="module")
def namespace(new_namespace: Callable[[str], str]) -> str:
    return new_namespace("behaviour")


def documents(path: Path) -> list[Object]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def ready(reason: str, status: str = "True") -> Object:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": NOW,
    }


def set_status(api_server: ApiServer, body: Object, status: Object) -> None:
    head = {key: body[key] for key in ("apiVersion", "kind", "metadata")}
    api_server.api.apply(head | {"status": status}, subresource="status", manager="taskfleet-operator")


@pytest.mark.parametrize("path", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda path: path.stem)
def test_definitions_and_the_cost_of_their_rules_are_accepted(api_server: ApiServer, path: Path) -> None:
    apply_definition(api_server.api, yaml.safe_load(path.read_text()), dry_run=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted(api_server: ApiServer, path: Path) -> None:
    for namespace in {document["metadata"].get("namespace") for document in documents(path)} - {None}:
        api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for document in documents(path):
        api_server.api.apply(document, dry_run=True)


def test_defaults_of_the_api_server_are_those_of_the_models(api_server: ApiServer, namespace: str) -> None:
    given = [task_model(namespace), pool(namespace), serving_class()]
    models = [TaskModel, ModelPool, ServingClass]
    for body, model in zip(given, models, strict=True):
        filled = api_server.api.apply(body, dry_run=True)
        assert model.model_validate(filled).spec == model.model_validate(body).spec  # type: ignore[attr-defined]


def test_a_minimal_task_model_is_filled_in_only_where_it_helps(api_server: ApiServer, namespace: str) -> None:
    filled = api_server.api.apply(task_model(namespace), dry_run=True)["spec"]
    overrides = ["MaxTokens", "Temperature", "TopP", "TopK", "Stop", "Seed"]
    assert filled == task_model(namespace)["spec"] | {"isolation": "Shared", "suspend": False, "task": {"allowOverrides": overrides}}


def test_kubectl_get_tm_fits_a_terminal(api_server: ApiServer, namespace: str) -> None:
    body = task_model(namespace, "invoice-line-items")
    api_server.api.apply(body)
    target = {"revision": "invoice-line-items-0123456789", "uid": UID, "pool": "llama-3-2-3b-instruct-5c1e90ab", "weightPercent": 100}
    set_status(api_server, body, {"conditions": [ready("Serving")], "base": "llama-3.2-3b-instruct", "traffic": [target]})
    header, line = api_server.kubectl("get", "tm", "-n", namespace, "invoice-line-items").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "BASE", "VERSION", "POOL", "AGE"]
    assert re.split(r"\s+", line)[:-1] == [
        "invoice-line-items",
        "True",
        "Serving",
        "llama-3.2-3b-instruct",
        "v1",
        "llama-3-2-3b-instruct-5c1e90ab",
    ]
    assert len(line.rstrip()) <= WIDTH
    assert len(header.rstrip()) <= WIDTH


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("tm", ["NAME", "READY", "REASON", "BASE", "VERSION", "POOL", "AGE"]),
        ("tmr", ["NAME", "TASKMODEL", "VERSION", "PHASE", "READY", "REASON", "AGE"]),
        ("mp", ["NAME", "READY", "REASON", "CLASS", "REPLICAS", "AVAILABLE", "AGE"]),
        ("tsc", ["NAME", "READY", "REASON", "ENGINE", "ACCELERATOR", "COUNT", "AGE"]),
    ],
)
def test_short_names_list_the_columns(api_server: ApiServer, new_namespace: Callable[[str], str], name: str, columns: list[str]) -> None:
    namespace = new_namespace("columns")
    for body in (task_model(namespace), revision(namespace), pool(namespace), serving_class("columns")):
        api_server.api.apply(body)
    assert api_server.kubectl("get", name, "-n", namespace).splitlines()[0].split() == columns


def test_category_lists_all_kinds_of_a_namespace(api_server: ApiServer, new_namespace: Callable[[str], str]) -> None:
    namespace = new_namespace("category")
    for body in (task_model(namespace), revision(namespace), pool(namespace)):
        api_server.api.apply(body)
    listed = api_server.kubectl("get", "taskfleet", "-n", namespace, "-o", "name").split()
    assert {name.partition(".")[0] for name in listed} >= {"taskmodel", "taskmodelrevision", "modelpool"}


def test_kubectl_explains_fields(api_server: ApiServer) -> None:
    explained = api_server.kubectl("explain", "tm.spec.adapter")
    assert "A LoRA adapter" in explained or "The LoRA adapter" in explained
    for field in ("source", "version", "digest", "credentialsKey"):
        assert re.search(rf"^  {field}\t<string>.*\n    \S", explained, re.MULTILINE), f"{field} is not described in\n{explained}"


def test_a_pool_is_scaled_by_its_subresource(api_server: ApiServer, namespace: str) -> None:
    body = pool(namespace, "scaled")
    api_server.api.apply(body)
    set_status(api_server, body, {"replicas": 1, "selector": "taskfleet.dev/pool=scaled"})
    api_server.kubectl("scale", "mp/scaled", "-n", namespace, "--replicas=3")
    scale = json.loads(api_server.api.request("GET", f"{POOL.path(namespace, 'scaled')}/scale"))
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 1, "selector": "taskfleet.dev/pool=scaled"}
    assert api_server.api.get(POOL, "scaled", namespace)["spec"]["replicas"] == 3


def test_scaling_keeps_within_the_bounds(api_server: ApiServer, namespace: str) -> None:
    api_server.api.apply(pool(namespace, "bounded"))
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        api_server.kubectl("scale", "mp/bounded", "-n", namespace, "--replicas=1000")
    assert "spec.replicas" in refusal.value.stderr


def test_objects_are_selected_by_field(api_server: ApiServer, new_namespace: Callable[[str], str]) -> None:
    namespace = new_namespace("selecting")
    for name in ("l4", "a100"):
        api_server.api.apply(changed(task_model(namespace, f"on-{name}"), put("spec.servingClassName", name)))
        api_server.api.apply(changed(pool(namespace, f"on-{name}"), put("spec.servingClassName", name)))
        api_server.api.apply(changed(revision(namespace, f"of-{name}"), put("spec.taskModelName", f"on-{name}")))

    def selected(kind: object, fields: str) -> list[str]:
        return [one["metadata"]["name"] for one in api_server.api.list(kind, namespace, fields=fields)]  # type: ignore[arg-type]

    assert selected(TASK_MODEL, "spec.servingClassName=l4") == ["on-l4"]
    assert selected(POOL, "spec.servingClassName=a100") == ["on-a100"]
    assert selected(REVISION, "spec.taskModelName=on-l4") == ["of-l4"]


def test_two_managers_share_a_task_model(api_server: ApiServer, namespace: str) -> None:
    body = task_model(namespace, "shared")
    api_server.api.apply(body, manager="argocd")
    head = {key: body[key] for key in ("apiVersion", "kind", "metadata")}
    both = api_server.api.apply(head | {"spec": {"base": body["spec"]["base"], "scaling": {"maxReplicas": 3}}}, manager="platform")
    assert both["spec"]["scaling"] == {"maxReplicas": 3}
    assert both["spec"]["adapter"] == body["spec"]["adapter"]
    # The second takes its wish back: only that goes.
    left = api_server.api.apply(head | {"spec": {"base": body["spec"]["base"]}}, manager="platform")
    assert "scaling" not in left["spec"] or left["spec"]["scaling"] == {}
    assert left["spec"]["adapter"] == body["spec"]["adapter"]


def test_writers_of_status_leave_the_spec_alone_and_the_other_way_round(api_server: ApiServer, namespace: str) -> None:
    body = task_model(namespace, "separate")
    generation = api_server.api.apply(body)["metadata"]["generation"]
    set_status(api_server, body, {"observedGeneration": 1, "conditions": [ready("Serving")]})
    api_server.api.apply(changed(body, put("status", {"conditions": [ready("Forged", "False")]})), manager="tenant")
    found = api_server.api.get(TASK_MODEL, "separate", namespace)
    assert found["metadata"]["generation"] == generation
    assert [one["reason"] for one in found["status"]["conditions"]] == ["Serving"]


def test_conditions_of_two_writers_are_merged_by_type(api_server: ApiServer, namespace: str) -> None:
    body = task_model(namespace, "merged")
    api_server.api.apply(body)
    head = {key: body[key] for key in ("apiVersion", "kind", "metadata")}
    for manager, kind in (("one", "Accepted"), ("other", "Ready")):
        status = {"conditions": [ready("Valid") | {"type": kind}]}
        api_server.api.apply(head | {"status": status}, subresource="status", manager=manager)
    conditions = api_server.api.get(TASK_MODEL, "merged", namespace)["status"]["conditions"]
    assert {one["type"] for one in conditions} == {"Accepted", "Ready"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec.task.outputSchema", '{"type": "object", "description": "' + "x" * 1_000_000 + '"}'),
        ("spec.task.systemPrompt", "x" * 1_400_000),
        ("spec.task.description", "x" * 10_000),
        ("spec.adapter.version", "x" * 10_000),
        ("metadata.annotations", {"note": "x" * 1_400_000}),
        ("metadata.labels", {"note": "x" * 10_000}),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(("spec", "meta")) else "",
)
def test_huge_input_is_refused(api_server: ApiServer, namespace: str, field: str, value: object) -> None:
    with pytest.raises(ApiError) as refusal:
        api_server.api.apply(changed(task_model(namespace), put(field, value)), dry_run=True)
    assert refusal.value.status in {400, 413, 422}
    assert field in refusal.value.message


def test_deep_nesting_is_refused(api_server: ApiServer, namespace: str) -> None:
    # By kubectl, because Python's own encoder gives up earlier.
    deep = '{"a":' * 20_000 + "{}" + "}" * 20_000
    body = json.dumps(task_model(namespace)).replace('"v1"', deep, 1)
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        api_server.kubectl("create", "--validate=false", "--raw", TASK_MODEL.path(namespace), "-f", "-", stdin=body)
    assert "exceeded max depth" in refusal.value.stderr


def test_the_largest_task_model_fits_into_the_store(api_server: ApiServer, namespace: str) -> None:
    text = "ü" * 16_384
    task = {"description": "ü" * 1024, "promptTemplate": "{input}" + "ü" * 16_377, "inputSchema": text, "outputSchema": text}
    largest = changed(task_model(namespace, "largest"), put("spec.task", task), put("spec.adapter.digest", DIGEST))
    stored = api_server.api.apply(largest)
    assert stored["spec"]["task"]["outputSchema"] == text
