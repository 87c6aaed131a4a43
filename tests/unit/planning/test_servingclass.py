"""Which ServingClasses are usable. Each bad class breaks one rule, and the message names the field."""

from typing import Any

import pytest

from taskfleet.api.servingclass import ServingClass
from taskfleet.planning import servingclass
from taskfleet.planning.conditions import Outlook, outlook_of
from tests.unit.planning.builders import NOW, later, serving_class


def engine(**fields: Any) -> dict[str, Any]:
    return {"engine": {"type": "vLLM", "image": "registry.example/vllm:1", **fields}}


def volume(name: str, path: str) -> dict[str, str]:
    return {"name": name, "mountPath": path, "claimName": "claim"}


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


BROKEN: list[tuple[dict[str, Any], str]] = [
    (engine(args=["--host=0.0.0.0"]), "spec.engine.args: --host=0.0.0.0"),
    (engine(args=["--trust-remote-code"]), "spec.engine.args: --trust-remote-code"),
    (engine(env=[{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]), "spec.engine.env: VLLM_SERVER_DEV_MODE"),
    (engine(volumes=[volume("store", "/data")]), "spec.engine.volumes: the name store"),
    (engine(volumes=[volume("base-image", "/data")]) | {"store": {"ociBases": "ImageVolume"}}, "spec.engine.volumes: the name base-image"),
    (engine(volumes=[volume("data", "/store/base")]), "spec.engine.volumes[data].mountPath"),
    (engine(volumes=[volume("data", "/run")]), "spec.engine.volumes[data].mountPath"),
    (engine(volumes=[volume("data", "//")]), "spec.engine.volumes[data].mountPath"),
    (engine(volumes=[volume("data", "/opt/../store")]), "spec.engine.volumes[data].mountPath"),
    (engine(volumes=[volume("a", "/data"), volume("b", "/data/")]), "spec.engine.volumes[b].mountPath"),
    (engine(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}), "spec.engine.resources.requests[cpu]"),
    ({"agentResources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}, "spec.agentResources.requests[memory]"),
    ({"accelerator": {"resourceName": "cpu"}}, "spec.accelerator.resourceName"),
    (
        {**engine(resources={"limits": {"nvidia.com/gpu": "1"}}), "accelerator": {"resourceName": "nvidia.com/gpu"}},
        "spec.engine.resources: nvidia.com/gpu",
    ),
    ({"podMetadata": {"labels": {"taskfleet.dev/pool": "mine"}}}, "spec.podMetadata.labels: taskfleet.dev/pool"),
    ({"podMetadata": {"annotations": {"taskfleet.dev/x": "mine"}}}, "spec.podMetadata.annotations: taskfleet.dev/x"),
    ({"scheduling": {"affinity": nested(33)}}, "spec.scheduling.affinity is nested deeper than 32 levels"),
    ({"scheduling": {"tolerations": [nested(5_000)]}}, "spec.scheduling.tolerations is nested deeper"),
]


def test_parts_of_the_pod_api_may_be_as_deep_as_the_pod_api_ever_is() -> None:
    assert servingclass.violation(serving_class(scheduling={"affinity": nested(32)}).spec) is None


@pytest.mark.parametrize(("spec", "words"), BROKEN)
def test_violation_names_the_field(spec: dict[str, Any], words: str) -> None:
    assert words in (servingclass.violation(serving_class(**spec).spec) or "passed")


def test_quantity_that_none_is_names_its_field() -> None:
    # The CRD's pattern refuses it; an object that was stored before the pattern was must not raise either.
    spec = serving_class().spec
    broken = spec.model_copy(update={"engine": spec.engine.model_copy(update={"shared_memory": "lots"})})
    assert "spec.engine.sharedMemory" in (servingclass.violation(broken) or "passed")


def test_usable_class_is_ready_and_says_what_has_no_effect_yet() -> None:
    plan = servingclass.plan(serving_class(pricePerHour="1.20", scaling={"idleSeconds": 60, "targetConcurrency": 4}), now=NOW)
    assert outlook_of(plan.status.conditions) is Outlook.READY
    message = next(condition.message for condition in plan.status.conditions if condition.type == "FieldsWithoutEffect")
    assert "spec.pricePerHour" in message
    assert "spec.scaling" not in message


def test_broken_class_is_stalled_with_one_warning_and_heals() -> None:
    broken = serving_class(**engine(args=["--port=1"]))
    first = servingclass.plan(broken, now=NOW)
    assert outlook_of(first.status.conditions) is Outlook.STALLED
    assert [(event.type, event.reason) for event in first.events] == [("Warning", "InvalidSpec")]

    again = servingclass.plan(broken.model_copy(update={"status": first.status}), now=later(60))
    assert again.status == first.status
    assert again.events == ()

    fixed: ServingClass = serving_class(generation=2).model_copy(update={"status": first.status})
    healed = servingclass.plan(fixed, now=later(120))
    assert outlook_of(healed.status.conditions) is Outlook.READY
    assert [event.type for event in healed.events] == ["Normal"]
