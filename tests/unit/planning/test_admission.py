"""Which TaskModels are served, on which class, and in which words they are refused."""

from typing import Any

import pytest

from taskfleet.api.conditions import Reason
from taskfleet.planning import admission
from taskfleet.planning.admission import Admission, admit, class_name_of
from tests.unit.planning.builders import BASE, key_for, member_of, pool_of, revision_of, serving_class, task_model, with_status

LIMITED = serving_class("limited", allowedNamespaces={"names": ["billing"], "matchLabels": {"team": "money"}})
INVALID = serving_class("invalid", engine={"type": "vLLM", "image": "i", "args": ["--port=1"]})
GOLDEN = {"configMapName": "golden"}
HOURS = {"name": "hours", "start": "0 8 * * *", "end": "0 18 * * *", "minReplicas": 1}
CLASSES = (serving_class("l4"), LIMITED, INVALID)


def admitted(labels: dict[str, str] | None = None, **spec: Any) -> Admission:
    return admit(task_model(**spec), namespace_labels=labels or {}, serving_classes=CLASSES)


def test_valid_task_is_admitted_on_the_class_it_names() -> None:
    admission = admitted()
    assert admission.violation is None
    assert (admission.class_name, admission.serving_class) == ("l4", CLASSES[0])


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"servingClassName": None}, Reason.NO_DEFAULT_CLASS, "spec.servingClassName"),
        ({"servingClassName": "h100"}, Reason.CLASS_NOT_FOUND, "h100"),
        ({"servingClassName": "invalid"}, Reason.CLASS_INVALID, "spec.engine.args"),
        ({"servingClassName": "limited"}, Reason.CLASS_NOT_ALLOWED, "namespace finance"),
        (
            {"adapter": {"source": "pvc://models/total", "version": "v1"}},
            Reason.CLAIM_NOT_OFFERED,
            "spec.adapter.source: namespace finance has no PersistentVolumeClaim models with the label taskfleet.dev/artifacts: 'true'",
        ),
        ({"base": {**BASE, "source": "pvc://models"}}, Reason.CLAIM_NOT_OFFERED, "spec.base.source"),
        ({"task": {"outputSchema": '{"type": 5}'}}, Reason.INVALID_SCHEMA, "spec.task.outputSchema"),
        ({"task": {"inputSchema": "[]"}}, Reason.INVALID_SCHEMA, "spec.task.inputSchema"),
        ({"evaluation": {"dataset": GOLDEN, "metric": "Judge"}}, Reason.INVALID_SPEC, "spec.evaluation.judge"),
        ({"evaluation": {"dataset": GOLDEN, "metric": "JSONSchema"}}, Reason.INVALID_SPEC, "spec.task.outputSchema"),
        (
            {"scaling": {"schedules": [HOURS, {**HOURS, "name": "never", "start": "0 8 31 6 *"}]}},
            Reason.INVALID_SPEC,
            "spec.scaling.schedules[never].start: 0 8 31 6 * is not a time that comes",
        ),
        (
            {"scaling": {"schedules": [{**HOURS, "timeZone": "Europe/Atlantis"}]}},
            Reason.INVALID_SPEC,
            "spec.scaling.schedules[hours].timeZone: Europe/Atlantis",
        ),
    ],
)
def test_refusal_has_a_reason_and_names_the_field(spec: dict[str, Any], reason: Reason, words: str) -> None:
    violation = admitted(version=None, **spec).violation if "adapter" in spec else admitted(**spec).violation
    assert violation is not None
    assert violation.reason is reason
    assert words in violation.message


@pytest.mark.parametrize(
    "spec",
    [
        {"evaluation": {"dataset": GOLDEN}},
        {"evaluation": {"dataset": GOLDEN, "metric": "Judge", "judge": {"url": "https://judge.example/v1", "model": "large"}}},
        {"evaluation": {"dataset": GOLDEN, "metric": "JSONSchema"}, "task": {"outputSchema": '{"type": "object"}'}},
    ],
)
def test_scorer_that_has_what_it_needs_is_admitted(spec: dict[str, Any]) -> None:
    assert admitted(**spec).violation is None


def test_claim_that_its_namespace_offers_may_be_named() -> None:
    task = task_model(version=None, base={**BASE, "source": "pvc://bases/tiny"}, adapter={"source": "pvc://models", "version": "v1"})
    both = frozenset({"bases", "models"})
    assert admit(task, namespace_labels={}, serving_classes=CLASSES, claims=both).violation is None
    missing = admit(task, namespace_labels={}, serving_classes=CLASSES, claims=frozenset({"bases"})).violation
    assert missing is not None
    assert missing.message.startswith("spec.adapter.source: ")


def test_scheme_that_this_version_does_not_fetch_from_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SUPPORTED_SCHEMES", ("oci",))
    base = admitted(base={**BASE, "source": "hf://Qwen/Qwen3-0.6B"}).violation
    adapter = admitted(version=None, adapter={"source": "s3://bucket/total", "version": "v1"}).violation
    assert base is not None
    assert adapter is not None
    assert (base.reason, adapter.reason) == (Reason.UNSUPPORTED_SOURCE, Reason.UNSUPPORTED_SOURCE)
    assert base.message.startswith("spec.base.source: hf:// is not supported")
    assert adapter.message.startswith("spec.adapter.source: s3:// is not supported")


def test_class_may_be_allowed_by_the_labels_of_a_namespace() -> None:
    assert admitted({"team": "money"}, servingClassName="limited").violation is None


def test_class_comes_before_schema_when_both_are_wrong() -> None:
    violation = admitted(servingClassName="h100", task={"outputSchema": "[]"}).violation
    assert violation is not None
    assert violation.reason is Reason.CLASS_NOT_FOUND


def test_newest_default_counts() -> None:
    classes = (
        serving_class("old", default=True),
        serving_class("new", default=True, created="2026-02-01T00:00:00Z"),
        serving_class("none"),
    )
    assert class_name_of(task_model(servingClassName=None), classes) == "new"


def test_recorded_default_outlives_another_default() -> None:
    task = with_status(task_model(servingClassName=None), servingClassName="l4")
    assert class_name_of(task, (serving_class("h100", default=True),)) == "l4"


def test_lost_record_is_read_from_the_pool_that_serves() -> None:
    task = task_model(servingClassName=None)
    pool = pool_of(member_of(revision_of(task)), key=key_for(task, "l4"))
    assert class_name_of(task, (serving_class("h100", default=True),), (pool,)) == "l4"


def test_named_class_beats_the_record() -> None:
    assert class_name_of(with_status(task_model(servingClassName="h100"), servingClassName="l4"), ()) == "h100"
