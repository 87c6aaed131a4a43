"""Streams on their way back: rewritten, counted, and never out of order or short, however the network cuts them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway import stream
from taskfleet.gateway.stream import EventRelay, EventTooLongError, Usage

ENGINE = "finance.vendor.abababab"
PUBLIC = "finance/vendor"


def event(text: str | None, *, model: str = ENGINE, usage: dict[str, int] | None = None, spaced: bool = False) -> bytes:
    chunk: dict[str, object] = {"id": "1", "model": model, "choices": [] if text is None else [{"delta": {"content": text}}]}
    if usage is not None:
        chunk["usage"] = usage
    data = orjson.dumps(chunk)
    return b"data: " + (data.replace(b'":', b'": ') if spaced else data) + b"\n\n"


USAGE = event(None, usage={"prompt_tokens": 5, "completion_tokens": 2})
DONE = b"data: [DONE]\n\n"


def relay(*chunks: bytes, hide: bool = True) -> tuple[bytes, Usage | None]:
    relayed = EventRelay(engine_model=ENGINE, public_model=PUBLIC, hide_usage=hide)
    out = b"".join(relayed.feed(chunk) for chunk in chunks) + relayed.finish()
    return out, relayed.usage


def test_client_sees_the_name_that_it_used() -> None:
    assert relay(event("a"), event("b", spaced=True))[0] == event("a", model=PUBLIC) + event("b", model=PUBLIC, spaced=True)


def test_usage_is_counted_and_hidden_where_nobody_asked() -> None:
    assert relay(event("a"), USAGE, DONE) == (event("a", model=PUBLIC) + DONE, Usage(5, 2))


def test_usage_is_passed_on_where_the_client_asked() -> None:
    out, usage = relay(event("a"), USAGE, DONE, hide=False)
    assert out.count(b'"usage"') == 1
    assert usage == Usage(5, 2)


def test_chunk_with_choices_is_never_hidden() -> None:
    both = event("a", usage={"prompt_tokens": 5, "completion_tokens": 1})
    assert relay(both, DONE) == (both.replace(ENGINE.encode(), PUBLIC.encode()) + DONE, Usage(5, 1))


def test_text_that_looks_like_fields_is_left_alone() -> None:
    text = f'"model":"{ENGINE}" "usage":{{"prompt_tokens":1}}\n\ndata: [DONE]'
    out, usage = relay(event(text))
    assert orjson.loads(out.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == text
    assert usage is None


def test_half_an_event_at_the_end_is_passed_on() -> None:
    assert relay(event("a"), b"data: {")[0] == event("a", model=PUBLIC) + b"data: {"


def test_line_ends_of_other_servers_are_understood() -> None:
    assert relay((event("a") + USAGE + DONE).replace(b"\n", b"\r\n"))[1] == Usage(5, 2)


def test_event_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_EVENT_BYTES", 1000)
    with pytest.raises(EventTooLongError):
        relay(*[b"x" * 100] * 11)


def test_name_with_quotation_marks_stays_valid_json() -> None:
    relayed = EventRelay(engine_model=ENGINE, public_model='a"b', hide_usage=True)
    assert orjson.loads(relayed.feed(event("x")).removeprefix(b"data: "))["model"] == 'a"b'


@given(st.lists(st.text(max_size=20), max_size=6), st.lists(st.integers(1, 400), max_size=20), st.booleans())
def test_the_networks_cuts_change_nothing(texts: list[str], cuts: list[int], hide: bool) -> None:  # noqa: FBT001  drawn
    whole = b"".join(event(text) for text in texts) + USAGE + DONE
    chunks, rest = [], whole
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert relay(*chunks, rest, hide=hide) == relay(whole, hide=hide)


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_come_through(chunks: list[bytes]) -> None:
    out, _ = relay(*chunks)
    assert len(out) <= sum(len(chunk) for chunk in chunks)
