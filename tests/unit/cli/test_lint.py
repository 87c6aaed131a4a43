"""`taskfleet lint` finds offline what the API server refuses (the same cases as its own tests), and what the operator would refuse."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from taskfleet.api.crd import DEFINITIONS, VALIDATIONS, Schema, root_schema
from taskfleet.cli.lint import rules
from taskfleet.cli.lint.checking import Finding, check
from taskfleet.cli.lint.linting import lint
from taskfleet.cli.lint.manifests import Manifest, UnreadableError, read
from taskfleet.cli.lint.structure import with_defaults
from taskfleet.cli.target import Output
from tests.apiserver.objects import changed, pool, put, revision, serving_class, task_model
from tests.apiserver.refusals import MODEL_POOL, REVISION, SERVING_CLASS, TASK_MODEL, Refusal
from tests.cluster.api import Object

ROOT = Path(__file__).parents[3]


def manifest(body: Object) -> Manifest:
    return next(read("m.yaml", yaml.safe_dump(body)))


def found(body: Object) -> list[Finding]:
    return check(manifest(body))


def assert_refused(valid: Object, refusal: Refusal) -> None:
    findings = found(changed(valid, refusal.change))
    assert len({finding.path for finding in findings}) == 1, findings
    assert refusal.says.partition(":")[0].lstrip(".") in f"{findings[0].path}: {findings[0].message}"


@pytest.mark.parametrize("refusal", TASK_MODEL)
def test_task_model_is_refused_as_by_the_api_server(refusal: Refusal) -> None:
    assert_refused(task_model("finance"), refusal)


@pytest.mark.parametrize("refusal", SERVING_CLASS)
def test_serving_class_is_refused_as_by_the_api_server(refusal: Refusal) -> None:
    assert_refused(serving_class(), refusal)


@pytest.mark.parametrize("refusal", MODEL_POOL)
def test_model_pool_is_refused_as_by_the_api_server(refusal: Refusal) -> None:
    assert_refused(pool("finance"), refusal)


@pytest.mark.parametrize("refusal", REVISION)
def test_revision_is_refused_as_by_the_api_server(refusal: Refusal) -> None:
    assert_refused(revision("finance"), refusal)


@pytest.mark.parametrize(
    "body", [task_model("finance"), revision("finance"), pool("finance"), serving_class()], ids=lambda body: body["kind"]
)
def test_the_unchanged_object_is_accepted(body: Object) -> None:
    assert not found(body)


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have every field set once (`maximal`), so no rule fails for want of a function."""
    assert lint([str(path)], output=Output.TEXT) == 0, capsys.readouterr().out


def test_every_rule_of_creation_is_evaluated_on_the_examples_or_broken_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: set[str] = set()
    holds = rules._holds

    def noted(rule: str, value: object) -> bool:
        evaluated.add(rule)
        return holds(rule, value)

    monkeypatch.setattr(rules, "_holds", noted)
    cases = ((task_model("a"), TASK_MODEL), (serving_class(), SERVING_CLASS), (pool("a"), MODEL_POOL), (revision("a"), REVISION))
    for valid, refusals in cases:
        found(valid)
        for param in refusals:
            found(changed(valid, param.values[0].change))  # type: ignore[attr-defined]
    for path in ROOT.glob("examples/*.yaml"):
        lint([str(path)], output=Output.JSON)
    of_creation = {rule for definition in DEFINITIONS for rule in rules_of(root_schema(definition)) if "oldSelf" not in rule}
    assert of_creation <= evaluated


def rules_of(schema: Schema) -> set[str]:
    parts = [*schema.get("properties", {}).values(), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    return {rule["rule"] for rule in schema.get(VALIDATIONS, [])}.union(*map(rules_of, parts))


def test_defaults_are_there_when_rules_are_evaluated() -> None:
    """A step without shadowPercent has one of 0, or the rule about it could not be evaluated."""
    assert not found(changed(task_model("finance"), put("spec.rollout.steps", [{"weightPercent": 5}])))
    (definition,) = (one for one in DEFINITIONS if one.kind == "TaskModel")
    assert with_defaults(task_model("finance"), root_schema(definition))["spec"]["isolation"] == "Shared"


def test_what_the_operator_refuses_is_found_with_its_field() -> None:
    (finding,) = found(changed(task_model("finance"), put("spec.task.outputSchema", '{"type": "objekt"}')))
    assert finding.path == "spec.task.outputSchema"
    assert "not a JSON Schema" in finding.message


def test_a_scorer_without_what_it_needs_is_found() -> None:
    evaluation = {"dataset": {"configMapName": "golden"}, "metric": "Judge"}
    (finding,) = found(changed(task_model("finance"), put("spec.evaluation", evaluation)))
    assert finding.path == "spec.evaluation.judge"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"golden.jsonl": '{"prompt": "a", "expected": "b"}\n' * 2}, "has 2 examples, minSamples asks for 3"),
        ({"golden.jsonl": "{"}, "line 1: no JSON"),
        ({"other.jsonl": ""}, "has no data golden.jsonl"),
        ({"golden.jsonl": '{"prompt": "a", "expected": "b"}\n' * 3}, ""),
    ],
)
def test_a_golden_set_beside_its_taskmodel_is_looked_at(
    data: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = {"dataset": {"configMapName": "golden"}, "minSamples": 3}
    task = changed(task_model("finance"), put("spec.evaluation", evaluation))
    golden = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "golden", "namespace": "finance"}, "data": data}
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump_all([task, golden])))
    assert lint(["-"], output=Output.TEXT) == (1 if says else 0)
    assert says in capsys.readouterr().out


def test_another_version_of_the_api_is_told() -> None:
    (finding,) = found(task_model("finance") | {"apiVersion": "taskfleet.dev/v2"})
    assert "taskfleet.dev/v2" in finding.message


def test_a_finding_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "# two objects\n---\nkind: ConfigMap\napiVersion: v1\n---\n" + yaml.safe_dump(task_model("finance"), sort_keys=False)
    text = text.replace("version: v1", "version: a/b")
    (tmp_path / "m.yaml").write_text(text)
    line = text.splitlines().index("    version: a/b") + 1
    assert lint([str(tmp_path)], output=Output.TEXT) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path}/m.yaml:{line}: TaskModel finance/invoice-total: spec.adapter.version: must match")
    assert err == "1 finding in 1 object of taskfleet\n"


def test_findings_as_json_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [task_model("a"), changed(task_model("b"), put("spec.image", "x"))]}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(listed)))
    assert lint(["-"], output=Output.JSON) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["object"], finding["path"], finding["line"]) == ("TaskModel b/invoice-total", "spec.image", 1)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("kind: A\nspec:\n  a: 1\n  a: 2\n", 4, "'a' stands twice"),
        ("kind: A\n  spec: 1\n", 2, "mapping values are not allowed"),
        ("- 1\n", 1, "a manifest is an object"),
        (
            "a: &a [1]\nb: &b [*a,*a]\n"
            + "".join(f"{n}: &{n} [{', '.join(f'*{chr(ord(n) - 1)}' for _ in range(9))}]\n" for n in "cdefghij"),
            10,
            "fields",
        ),
    ],
)
def test_what_is_no_manifest_is_a_finding(text: str, line: int, says: str) -> None:
    with pytest.raises(UnreadableError, match=says) as error:
        list(read("m.yaml", text))
    assert error.value.line <= line


def test_a_missing_file_is_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(["/nowhere.yaml"], output=Output.TEXT) == 2
    assert "/nowhere.yaml" in capsys.readouterr().err


def test_a_date_is_a_text_and_a_number_is_none() -> None:
    read_as: Callable[[str], list[Finding]] = lambda text: check(  # noqa: E731
        next(read("m.yaml", yaml.safe_dump(task_model("finance")).replace("version: v1", f"version: {text}")))
    )
    assert not read_as("2026-01-01")
    assert "must be of type string" in read_as("1.10")[0].message
