"""Reading a request, and writing it for an engine."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.request import parse
from taskfleet.gateway.shaping import Kind, Shaper

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


def raw(**fields: Any) -> bytes:
    return orjson.dumps({"model": "finance/vendor", **fields})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b'{"model": "a", "t": NaN}', b"\xff\xfe", b"[" * 5000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse(body, Kind.CHAT)
    assert refused.value.reason == "invalid_json"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse(raw(**fields), Kind.CHAT)
    assert refused.value.param == param


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key not in ("model", "stream", "stream_options")), JSON))
def test_every_other_field_reaches_the_engine_unchanged(extra: dict[str, Any]) -> None:
    request = parse(raw(**extra), Kind.CHAT)
    request.prepare(Shaper())
    assert orjson.loads(request.encode("engine.name", "r1")) == {"model": "engine.name", **extra}


def test_usage_is_asked_of_every_stream_and_remembered_whether_the_client_did() -> None:
    quiet = parse(raw(stream=True, stream_options={"continuous_usage_stats": True}), Kind.CHAT)
    quiet.prepare(Shaper())
    assert not quiet.usage_wanted
    assert quiet.body["stream_options"] == {"continuous_usage_stats": True, "include_usage": True}
    asking = parse(raw(stream=True, stream_options={"include_usage": True}), Kind.CHAT)
    asking.prepare(Shaper())
    assert asking.usage_wanted
    assert asking.body["stream_options"] == {"include_usage": True}


def test_whole_answers_are_not_asked_for_stream_options() -> None:
    request = parse(raw(stream=False), Kind.CHAT)
    request.prepare(Shaper())
    assert "stream_options" not in request.body


def test_turns_of_one_conversation_have_one_key() -> None:
    first = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]
    later = [*first, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}]
    other = [first[0], {"role": "user", "content": "goodbye"}]
    keys = [parse(raw(messages=messages), Kind.CHAT).conversation() for messages in (first, later, other)]
    assert keys[0] == keys[1] != keys[2]


def test_end_user_is_the_conversation_whatever_is_said() -> None:
    keys = [
        parse(raw(user=user, messages=[{"role": "user", "content": said}]), Kind.CHAT).conversation() for user, said in ("ax", "ay", "bx")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_system_prompt_and_a_common_beginning_make_no_conversation_of_all() -> None:
    system, long = {"role": "system", "content": "s"}, "Extract the vendor. " * 5000
    keys = {
        parse(raw(messages=[system, {"role": "user", "content": f"{long}{number}"}]), Kind.CHAT).conversation() for number in range(20)
    } | {parse(raw(prompt=f"{long}{number}"), Kind.COMPLETION).conversation() for number in range(20, 40)}
    assert len(keys) == 40
    assert max(len(key) for key in keys) < 50_000
    plain, templated = ([*prompt, {"role": "user", "content": "x"}] for prompt in ([], [system]))
    assert parse(raw(messages=plain), Kind.CHAT).conversation() == parse(raw(input=templated), Kind.RESPONSE).conversation()


@given(JSON)
def test_any_messages_have_a_key(messages: Any) -> None:
    assert isinstance(parse(raw(messages=messages, prompt=messages), Kind.CHAT).conversation(), str)
