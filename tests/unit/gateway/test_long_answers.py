"""Pods run in their tenants' namespaces: what they answer at length is not parsed, which would take ten times its memory."""

import json
from typing import Any

import orjson
import pytest

from taskfleet.gateway import stream
from taskfleet.gateway.stream import Usage, usage_within


@pytest.mark.parametrize("longest", [10, 10_000], ids=["searched", "parsed"])
@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 2}, "data": [1.5] * 9}, Usage(1, 2)),
        ({"usage": {"prompt_tokens_details": {"cached": {"a": 1}}, "prompt_tokens": 4, "completion_tokens": 5}}, Usage(4, 5)),
        ({"choices": [{"text": '"usage":{"prompt_tokens": 9}'}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}, Usage(4, 0)),
        ({"choices": [{"text": '"usage":{'}]}, None),
        ({"usage": None}, None),
    ],
)
def test_usage_is_found_without_parsing_a_long_answer(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], usage: Usage | None, longest: int
) -> None:
    monkeypatch.setattr(stream, "MAX_PARSED_BYTES", longest)
    assert usage_within(orjson.dumps(answer)) == usage
    assert usage_within(json.dumps(answer).encode()) == usage


def test_answer_that_is_no_json_states_no_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usage_within(b"not json") is None
    monkeypatch.setattr(stream, "MAX_PARSED_BYTES", 1)
    for text in (b"not json", b'"usage":{', b'"usage": {"prompt_tokens": }', b'"usage":{{{{}'):
        assert usage_within(text) is None
