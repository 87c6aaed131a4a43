"""What the gateway and the agent rely on beyond chats and completions, asked of the simulator and of the real vLLM alike."""

import json
from typing import Any

import aiohttp
import pytest

from taskfleet.engines.web_errors import is_unknown_route
from tests.engine.running import BASE_NAME, RunningEngine

SCHEMA = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "book", "parameters": SCHEMA}}


async def post(session: aiohttp.ClientSession, engine: RunningEngine, path: str, **body: Any) -> tuple[int, bytes]:
    async with session.post(engine.base_url + path, json={"model": BASE_NAME, **body}) as response:
        return response.status, await response.read()


async def test_unknown_route_is_told_from_an_unknown_model(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    assert is_unknown_route(*await post(session, engine, "/v1/embeddings", input="x"))
    assert is_unknown_route(*await post(session, engine, "/v1/nothing"))
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
    ):
        status, answer = await post(session, engine, path, **{"model": "nobody", "max_tokens": 1, **body})
        assert (status, is_unknown_route(status, answer)) == (404, False), path


async def test_response_is_a_message_with_its_usage(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    body = {"input": "total 12", "instructions": "Answer.", "max_output_tokens": 8, "temperature": 0, "store": False}
    status, answer = await post(session, engine, "/v1/responses", **body)
    response = json.loads(answer)
    assert status == 200, response
    assert (response["object"], response["model"]) == ("response", BASE_NAME)
    (item,) = response["output"]
    assert (item["type"], item["content"][0]["type"]) == ("message", "output_text")
    usage = response["usage"]
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"] > 0


async def test_response_streams_typed_events_the_last_of_which_has_the_usage(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    body = {"input": "total 12", "max_output_tokens": 8, "temperature": 0, "store": False, "stream": True}
    status, answer = await post(session, engine, "/v1/responses", **body)
    assert status == 200, answer
    events = []
    for event in answer.decode().strip().split("\n\n"):
        kind, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    kinds = [event["type"] for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["response"]["model"] == events[-1]["response"]["model"] == BASE_NAME
    assert events[0]["response"]["usage"] is None
    assert events[-1]["response"]["usage"]["output_tokens"] > 0


async def test_response_keeps_to_a_schema(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    text = {"format": {"type": "json_schema", "name": "output", "schema": SCHEMA, "strict": True}}
    status, answer = await post(session, engine, "/v1/responses", input="total 12", text=text, max_output_tokens=64, temperature=0)
    assert status == 200, answer
    response = json.loads(answer)
    # A model that counts on without end is cut off; what it has written so far keeps to the schema all the same.
    assert response["output"][0]["content"][0]["text"].lstrip().startswith("{")


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_have_their_ids_from_the_request(session: aiohttp.ClientSession, engine: RunningEngine, *, stream: bool) -> None:
    """What the gateway signs as the request's id comes back to the client: from the header, and for responses from the body."""
    given = "mine-1-AGsIHOnobiutEwzb_YA3pFi7vOgJcwQRTe42je5T"
    for path, prefix, body in (
        ("/v1/chat/completions", "chatcmpl-", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}),
        ("/v1/completions", "cmpl-", {"prompt": "x", "max_tokens": 2}),
        ("/v1/responses", "resp_", {"input": "x", "max_output_tokens": 2, "store": False, "request_id": f"resp_{given}"}),
    ):
        asked = {"model": BASE_NAME, "stream": stream, **body}
        async with session.post(engine.base_url + path, json=asked, headers={"X-Request-Id": given}) as response:
            assert response.status == 200
            text = await response.text()
        events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith(("data: {", "{"))]
        found = {part["id"] for event in events if "id" in (part := event.get("response", event))}
        assert found == {prefix + given}, path


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "book"}}])
async def test_tools_need_a_parser_for_the_models_words(session: aiohttp.ClientSession, engine: RunningEngine, choice: Any) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "tools": [TOOL], "tool_choice": choice}
    status, answer = await post(session, engine, "/v1/chat/completions", **body)
    assert status == 400
    assert "--tool-call-parser" in json.loads(answer)["error"]["message"]
