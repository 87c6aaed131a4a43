"""Golden sets are read as they stand in the examples, and what is wrong is told with its line."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.api.taskmodel import Metric
from taskfleet.evaluation import golden

EXAMPLES = Path(__file__).parents[3] / "examples/golden"


def parsed(*lines: object, metric: Metric = Metric.EXACT_MATCH) -> tuple[golden.Example, ...]:
    return golden.parse("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode(), metric=metric).examples


@pytest.mark.parametrize("task", ["date", "total", "vendor"])
def test_examples_are_golden_sets(task: str) -> None:
    text = (EXAMPLES / f"{task}.jsonl").read_bytes()
    found = golden.parse(text, metric=Metric.EXACT_MATCH)
    assert len(found.examples) == len(text.splitlines())
    assert found.digest == golden.digest_of(text)


def test_each_form_asks_in_its_way() -> None:
    chat, typed, text, completion = parsed(
        {"messages": [{"role": "user", "content": "x"}], "expected": "1", "unknown": 1},
        {"id": "typed", "input": {"line": "ä"}, "expected": {"a": 1}},
        {"input": "as it is", "expected": 2},
        {"id": 7, "prompt": "x ->", "expected": "1"},
    )
    assert (chat.id, chat.path, chat.question) == ("line-1", "/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
    assert (typed.id, typed.question["messages"]) == ("typed", [{"role": "user", "content": '{"line":"ä"}'}])
    assert text.question["messages"] == [{"role": "user", "content": "as it is"}]
    assert (completion.id, completion.path, completion.question) == ("7", "/completions", {"prompt": "x ->"})


def test_byte_order_mark_and_empty_lines_are_passed_over() -> None:
    (example,) = golden.parse(b'\xef\xbb\xbf\n\r\n{"input": "x", "expected": "y"}\r\n\n', metric=Metric.EXACT_MATCH).examples
    assert example.id == "line-3"


ASKED = {"input": "x"}


@pytest.mark.parametrize(
    ("line", "metric", "message"),
    [
        ("{", Metric.EXACT_MATCH, "no JSON"),
        ("[]", Metric.EXACT_MATCH, "is a JSON object"),
        ({"expected": "y"}, Metric.EXACT_MATCH, "exactly one of"),
        ({"input": "x", "prompt": "x", "expected": "y"}, Metric.EXACT_MATCH, "exactly one of"),
        ({"messages": [], "expected": "y"}, Metric.EXACT_MATCH, "at least one message"),
        ({"messages": [{"role": "root", "content": "x"}], "expected": "y"}, Metric.EXACT_MATCH, "'role'"),
        ({"messages": ["x"], "expected": "y"}, Metric.EXACT_MATCH, "'role'"),
        ({"prompt": 3, "expected": "y"}, Metric.EXACT_MATCH, "'prompt'"),
        ({**ASKED, "id": ["x"], "expected": "y"}, Metric.EXACT_MATCH, "'id'"),
        ({**ASKED, "id": "a\nb", "expected": "y"}, Metric.EXACT_MATCH, "'id'"),
        ({**ASKED, "id": "first", "expected": "y"}, Metric.EXACT_MATCH, "'first', too"),
        (ASKED, Metric.EXACT_MATCH, "ExactMatch needs"),
        ({**ASKED, "expected": "text"}, Metric.FIELD_F1, "FieldF1 needs"),
        ({**ASKED, "expected": "y"}, Metric.REGEX, "Regex needs"),
        ({**ASKED, "pattern": "("}, Metric.REGEX, "no regular expression"),
        ({**ASKED, "pattern": 3}, Metric.REGEX, "no regular expression"),
        ({**ASKED, "expected": "many"}, Metric.NUMERIC_TOLERANCE, "NumericTolerance needs"),
        ({**ASKED, "expected": "y" * golden.MAX_LINE_BYTES}, Metric.EXACT_MATCH, "longer than"),
    ],
)
def test_wrong_line_is_told_with_its_number(line: object, metric: Metric, message: str) -> None:
    good: dict[str, object] = {"id": "first", "input": "x", "expected": {"n": 1}, "pattern": "x"}
    if metric is Metric.NUMERIC_TOLERANCE:
        good["expected"] = 3
    with pytest.raises(golden.GoldenSetError, match=f"line 3: .*{message}"):
        parsed(good, "", line, metric=metric)


@pytest.mark.parametrize("metric", [Metric.JSON_SCHEMA, Metric.JUDGE])
def test_some_metrics_need_no_expectation(metric: Metric) -> None:
    assert parsed(ASKED, metric=metric)


def test_bounds() -> None:
    with pytest.raises(golden.GoldenSetError, match="no examples"):
        parsed("")
    with pytest.raises(golden.GoldenSetError, match="larger than"):
        golden.parse(b" " * (golden.MAX_BYTES + 1), metric=Metric.EXACT_MATCH)
    with pytest.raises(golden.GoldenSetError, match="more than"):
        golden.parse(b'{"input":"x"}\n' * (golden.MAX_EXAMPLES + 1), metric=Metric.JUDGE)


@given(st.binary(max_size=200), st.sampled_from(Metric))
def test_any_bytes_are_a_golden_set_or_told(text: bytes, metric: Metric) -> None:
    with contextlib.suppress(golden.GoldenSetError):
        assert golden.parse(text, metric=metric).examples
