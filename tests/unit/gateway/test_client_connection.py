"""What clients may do to a connection: slow, odd, forged and greedy ones, over real sockets."""

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from taskfleet.gateway.client_connection import MAX_FIELD_BYTES, MAX_HEAD_BYTES
from tests.unit.gateway.pods import Pod
from tests.unit.gateway.raw import BODY, HEAD, connected, request
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, running

GET = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n"


def closed(world: World, reason: str) -> float:
    return world.figure("connections_closed_total", reason=reason)


async def test_head_that_comes_in_drops_is_cut_off() -> None:
    async with running(header_timeout_seconds=0.2) as world, connected(world.url) as client:
        await client.send(GET)
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert await client.closed() == b""
        assert closed(world, "head-timeout") == 1


async def test_second_request_of_a_connection_is_held_to_the_same_time() -> None:
    async with running(header_timeout_seconds=0.2) as world, connected(world.url) as client:
        await client.send(GET + b"\r\n")
        assert (await client.answer()).status == 200
        await client.send(GET)
        assert (await client.answer()).status == 408


async def test_head_in_pieces_is_answered_when_it_is_whole() -> None:
    async with running() as world, connected(world.url) as client:
        for piece in (GET[:10], GET[10:], b"\r", b"\n"):
            await client.send(piece)
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200
        assert closed(world, "head-timeout") == 0


async def test_connection_that_says_nothing_is_closed() -> None:
    async with running(idle_timeout_seconds=0.2) as world, connected(world.url) as client:
        assert await client.closed() == b""


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"A: " + b"a" * (MAX_FIELD_BYTES + 1) + b"\r\n", id="long-field"),
        pytest.param(b"".join(b"A%d: a\r\n" % number for number in range(200)), id="many-fields"),
    ],
)
async def test_too_many_or_too_long_headers_are_431(lines: bytes) -> None:
    async with running() as world, connected(world.url) as client:
        await client.send(GET + lines + b"\r\n")
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")


async def test_long_address_is_431() -> None:
    async with running() as world, connected(world.url) as client:
        await client.send(b"GET /" + b"a" * (MAX_FIELD_BYTES + 1) + b" HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await client.answer()).status == 431


async def test_head_is_bounded_as_a_whole() -> None:
    async with running() as world, connected(world.url) as client:
        field = b"A: " + b"a" * (MAX_FIELD_BYTES // 2) + b"\r\n"
        await client.send(GET, *[field] * (MAX_HEAD_BYTES // len(field) + 2))
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
        assert closed(world, "head-too-large") == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length-and-chunks"),
        pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two-lengths"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", id="negative-length"),
        pytest.param(HEAD + b"Content-Length: 1_0\r\n\r\n", id="no-number"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n\r\nx", id="other-transfer-encoding"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="no-chunk"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", id="folded-header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="control-character"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", id="space-before-colon"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", id="bare-line-feeds"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01evil\r\n\r\n", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
    ],
)
async def test_what_is_no_http_is_a_clear_400_and_the_end(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, connected(world.url) as client:
        await client.send(data)
        answer = await client.answer()
        assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
        assert await client.closed() == b""
        assert not pod.received
    # A scanner must not be able to fill the log, let alone to write lines of its own.
    assert not caplog.records


async def test_forms_of_http_that_few_clients_use_are_answered() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        forms = {
            "absolute form": request(head=HEAD.replace(b" /v1", b" http://elsewhere/v1")),
            "chunks": HEAD
            + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
            "HTTP/1.0": request(head=HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")),
            "HTTP/1.0 that expects": request(BODY, b"Expect: 100-continue", head=HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")),
            "expects with its body": request(BODY, b"Expect: 100-continue"),
        }
        for name, data in forms.items():
            async with connected(world.url) as client:
                await client.send(data)
                assert ((await client.answer()).status, name) == (200, name)


async def test_stream_to_an_old_client_ends_with_its_connection() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, connected(world.url) as client:
        await client.send(request(BODY[:-1] + b',"stream":true}', head=HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")))
        received = await client.closed()
        assert b"Transfer-Encoding" not in received
        assert received.endswith(b"data: [DONE]\n\n")


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, connected(world.url) as client:
        await client.send(request() + GET + b"\r\n" + request(b"{}"))
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 400]


async def test_unknown_expectation_is_417() -> None:
    async with running() as world, connected(world.url) as client:
        await client.send(request(BODY, b"Expect: the-impossible"))
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (417, "expectation_failed")


async def test_body_that_ends_too_soon_reaches_no_pod() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, connected(world.url) as client:
        await client.send(request()[:-5])
        client.writer.write_eof()
        await client.closed()
        await until(lambda: not world.gateway.api.open_requests)
        assert not pod.received


async def test_connections_beyond_the_limit_are_refused_and_told_so() -> None:
    async with running(max_connections=2) as world, connected(world.url) as first, connected(world.url) as second:
        for client in (first, second):
            await client.send(GET + b"\r\n")
            assert (await client.answer()).status == 200
        async with connected(world.url) as third:
            answer = await third.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        first.writer.close()

        async def taken() -> bool:
            async with connected(world.url) as fourth:
                await fourth.send(GET + b"\r\n")
                return (await fourth.answer()).status == 200

        async with asyncio.timeout(20):
            while True:
                if await taken():
                    break
                await asyncio.sleep(0.01)


async def test_client_that_takes_nothing_loses_its_stream_and_the_pod_its_work() -> None:
    async def flood(pod: Pod, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        try:
            while True:
                await response.write(b"data: " + b"x" * 100_000 + b"\n\n")
        except (asyncio.CancelledError, ConnectionError):
            pod.cancelled.set()
            raise

    async with Pod("a", models={MODEL}, answer=flood) as pod, running(pod, stall_timeout_seconds=0.3) as world:
        async with connected(world.url, receive_buffer=1024) as client:
            await client.send(request(BODY[:-1] + b',"stream":true}'))
            await asyncio.wait_for(pod.cancelled.wait(), 30)
            await until(lambda: closed(world, "stalled") == 1)
        await until(lambda: not world.gateway.api.open_requests)
        labels = {"namespace": "finance", "task_model": "vendor", "revision": "vendor-1"}
        assert world.figure("requests_total", **labels, code="499") == 1


async def test_client_that_takes_nothing_of_a_whole_answer_is_cut_off() -> None:
    async def long(_pod: Pod, _http: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=b" " * 30_000_000, content_type="application/json")

    async with (
        Pod("a", models={MODEL}, answer=long) as pod,
        running(pod, stall_timeout_seconds=0.3) as world,
        connected(world.url, receive_buffer=1024) as client,
    ):
        await client.send(request(BODY, b"Connection: close"))
        await until(lambda: closed(world, "stalled") == 1)


async def test_client_that_is_slow_but_steady_gets_everything() -> None:
    size = 8_000_000

    async def long(_pod: Pod, _http: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=b" " * size, content_type="application/json")

    async with Pod("a", models={MODEL}, answer=long) as pod, running(pod, stall_timeout_seconds=1.0) as world:
        async with connected(world.url, receive_buffer=65536) as client:
            await client.send(request())
            received = 0
            while received < size:
                received += len(await asyncio.wait_for(client.reader.read(200_000), 20))
                await asyncio.sleep(0.01)
        assert closed(world, "stalled") == 0
