"""What answers are found to follow, and how little time that may take."""

import json
import time
from typing import Any

import pytest

from taskfleet.api.taskmodel import Task
from taskfleet.gateway import schema_check
from taskfleet.gateway.request import parse
from taskfleet.gateway.schema_check import SchemaCheck, UncheckedError
from taskfleet.gateway.shaping import Kind, compile_task
from taskfleet.gateway.transcript import MAX_BYTES, Transcript

SCHEMA = '{"type": "object", "required": ["total"]}'


def transcript(kind: Kind, *parts: Any, stream: bool = False) -> str | None:
    kept = Transcript(kind, stream=stream)
    for part in parts:
        kept.add(
            (b"data: " if stream else b"") + (part if isinstance(part, bytes) else json.dumps(part).encode()) + (b"\n\n" if stream else b"")
        )
    return kept.text()


@pytest.mark.parametrize(("answer", "follows"), [('{"total": 1}', True), ("{}", False), ("no JSON", False), ('```{"total": 1}```', False)])
def test_answer_follows_or_not(answer: str, *, follows: bool) -> None:
    check = SchemaCheck(SCHEMA)
    assert [check.follows(answer) for _ in range(2)] == [follows] * 2


@pytest.mark.parametrize("schema", ["no schema", '{"$ref": "http://127.0.0.1:1/x"}', '{"type": "string", "pattern": "^(a+)+$"}'])
def test_schema_that_is_none_or_takes_for_ever_says_nothing(schema: str) -> None:
    check = SchemaCheck(schema)
    began = time.process_time()
    with pytest.raises(UncheckedError):
        check.follows(json.dumps("a" * 40 + "!"))
    assert time.process_time() - began < 2


def test_checks_take_a_small_share_of_the_time() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.005  # so long does everything take
        return now

    check = SchemaCheck(SCHEMA, clock)
    checked = 0
    while now < 100:
        try:
            check.follows("{}")
            checked += 1
        except UncheckedError:
            continue
    assert schema_check.SHARE * 90 < checked * 0.005 < schema_check.SHARE * 110 + schema_check.BURST_SECONDS


def test_text_of_whole_answers() -> None:
    assert transcript(Kind.CHAT, {"choices": [{"message": {"content": "x"}}, {"message": {"content": "y"}}]}) == "x"
    assert transcript(Kind.CHAT, {"choices": [{"message": {"content": None, "tool_calls": []}}]}) is None
    assert transcript(Kind.COMPLETION, {"choices": [{"text": "x"}]}) == "x"
    message = {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]}
    assert transcript(Kind.RESPONSE, {"output": [{"type": "reasoning"}, message]}) == "ab"
    assert transcript(Kind.EMBEDDING, {"data": []}) is None


def test_text_of_streams() -> None:
    words = [{"choices": [{"index": 0, "delta": {"content": word}}, {"index": 1, "delta": {"content": "other"}}]} for word in "abc"]
    assert (
        transcript(Kind.CHAT, {"choices": [{"index": 0, "delta": {"role": "assistant"}}]}, *words, {"choices": []}, b"[DONE]", stream=True)
        == "abc"
    )
    assert transcript(Kind.COMPLETION, {"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}, stream=True) == "ab"
    whole = {"output": [{"type": "message", "content": [{"text": "ab"}]}]}
    assert transcript(Kind.RESPONSE, {"type": "response.created"}, {"type": "response.completed", "response": whole}, stream=True) == "ab"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"choices": []}', b'{"choices": [{"message": 1}]}', b"x" * (MAX_BYTES + 1)])
def test_what_is_no_answer_or_too_long_has_no_text(body: bytes) -> None:
    for kind in Kind:
        for stream in (False, True):
            assert transcript(kind, body, stream=stream) is None


def test_only_requests_for_the_tasks_own_schema_are_judged_by_it() -> None:
    shaper = compile_task(Task.model_validate({"outputSchema": SCHEMA, "allowOverrides": ["OutputSchema"]}))
    own = {"type": "json_schema", "json_schema": {"name": "output", "schema": {"type": "array"}}}
    for kind, field, other in ((Kind.CHAT, "messages", {"response_format": own}), (Kind.RESPONSE, "input", {"text": {"format": own}})):
        for more, asked in (({}, True), (other, False)):
            request = parse(json.dumps({"model": "m", field: [], **more}).encode(), kind)
            request.prepare(shaper)
            assert shaper.asks_for_schema(request.body, kind) == asked
    assert not compile_task(Task()).asks_for_schema({"response_format": None}, Kind.CHAT)
