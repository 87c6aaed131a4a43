"""/v1/responses, /v1/embeddings and media: what a task makes of them, what is refused, and how their streams are relayed."""

import json
from typing import Any

import pytest
from aiohttp import web

from taskfleet.api.taskmodel import Task
from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.request import parse
from taskfleet.gateway.shaping import Kind, compile_task
from taskfleet.gateway.stream import EventRelay, Usage
from tests.unit.gateway.pods import Pod, refusing
from tests.unit.gateway.world import MODEL, World, running

RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
SCHEMA = '{"type": "object", "properties": {"total": {"type": "string"}}}'
FORMAT = {"type": "json_schema", "name": "output", "schema": json.loads(SCHEMA), "strict": True}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def shaped(settings: dict[str, Any], body: dict[str, Any], kind: Kind = Kind.RESPONSE) -> dict[str, Any]:
    compile_task(Task.model_validate(settings)).shape(body, kind)
    return body


def refused(settings: dict[str, Any], body: dict[str, Any], kind: Kind = Kind.RESPONSE) -> str | None:
    """The field that is named."""
    with pytest.raises(BadRequestError) as caught:
        shaped(settings, body, kind)
    return caught.value.param


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


# What a task makes of a response


def test_tasks_settings_have_their_own_names_in_a_response() -> None:
    settings = {"systemPrompt": "Be brief.", "outputSchema": SCHEMA, "defaults": {"maxTokens": 8, "temperature": 0, "seed": 1}}
    assert shaped(settings, {"input": "x"}) == {
        "input": "x",
        "instructions": "Be brief.",
        "max_output_tokens": 8,
        "temperature": 0,
        "seed": 1,
        "text": {"format": FORMAT},
    }


def test_callers_settings_win_where_the_task_allows_and_are_named_where_not() -> None:
    assert shaped({"defaults": {"maxTokens": 8}}, {"input": "x", "max_output_tokens": 9})["max_output_tokens"] == 9
    closed = {"systemPrompt": "s", "outputSchema": SCHEMA, "defaults": {"maxTokens": 8}, "allowOverrides": []}
    assert refused(closed, {"input": "x", "max_output_tokens": 9}) == "max_output_tokens"
    assert refused(closed, {"input": "x", "instructions": "mine"}) == "instructions"
    assert refused(closed, {"input": [{"role": "developer", "content": "mine"}, user("x")]}) == "input"
    assert refused(closed, {"input": "x", "text": {"format": {"type": "text"}}}) == "text"
    assert refused(closed, {"input": "x", "structured_outputs": {"regex": "a"}}) == "structured_outputs"
    assert shaped(closed, {"input": "x", "text": {"format": FORMAT}, "instructions": ""})["instructions"] == "s"
    open_task = closed | {"allowOverrides": ["SystemPrompt", "OutputSchema", "MaxTokens"]}
    own = {"input": "x", "instructions": "mine", "text": {"format": {"type": "text"}}, "max_output_tokens": 9}
    assert shaped(open_task, dict(own)) == own


def test_other_wishes_for_the_text_are_kept_beside_the_format() -> None:
    assert shaped({"outputSchema": SCHEMA}, {"input": "x", "text": {"verbosity": "low"}})["text"] == {"verbosity": "low", "format": FORMAT}
    assert refused({"outputSchema": SCHEMA}, {"input": "x", "text": "plain"}) == "text"


def test_template_stands_around_every_turn_of_the_user_in_a_response() -> None:
    settings = {"promptTemplate": "<{input}>"}
    assert shaped(settings, {"input": "a"})["input"] == "<a>"
    turns = [user("a"), {"role": "assistant", "content": "b"}, user([{"type": "input_text", "text": "c"}]), {"type": "reasoning"}]
    assert shaped(settings, {"input": turns})["input"] == [user("<a>"), turns[1], user("<c>"), turns[3]]
    for wrong in (user([PICTURE]), user(None)):
        assert refused(settings, {"input": [wrong]}) == "input"
    absent: tuple[Any, ...] = (None, [], {}, 7)
    for missing in absent:
        assert refused(settings, {"input": missing}) == "input"


@pytest.mark.parametrize("field", ["previous_response", "previous_input_messages"])
@pytest.mark.parametrize("settings", [{"systemPrompt": "s"}, {"promptTemplate": "<{input}>"}])
def test_tasks_prompt_can_be_got_round_by_no_history(field: str, settings: dict[str, Any]) -> None:
    assert refused(settings, {"input": "x", field: [{"role": "system"}]}) == field


# Embeddings


def test_embeddings_take_the_template_and_nothing_else_of_a_task() -> None:
    settings = {"systemPrompt": "s", "promptTemplate": "query: {input}", "outputSchema": SCHEMA, "defaults": {"maxTokens": 8}}
    assert shaped(settings, {"input": "a"}, Kind.EMBEDDING) == {"input": "query: a"}
    assert shaped(settings, {"input": ["a", "b"], "dimensions": 4}, Kind.EMBEDDING) == {"input": ["query: a", "query: b"], "dimensions": 4}
    assert refused(settings, {"input": [1, 2]}, Kind.EMBEDDING) == "input"
    assert refused(settings, {"messages": [user("x")]}, Kind.EMBEDDING) == "messages"
    assert shaped({"systemPrompt": "s"}, {"input": [1, 2]}, Kind.EMBEDDING) == {"input": [1, 2]}


def test_embeddings_are_not_streamed() -> None:
    with pytest.raises(BadRequestError) as caught:
        parse(b'{"model":"finance/vendor","input":"x","stream":true}', Kind.EMBEDDING)
    assert caught.value.param == "stream"


# Nothing is remembered


@pytest.mark.parametrize(
    "fields", [{"store": True}, {"background": True}, {"previous_response_id": "resp_1"}, {"conversation": {"id": "conv_1"}}]
)
def test_what_needs_a_memory_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match="not stored") as caught:
        parse(json.dumps({"model": "finance/vendor", "input": "x", **fields}).encode(), Kind.RESPONSE)
    assert caught.value.param == next(iter(fields))


def test_engine_is_told_to_store_nothing_and_takes_no_id_from_a_client() -> None:
    request = parse(b'{"model":"finance/vendor","input":"x","request_id":"resp_of_another"}', Kind.RESPONSE)
    assert json.loads(request.encode("m", "r1")) == {"model": "m", "input": "x", "store": False, "request_id": "resp_r1"}


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")])
async def test_stored_responses_are_404_and_say_why(method: str, path: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        async with world.client.request(method, f"{world.url}{RESPONSES}/resp_1{path}") as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (404, "not_found")
            assert "not stored" in error["message"]
        async with world.client.get(world.url + RESPONSES) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST, OPTIONS")
        assert not pod.received


def test_turns_of_one_response_conversation_have_one_key() -> None:
    def key(given: Any) -> str:
        return parse(json.dumps({"model": "finance/vendor", "input": given}).encode(), Kind.RESPONSE).conversation()

    first, later, other = [user("hello")], [user("hello"), {"role": "assistant", "content": "hi"}, user("more")], [user("bye")]
    assert key(first) == key(later) != key(other)
    assert key("hello") != key("bye")


@pytest.mark.parametrize("kind", list(Kind))
def test_key_of_deeply_nested_messages_is_no_failure(kind: Kind) -> None:
    nested = b"[" * 900 + b"]" * 900
    request = parse(b'{"model":"m","messages":[' + nested + b'],"prompt":' + nested + b',"input":' + nested + b"}", kind)
    assert isinstance(request.conversation(), str)
    with pytest.raises(BadRequestError):
        request.encode("m", "r1")


# On the way back


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


def typed_stream(model: str) -> list[bytes]:
    whole = {"id": "resp_1", "model": model, "output": []}
    return [
        event("response.created", response={**whole, "usage": None}),
        event("response.output_text.delta", delta="one", item_id="msg_1"),
        event("response.output_text.delta", delta='"usage":{"input_tokens":999}', item_id="msg_1"),
        event("response.completed", response={**whole, "usage": USAGE}),
    ]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_typed_events_are_renamed_counted_and_otherwise_untouched(size: int) -> None:
    relay = EventRelay(engine_model="finance.vendor.ab", public_model="finance/vendor", hide_usage=False)
    sent, received = b"".join(typed_stream("finance.vendor.ab")), b""
    for start in range(0, len(sent), size):
        received += relay.feed(sent[start : start + size])
    assert received + relay.finish() == b"".join(typed_stream("finance/vendor"))
    assert relay.usage == Usage(7, 3)


def test_pods_word_about_tokens_is_not_trusted() -> None:
    told: tuple[Any, ...] = ({"prompt_tokens": -5, "completion_tokens": 1e9}, {"input_tokens": "7"}, [])
    for usage in told:
        relay = EventRelay(engine_model="m", public_model="p", hide_usage=True)
        relay.feed(b"data: " + json.dumps({"usage": usage, "choices": []}).encode() + b"\n\n")
        assert relay.usage in (None, Usage(0, 0))


async def typed(_pod: Pod, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if not body.get("stream"):
        return web.json_response({"id": "resp_1", "model": body["model"], "usage": USAGE})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(http)
    for part in typed_stream(body["model"]):
        await response.write(part)
    return response


def tokens(world: World) -> tuple[float, float]:
    labels = {"namespace": "finance", "task_model": "vendor", "revision": "vendor-1"}
    return world.figure("prompt_tokens_total", **labels), world.figure("completion_tokens_total", **labels)


async def test_response_goes_through_whole_and_streamed_and_is_counted() -> None:
    async with Pod("a", models={MODEL}, answer=typed) as pod, running(pod) as world:
        async with world.post({"model": "finance/vendor", "input": "x"}, path=RESPONSES) as response:
            answer = await response.json()
            assert (response.status, answer["model"]) == (200, "finance/vendor")
        async with world.post({"model": "finance/vendor", "input": "x", "stream": True}, path=RESPONSES) as response:
            assert await response.read() == b"".join(typed_stream("finance/vendor"))
        assert all(received.body.pop("request_id").startswith("resp_") for received in pod.received)
        assert pod.received[0].body == {"model": MODEL, "input": "x", "store": False}
        assert pod.received[1].body == {"model": MODEL, "input": "x", "stream": True, "store": False}
        assert {received.path for received in pod.received} == {RESPONSES}
        assert tokens(world) == (14, 6)


async def test_broken_stream_of_a_response_ends_with_a_typed_error() -> None:
    async def breaks(_pod: Pod, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(typed_stream(body["model"])[0])
        assert http.transport is not None
        http.transport.close()
        return response

    async with Pod("a", models={MODEL}, answer=breaks) as pod, running(pod) as world:
        async with world.post({"model": "finance/vendor", "input": "x", "stream": True}, path=RESPONSES) as response:
            received = b""
            try:
                async for part in response.content.iter_any():
                    received += part
            except Exception:  # noqa: BLE001, S110  it must not look whole; test_proxy shows that it doesn't
                pass
        last = received.rstrip().rpartition(b"\n\n")[2]
        assert last.startswith(b'event: error\ndata: {"type":"error","code":"upstream_failed"')


async def test_embeddings_go_through_and_are_counted() -> None:
    async def embed(_pod: Pod, _http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}})

    async with Pod("a", models={MODEL}, answer=embed) as pod, running(pod) as world:
        async with world.post({"model": "finance/vendor", "input": ["x"], "encoding_format": "float"}, path=EMBEDDINGS) as response:
            answer = await response.json()
            assert (response.status, answer["model"], answer["data"][0]["embedding"]) == (200, "finance/vendor", [0.5])
        assert pod.received[0].body == {"model": MODEL, "input": ["x"], "encoding_format": "float"}
        assert tokens(world) == (4, 0)


async def test_what_the_engine_can_not_do_is_404_at_once() -> None:
    async with Pod("a", models={MODEL}, answer=refusing(501, "no-such-route")) as pod, running(pod) as world:
        async with world.post({"model": "finance/vendor", "input": "x"}, path=EMBEDDINGS) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["param"]) == (404, "unsupported_endpoint", "model")
            assert error["message"] == "The model 'finance/vendor' does not answer /v1/embeddings"
        assert len(pod.received) == 1


# Media


def chat_part(url: Any) -> dict[str, Any]:
    return {"messages": [user([{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": url}])]}


async def test_media_in_the_request_go_through_unchanged() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        parts = [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ]
        async with world.post(messages=[user(parts)]) as response:
            assert response.status == 200
        assert pod.received[0].body["messages"] == [user(parts)]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        {"url": "https://example.com/x.png"},
        {"url": "file:///etc/passwd"},
        {"url": ["http://x"]},
        " data:,x",
    ],
)
async def test_addresses_that_an_engine_would_fetch_are_refused(url: Any) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        for path, body in (
            ("/v1/chat/completions", chat_part(url)),
            (RESPONSES, {"input": [user([{"type": "input_image", "image_url": url}])]}),
            (EMBEDDINGS, chat_part(url)),
        ):
            async with world.post({"model": "finance/vendor", **body}, path=path) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (400, "remote_media")
        assert not pod.received
