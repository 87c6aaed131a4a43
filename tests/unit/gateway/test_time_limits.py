"""How long a request may take, and what clients may ask for."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.time_limits import FIRST_BYTE_HEADER, TIMEOUT_HEADER, TimeLimits
from tests.unit.gateway.pods import Pod, break_off, hang
from tests.unit.gateway.world import MODEL, running, serve

BOUND = TimeLimits(request=600, first_byte=120)


def test_clients_may_ask_for_less() -> None:
    assert BOUND.shortened({}) is BOUND
    assert BOUND.shortened({TIMEOUT_HEADER: "12.5"}) == TimeLimits(request=12.5, first_byte=120)
    assert BOUND.shortened({FIRST_BYTE_HEADER: "3"}) == TimeLimits(request=600, first_byte=3)
    assert BOUND.shortened({TIMEOUT_HEADER: "600"}) == BOUND


@pytest.mark.parametrize("value", ["601", "0", "-1", "nan", "inf", "1e999", "", "soon", "٣", "1, 2"])
def test_what_is_no_time_or_too_long_is_refused_by_name(value: str) -> None:
    with pytest.raises(BadRequestError, match="at most 600") as refused:
        BOUND.shortened({TIMEOUT_HEADER: value})
    assert refused.value.param == TIMEOUT_HEADER


async def test_clients_own_time_ends_the_engines_work() -> None:
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod) as world:
        async with world.post(headers={TIMEOUT_HEADER: "0.3"}) as response:
            assert response.status == 504
        await asyncio.wait_for(pod.cancelled.wait(), 20)


async def test_stream_must_begin_in_the_clients_own_time() -> None:
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod) as world:
        async with world.post(stream=True, headers={FIRST_BYTE_HEADER: "0.3"}) as response:
            assert response.status == 504
        await asyncio.wait_for(pod.cancelled.wait(), 20)


async def test_stream_that_has_begun_ends_with_its_time_and_does_not_look_whole() -> None:
    async def begins(one: Pod, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(b'data: {"choices":[{}]}\n\n')
        return await hang(one, http, body)

    async with Pod("a", models={MODEL}, answer=begins) as pod, running(pod) as world:
        async with world.post(stream=True, headers={TIMEOUT_HEADER: "0.5"}) as response:
            assert response.status == 200
            while b"upstream_timeout" not in (line := await asyncio.wait_for(response.content.readline(), 20)):
                assert line
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await asyncio.wait_for(pod.cancelled.wait(), 20)


async def test_all_attempts_and_waiting_share_one_time() -> None:
    async with Pod("a", models={MODEL}) as pod, running(request_timeout_seconds=0.5, hold_seconds=60) as world:
        serve(world.table)
        began = time.monotonic()
        async with world.post() as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
        assert time.monotonic() - began < 20

        async def first_breaks(one: Pod, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            return await (break_off if len(one.received) == 1 else hang)(one, http, body)

        pod.answer = first_breaks
        serve(world.table, pod)
        async with world.post() as response:
            assert response.status == 504
        assert len(pod.received) == 2
