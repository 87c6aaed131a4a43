"""What each scorer gives for which answer, and what holds for all answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.api.taskmodel import Metric
from taskfleet.evaluation import scorers
from taskfleet.evaluation.cpu_limit import TookTooLongError, cpu_limit
from taskfleet.evaluation.output_schema import OutputSchema, SchemaError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
TREES = st.dictionaries(st.text(max_size=4), JSON, max_size=4)
DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("646.80", "646.80", 1),
        ("  Acme\n  Ltd ", "Acme Ltd", 1),
        ("646.8", "646.80", 0),
        ("acme", "Acme", 0),
        ("", "Acme", 0),
        ('{"b": [1, 2], "a": "x"}', {"a": "x", "b": [1, 2.0]}, 1),
        ('{"a": true}', {"a": 1}, 0),
        ('{"a": 1, "b": 2}', {"a": 1}, 0),
        ("[1, 2]", [2, 1], 0),
        ("[1]", [1, 1], 0),
        ('```json\n{"a": 1}\n```', {"a": 1}, 0),
        ("{", {"a": 1}, 0),
        ("3", 3, 1),
        ("false", False, 1),
        (DEEP, json.loads(DEEP), 1),
    ],
)
def test_exact_match(answer: str, expected: Any, score: float) -> None:
    assert scorers.exact_match(answer, expected) == score


@given(JSON)
def test_json_matches_itself_however_it_is_written(value: Any) -> None:
    if not isinstance(value, str):
        assert scorers.exact_match(json.dumps(value, indent=3), value) == 1


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ('{"vendor": "Acme", "total": 3.5}', {"vendor": "Acme", "total": 3.5}, 1),
        ('{"vendor": "Acme", "total": 4}', {"vendor": "Acme", "total": 3.5}, 0.5),
        ('{"vendor": "Acme"}', {"vendor": "Acme", "total": 3.5}, 2 / 3),
        ('{"vendor": "Acme", "total": 3.5, "date": "x", "note": "y"}', {"vendor": "Acme", "total": 3.5}, 2 / 3),
        ('{"lines": [{"n": 1}, {"n": 3}]}', {"lines": [{"n": 1}, {"n": 2}]}, 0.5),
        ('{"lines": []}', {"lines": []}, 1),
        ('{"lines": []}', {"lines": {}}, 0),
        ("{}", {"a": 1}, 0),
        ("no JSON", {"a": 1}, 0),
        ('{"a": "x  y"}', {"a": "x y"}, 1),
    ],
)
def test_field_f1(answer: str, expected: Any, score: float) -> None:
    assert scorers.field_f1(answer, expected) == pytest.approx(score)


@given(TREES, TREES)
def test_field_f1_is_a_share_and_does_not_care_who_is_whose(one: Any, other: Any) -> None:
    score = scorers.field_f1(json.dumps(one), other)
    assert 0 <= score <= 1
    assert score == pytest.approx(scorers.field_f1(json.dumps(other), one))
    assert scorers.field_f1(json.dumps(one), one) == 1


@pytest.mark.parametrize(
    ("answer", "pattern", "score"),
    [
        ("3.50", r"[0-9]+\.[0-9]{2}", 1),
        (" 3.50\n", r"[0-9]+\.[0-9]{2}", 1),
        ("total 3.50", r"[0-9]+\.[0-9]{2}", 0),
        ("3.50 EUR", r"[0-9]+\.[0-9]{2}", 0),
        ("x" * (scorers.MAX_MATCHED_LENGTH + 1), "x*", 0),
    ],
)
def test_regex_matches_the_whole_answer(answer: str, pattern: str, score: float) -> None:
    assert scorers.regex(answer, pattern) == score


@pytest.mark.parametrize("pattern", ["(", "*", "a" * 1025, "(" * 1024])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    assert scorers.pattern_fault(pattern)


@pytest.mark.parametrize(
    ("answer", "expected", "tolerance", "score"),
    [
        ("100", 100, 0, 1),
        ("100.00", "100", 0, 1),
        ("1e2", 100, 0, 1),
        ("101", 100, 1, 1),
        ("98.99", 100, 1, 0),
        ("-99", -100, 1, 1),
        ("0.3", 0.1 + 0.2, 0.0001, 1),
        ("0", 0, 5, 1),
        ("0.001", 0, 5, 0),
        ("100 EUR", 100, 1, 0),
        ("1_00", 100, 1, 0),
        ("nan", 100, 100, 0),
        ("inf", 100, 100, 0),
        ("1e999999999", 100, 100, 0),
        ("9" * 5000, 100, 100, 0),
        ("", 100, 100, 0),
    ],
)
def test_numeric_tolerance(answer: str, expected: Any, tolerance: float, score: float) -> None:
    assert scorers.numeric_tolerance(answer, expected, tolerance_percent=tolerance) == score


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12), st.floats(0, 100))
def test_every_number_is_within_any_tolerance_of_itself(value: float, tolerance: float) -> None:
    assert scorers.numeric_tolerance(repr(value), value, tolerance_percent=tolerance) == 1


@pytest.mark.parametrize(
    ("answer", "score"), [('{"total": "3.50"}', 1), ('{"total": 3.5}', 0), ("{}", 0), ('{"total": "3.50"} and more', 0), ("", 0)]
)
def test_json_schema(answer: str, score: float) -> None:
    schema = OutputSchema('{"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}')
    assert scorers.json_schema(answer, schema.allows) == score


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema", "https://example.com/schema", "file:///etc/passwd", "#/$defs/none"])
def test_schema_is_never_looked_up_elsewhere(reference: str) -> None:
    schema = OutputSchema(json.dumps({"$ref": reference}))
    with pytest.raises(SchemaError, match="not in it"):
        schema.allows({})


def test_what_is_no_schema_is_told() -> None:
    with pytest.raises(SchemaError, match="not a JSON Schema"):
        OutputSchema('{"type": "text"}')


def _multiplying() -> str:
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n - 1}"}] * 2} for n in range(1, 60)}
    return json.dumps({"$defs": {"s0": {"type": "string"}, **steps}, "$ref": "#/$defs/s59"})


def test_endless_patterns_and_schemas_are_stopped() -> None:
    schema = OutputSchema(_multiplying())
    with pytest.raises(TookTooLongError), cpu_limit(0.05):
        scorers.regex("a" * 60 + "b", "(a+)+c")
    with pytest.raises(TookTooLongError), cpu_limit(0.05):
        scorers.json_schema('"x"', schema.allows)
    with cpu_limit(1.0):
        assert scorers.regex("a", "a") == 1


@pytest.mark.parametrize(
    ("metric", "answer", "other", "agreed"),
    [
        (Metric.EXACT_MATCH, "Acme  Ltd", "Acme Ltd", True),
        (Metric.EXACT_MATCH, '{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        (Metric.EXACT_MATCH, "1.0", "1", True),
        (Metric.EXACT_MATCH, "Acme", "Bcme", False),
        (Metric.REGEX, "3.50", "4.50", False),
        (Metric.JUDGE, "fine", "fine ", True),
        (Metric.FIELD_F1, '{"a": 1}', '{"a": 1.0}', True),
        (Metric.FIELD_F1, '{"a": 1}', '{"a": 1, "b": 2}', False),
        (Metric.FIELD_F1, "none", "none", True),
        (Metric.NUMERIC_TOLERANCE, "101", "100", True),
        (Metric.NUMERIC_TOLERANCE, "103", "100", False),
        (Metric.NUMERIC_TOLERANCE, "unknown", "unknown", True),
        (Metric.JSON_SCHEMA, "{}", "[]", True),
        (Metric.JSON_SCHEMA, "{}", "{", False),
    ],
)
def test_answers_agree_by_the_metric(metric: Metric, answer: str, other: str, agreed: bool) -> None:  # noqa: FBT001  (a table's column)
    assert scorers.agree(metric, answer, other, tolerance_percent=2) is agreed


def test_answers_agree_on_the_schema_where_both_follow_or_neither() -> None:
    schema = OutputSchema('{"type": "object"}')
    assert scorers.agree(Metric.JSON_SCHEMA, "[]", "none", follows=schema.allows)
    assert not scorers.agree(Metric.JSON_SCHEMA, "{}", "[]", follows=schema.allows)


@given(st.sampled_from(Metric), st.text(max_size=30) | JSON.map(json.dumps))
def test_every_answer_agrees_with_itself(metric: Metric, answer: str) -> None:
    assert scorers.agree(metric, answer, answer)


@given(st.sampled_from(Metric), st.text(max_size=30) | JSON.map(json.dumps), st.text(max_size=30) | JSON.map(json.dumps))
def test_agreement_takes_any_answers(metric: Metric, answer: str, other: str) -> None:
    assert scorers.agree(metric, answer, other) in {True, False}
