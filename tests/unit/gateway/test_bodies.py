"""What a request's body may be: types, encodings and odd JSON, and what it may cost."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from tests.unit.gateway.pods import Pod, hang
from tests.unit.gateway.raw import BODY, HEAD, connected, request
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import CHAT, MODEL, World, running


async def post(world: World, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer."""
    chosen = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client.post(world.url + CHAT, data=body, headers=chosen) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "text/json"],
)
async def test_other_types_are_415_and_reach_no_pod(content_type: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        # A page of any origin may send the first three without asking.
        async with connected(world.url) as client:
            await client.send(request(BODY, b"Content-Type: " + content_type.encode()))
            answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
        assert "application/json" in answer.error["message"]
        assert not pod.received


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json; a=b", "application/json;charset=us-ascii"],
)
async def test_json_in_utf8_is_read_however_it_is_called(content_type: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        status, _ = await post(world, BODY, Content_Type=content_type)
        assert status == 200


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "utf-7"])
async def test_other_charsets_are_415(charset: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        status, answer = await post(world, BODY, Content_Type=f"application/json; charset={charset}")
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
        assert not pod.received


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
async def test_compressed_bodies_are_415_and_nothing_is_unpacked(encoding: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, connected(world.url) as client:
        await client.send(request(gzip.compress(BODY), b"Content-Encoding: " + encoding.encode()))
        answer = await client.answer()
        assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
        assert not pod.received


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xef\xbb\xbf" + BODY, id="byte-order-mark"),
        pytest.param(BODY.decode().encode("utf-16"), id="utf-16"),
        pytest.param(BODY.decode().encode("utf-32"), id="utf-32"),
        pytest.param(BODY.replace(b'"x"', b'"\xe4"'), id="latin-1"),
        pytest.param(BODY.replace(b'"x"', b'"\\ud800"'), id="lone-surrogate"),
        pytest.param(BODY.replace(b'"x"', b'"\xed\xa0\x80"'), id="surrogate-in-utf-8"),
        pytest.param(BODY.replace(b'"x"', b'"\x01"'), id="control-character"),
        pytest.param(BODY[:-1] + b',"temperature":NaN}', id="not-a-number"),
        pytest.param(BODY[:-1] + b',"temperature":-Infinity}', id="infinity"),
        pytest.param(BODY[:-1] + b',"temperature":1e999}', id="infinite-number"),
        pytest.param(BODY[:-1] + b',"seed":01}', id="leading-zero"),
        pytest.param(BODY[:-1] + b",}", id="trailing-comma"),
        pytest.param(BODY + BODY, id="two-objects"),
        pytest.param(BODY[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested-too-deeply-to-read"),
        pytest.param(BODY[:-1] + b',"x":' + b"[" * 500 + b"]" * 500 + b"}", id="nested-too-deeply-to-write"),
        pytest.param(b"", id="empty"),
    ],
)
async def test_odd_json_is_a_clear_400(body: bytes) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        status, answer = await post(world, body)
        assert (status, answer["error"]["type"], answer["error"]["code"]) == (400, "invalid_request_error", "invalid_json")
        assert not pod.received


async def test_engine_gets_what_was_understood_and_not_what_was_sent() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        # Of two fields of a name parsers take the one or the other: what was checked here must be what the engine reads.
        status, _ = await post(world, b'{"model":"tiny-pool","messages":[],"model":"finance/vendor","stream":true,"stream":false}')
        assert status == 200
        assert pod.received[0].body == {"model": MODEL, "messages": [], "stream": False}


async def test_numbers_and_text_come_through_as_they_are() -> None:
    content = {"big": 2**63, "small": -(2**63), "float": 0.1, "text": "ä\u2028\U0001f600\x7f", "": None}
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        status, _ = await post(world, json.dumps({"model": "finance/vendor", "messages": [], **content}).encode())
        assert status == 200
        assert pod.received[0].body == {"model": MODEL, "messages": [], **content}


async def test_bodies_together_are_bounded_and_given_back() -> None:
    body = BODY[:-1] + b',"x":"' + b"x" * 3000 + b'"}'
    settings: dict[str, Any] = {"max_body_bytes": 4096, "max_buffered_body_bytes": 16384}
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod, **settings) as world:
        waiting = [asyncio.create_task(post(world, body)) for _ in range(5)]
        await until(lambda: len(pod.received) == 5)
        assert world.figure("buffered_body_bytes") == 5 * len(body)
        status, answer = await post(world, body)
        assert (status, answer["error"]["code"]) == (429, "too_many_requests")
        for task in waiting:
            task.cancel()
        await until(lambda: not world.figure("buffered_body_bytes"))
        pod.answer = Pod("b").answer
        assert (await post(world, body))[0] == 200


async def test_client_whose_body_never_comes_waits_for_no_permission_in_vain() -> None:
    async with running(body_timeout_seconds=0.2) as world, connected(world.url) as client:
        await client.send(HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.answer()).status == 100
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert await client.closed() == b""
