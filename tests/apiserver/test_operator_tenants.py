"""What one tenant does to the others: nothing. Absurd sizes, five hundred broken objects, text that would be lines or labels of ours."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.made import all_made
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import CHILDREN, POOL, REVISION, SERVING_CLASS, TASK_MODEL, Api, ApiError, Object, condition, is_true
from tests.cluster.oracles import refused_clearly, standing, still

CLASS = "tenants"


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Few calls a second, so that who comes first does not depend on how fast the machine is."""
    api_server.api.apply(serving_class(CLASS))
    folder, system = tmp_path_factory.mktemp("operator"), new_namespace("system")
    with running_operator(api_server, folder, namespace=system, log_style="json", kube_qps="25", kube_burst="25") as found:
        yield found
    api_server.api.delete(SERVING_CLASS, CLASS)


def task(namespace: str, name: str) -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", CLASS))


FORGED = '{"time": "2026-01-01T00:00:00Z", "level": "error", "logger": "x", "message": "forged"}'
EVIL = f'{{{{ .Values.secret }}}} "quoted" \\ \x1b[2J \u2028\n{FORGED}\r\n2026-01-01T00:00:00Z error forged a=b'


def test_texts_of_tenants_are_neither_lines_nor_labels_of_ours(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """S-17."""
    api, plain, evil = api_server.api, new_namespace("plain"), new_namespace("evil")
    api.apply(task(plain, "one"))
    wishes = put(
        "metadata.labels", {"app.kubernetes.io/managed-by": "me", "taskfleet.dev/pool": "theirs", "pod-template-hash": "1", "team": "a"}
    )
    notes = put("metadata.annotations", {"taskfleet.dev/pool": EVIL, "note": EVIL})
    words = put("spec.task", {"description": EVIL, "systemPrompt": EVIL})
    api.apply(changed(task(evil, "one"), wishes, notes, words))
    schema = json.dumps({"type": EVIL, EVIL: {"$ref": EVIL}})
    api.apply(changed(task(evil, "two"), wishes, notes, put("spec.task", {"outputSchema": schema})))
    api.apply(changed(task(evil, "three"), wishes, notes, put("spec.task", {"outputSchema": f'{{"type": {EVIL}'})))
    for namespace in (plain, evil):
        operator.brings(lambda namespace=namespace: all_made(api, namespace, "one"), what=f"{namespace} is made")  # type: ignore[misc]
    for name in ("two", "three"):
        refused_clearly(api, evil, name, reason="InvalidSchema", mentions="spec.task.outputSchema")
    assert labels(api, evil) == labels(api, plain), "labels and selectors are those of a task without wishes"
    # Split at line feeds only, as log collectors do.
    lines = operator.log.read_bytes().decode().removesuffix("\n").split("\n")
    entries = [json.loads(line) for line in lines]
    assert all(line.isprintable() for line in lines)
    assert all({"time", "level", "logger", "message"} <= entry.keys() and entry["message"] != "forged" for entry in entries)
    assert {"two", "three"} <= {
        str(entry.get("name", "")).rpartition("/")[2] for entry in entries if entry.get("reason") == "InvalidSchema"
    }


def labels(api: Api, namespace: str) -> dict[str, object]:
    """Of everything that the operator made there, and what it selects by, without names and UIDs."""
    (found,) = api.list(POOL, namespace)
    revisions = {one["metadata"]["name"] for one in api.list(REVISION, namespace)}
    name, uid = found["metadata"]["name"], found["metadata"]["uid"]
    bodies = [api.get(kind, name, namespace) for kind in CHILDREN]
    shown = {one["kind"]: [one["metadata"].get("labels"), _selectors(one)] for one in (*bodies, found, *api.list(REVISION, namespace))}
    text = json.dumps(shown).replace(name, "<pool>").replace(uid, "<uid>")
    for revision in revisions:
        text = text.replace(revision, "<revision>")
    compared: dict[str, object] = json.loads(text)
    return compared


def _selectors(body: Object) -> list[object]:
    spec = body.get("spec", {})
    template = spec.get("template", {}).get("metadata", {})
    return [spec.get("selector"), spec.get("podSelector"), template.get("labels"), sorted(template.get("annotations") or {})]


ABSURD = (
    put("spec.scaling", {"minReplicas": 1_000, "maxReplicas": 1_000}),
    put("spec.scaling", {"minReplicas": 1, "maxReplicas": 10**18}),
    put("spec.scaling", {"targetConcurrency": 10**9}),
    put("spec.task", {"defaults": {"maxTokens": 10**12}}),
)
ABSURD_CLASS = (
    put("spec.adapters", {"maxPerPool": 10_000}),
    put("spec.adapters", {"maxRank": 10**6}),
    put("spec.scaling", {"maxReplicas": 1_000}),
    put("spec.accelerator.count", 10**6),
)


def test_absurd_sizes_are_refused_and_move_nobody(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """R-05."""
    api, quiet, absurd = api_server.api, new_namespace("quiet"), new_namespace("absurd")
    api.apply(task(quiet, "one"))
    operator.brings(lambda: all_made(api, quiet, "one"), what="the neighbour's task is made")
    before = still(api, quiet)
    for change in ABSURD:
        with pytest.raises(ApiError, match=r"should be less than or equal to|must not exceed"):
            api.apply(changed(task(absurd, "one"), change))
    for change in ABSURD_CLASS:
        with pytest.raises(ApiError, match="should be less than or equal to"):
            api.apply(changed(serving_class(CLASS), change))
    assert standing(api, quiet) == before


def test_five_hundred_broken_objects_of_one_tenant_make_nobody_wait(
    api_server: ApiServer, operator: OperatorProcess, new_namespace: Callable[[str], str]
) -> None:
    """S-15, by when they are told."""
    api, many, other = api_server.api, new_namespace("many"), new_namespace("other")
    try:
        broken = [changed(task_model(many, f"broken-{number}"), put("spec.servingClassName", "no-such-class")) for number in range(500)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(api.create, broken))
        api.create(task(other, "one"))
        operator.brings(lambda: is_true(api.get(TASK_MODEL, "one", other), "Assigned"), what="the other tenant's task is assigned")
        accepted = condition(api.get(TASK_MODEL, "one", other), "Accepted")
        assert accepted is not None
        told = [found["lastTransitionTime"] for one in api.list(TASK_MODEL, many) if (found := condition(one, "Accepted"))]
        before = sum(at <= accepted["lastTransitionTime"] for at in told)
        assert told, "they are worked on"
        assert before < 250, "and not all of them first"
    finally:
        api.request("DELETE", TASK_MODEL.path(many))
    assert operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0
