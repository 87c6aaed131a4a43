"""Every field that can be set shows somewhere, or is named as one without effect; and the samples that people start from are accepted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.cluster.api import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    POOL,
    REVISION,
    SERVING_CLASS,
    TASK_MODEL,
    Object,
    condition,
    eventually,
    is_true,
    key,
)
from tests.cluster.fleet import MANIFESTS, Fleet, Tenant
from tests.cluster.oracles import START_SECONDS, invisible, said, settled
from tests.cluster.story import tell

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# A class's fields that no child carries: they decide what is admitted and how many pods there are, or wait for later versions that have them as figures.
DECIDE_ONLY = ("spec.engine.type", "spec.allowedNamespaces", "spec.adapters.maxPerPool", "spec.scaling", "spec.pricePerHour")
# A task's fields that decide how a proven revision gets its traffic, and how many pods; this task's never has one that runs.
DECIDE_LATER = ("spec.rollout", "spec.evaluation", "spec.scaling")


@dataclass(frozen=True, slots=True)
class Maximal:
    tenant: Tenant
    serving_class: Object
    task: Object


@pytest.fixture(scope="module")
def maximal(fleet: Fleet) -> Iterator[Maximal]:
    serving_class, task = yaml.safe_load_all((MANIFESTS / "maximal.yaml").read_text())
    labels = serving_class["spec"]["allowedNamespaces"]["matchLabels"]
    with fleet.tenant("maximal", labels=labels) as tenant:
        fleet.api.apply(serving_class)
        fleet.api.apply(task | {"metadata": task["metadata"] | {"namespace": tenant.namespace}})
        eventually(
            lambda: len(fleet.api.list(DEPLOYMENT, tenant.namespace)) == 1,
            what="the Deployment of the maximal TaskModel",
            describe=lambda: tell(fleet.api, tenant.namespace),
        )
        settled(fleet.api, tenant.namespace)
        yield Maximal(tenant, serving_class, task)
    fleet.remove_class("maximal")


# Fields that show only in what is computed from them.
DERIVED = ("spec.engine.startupSeconds", "spec.adapters.candidateSlots")


def evidence(fleet: Fleet, maximal: Maximal) -> str:
    namespace = maximal.tenant.namespace
    objects = [obj for kind in (*CHILDREN, POOL, REVISION) for obj in fleet.api.list(kind, namespace)]
    texts = [json.dumps(without_history(obj)) for obj in objects]
    documents = [text for obj in fleet.api.list(CONFIG_MAP, namespace) for text in obj.get("data", {}).values()]
    conditions = [said(obj) for obj in (maximal.tenant.get("maximal"), fleet.api.get(SERVING_CLASS, "maximal"))]
    return "\n".join(texts + documents + conditions)


def without_history(obj: Object) -> Object:
    return obj | {"metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"}}


def test_every_field_of_a_class_shows(fleet: Fleet, maximal: Maximal) -> None:
    hidden = invisible(maximal.serving_class["spec"], evidence(fleet, maximal))
    assert [field for field in hidden if not field.startswith(DECIDE_ONLY + DERIVED)] == []


def test_computed_fields_show(fleet: Fleet, maximal: Maximal) -> None:
    (deployment,) = fleet.api.list(DEPLOYMENT, maximal.tenant.namespace)
    (engine,) = [one for one in deployment["spec"]["template"]["spec"]["containers"] if one["name"] == "engine"]
    probe = engine["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= maximal.serving_class["spec"]["engine"]["startupSeconds"]
    limits = maximal.serving_class["spec"]["adapters"]
    assert str(limits["maxPerPool"] + limits["candidateSlots"]) in json.dumps([engine.get("command"), engine.get("args")])


def test_every_field_of_a_task_shows(fleet: Fleet, maximal: Maximal) -> None:
    spec = {name: value for name, value in maximal.task["spec"].items() if name not in {"suspend", "servingClassName"}}
    assert [field for field in invisible(spec, evidence(fleet, maximal)) if not field.startswith(DECIDE_LATER)] == []


def test_replicas_follow_the_wishes(fleet: Fleet, maximal: Maximal) -> None:
    (pool,) = fleet.api.list(POOL, maximal.tenant.namespace)
    assert pool["spec"]["replicas"] == 3


def test_what_keeps_all_pods_away_is_told(fleet: Fleet, maximal: Maximal) -> None:
    """The cluster has nothing of what this class wants; the API server names the first thing that it misses."""

    def told() -> bool:
        task = maximal.tenant.get("maximal")
        assert is_true(task, "Accepted"), said(task)
        available = condition(task, "Available") or {}
        assert (available["status"], available["reason"]) == ("False", "PodRefused"), said(task)
        return "priority-74" in available["message"]

    eventually(told, what="the missing PriorityClass is named", describe=lambda: tell(fleet.api, maximal.tenant.namespace))


def test_unreachable_registry_is_told(fleet: Fleet) -> None:
    with fleet.tenant("sourceless") as tenant:
        tenant.apply("away", None, adapter={"source": "oci://registry.example/adapters/away", "version": "v1"})

        def told() -> bool:
            ready = condition(tenant.get("away"), "AdapterReady") or {}
            assert (ready.get("status"), ready.get("reason")) == ("False", "SourceUnavailable"), said(tenant.get("away"))
            return "registry.example" in ready["message"]

        eventually(told, what="the registry is named", within=START_SECONDS, describe=lambda: tell(fleet.api, tenant.namespace))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_accepted_by_the_api_server(fleet: Fleet, path: Path) -> None:
    with fleet.tenant("sample") as tenant:
        for document in yaml.safe_load_all(path.read_text()):
            if document and document["kind"] in {TASK_MODEL.kind, SERVING_CLASS.kind}:
                if document["kind"] == TASK_MODEL.kind:
                    document["metadata"]["namespace"] = tenant.namespace
                assert key(fleet.api.apply(document, dry_run=True))
