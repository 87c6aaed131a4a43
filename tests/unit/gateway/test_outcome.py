"""What a request's end counts as, and for whom."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from taskfleet.api.measurements import Counts
from tests.unit.gateway.builders import OTHER_DIGEST, revision, traffic
from tests.unit.gateway.pods import Answer, Pod, break_off, completion, hang, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, running, serve

OTHER_MODEL = MODEL.replace("ab" * 16, "cd" * 16)


def counted(world: World, name: str = "vendor-1") -> Counts:
    """Of one revision; nothing where it has no count yet."""
    found = [tally.counts().live for tally in world.gateway.measurements.tallies() if tally.revision.name == name]
    return found[0] if found else Counts()


def timed(counts: Counts) -> int:
    return sum(count for _, count in counts.latency)


async def status(world: World, **fields: Any) -> int:
    async with world.post(**fields) as response:
        with suppress(aiohttp.ClientPayloadError):
            await response.read()
        code: int = response.status
        return code


def answering(code: int) -> Answer:
    async def answer(_pod: Pod, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "type": "x"}}, status=code)

    return answer


async def halfway(_pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream that breaks off."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: " + json.dumps({"model": body["model"], "choices": [{}]}).encode() + b"\n\n")
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize("stream", [False, True])
async def test_good_answer_is_a_request_with_its_time(*, stream: bool) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        assert await status(world, stream=stream) == 200
        counts = counted(world)
        assert (counts.requests, counts.errors, timed(counts)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("answer", "stream", "error"),
    [
        (answering(500), False, True),
        (answering(504), False, True),
        (break_off, False, True),
        (halfway, True, True),
        (hang, False, True),
        (hang, True, True),
        (answering(400), False, False),
        (answering(429), False, False),
    ],
)
async def test_error_is_what_the_revision_did_and_never_what_the_client_did(answer: Answer, *, stream: bool, error: bool) -> None:
    async with Pod("a", models={MODEL}, answer=answer) as pod, running(pod, request_timeout_seconds=0.3, hold_seconds=0.2) as world:
        await status(world, stream=stream)
        counts = counted(world)
        assert (counts.requests, counts.errors, timed(counts)) == (1, int(error), 0)


async def test_request_that_no_pod_was_there_for_is_no_error() -> None:
    async with Pod("a") as pod, running(pod, hold_seconds=0.1) as world:
        assert await status(world) == 503
        assert (counted(world).requests, counted(world).errors) == (1, 0)


async def test_time_that_ran_out_after_waiting_for_a_pod_is_no_error() -> None:
    async with Pod("a", answer=hang) as pod, running(pod, request_timeout_seconds=0.4) as world:
        asked = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        pod.models.add(MODEL)
        assert await asyncio.wait_for(asked, 10) == 504
        assert (counted(world).requests, counted(world).errors) == (1, 0)


async def test_waiting_for_a_pod_is_no_part_of_the_time() -> None:
    async with Pod("a") as pod, running(pod) as world:
        asked = asyncio.create_task(status(world))
        await until(lambda: len(pod.received) > 3)  # after pauses of 50, 100 and 200 ms
        pod.models.add(MODEL)
        assert await asyncio.wait_for(asked, 10) == 200
        ((bucket, count),) = counted(world).latency
        assert count == 1
        assert bucket < 18  # 0.35 s


@pytest.mark.parametrize("answer", [hang, "stream"])
async def test_client_that_left_was_a_request_and_nothing_else(answer: Any) -> None:
    async def first_word(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        return await hang(pod, request, body)

    async with Pod("a", models={MODEL}, answer=first_word if answer == "stream" else hang) as pod, running(pod) as world:
        asked = asyncio.create_task(status(world, stream=answer == "stream"))
        await until(lambda: pod.received)
        asked.cancel()
        await until(lambda: counted(world).requests)
        counts = counted(world)
        assert (counts.requests, counts.errors, timed(counts)) == (1, 0, 0)


async def test_retry_that_went_well_is_one_good_request() -> None:
    async def first_breaks(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (break_off if len(pod.received) == 1 else completion)(pod, request, body)

    async with Pod("a", models={MODEL}, answer=first_breaks) as pod, running(pod) as world:
        assert await status(world) == 200
        counts = counted(world)
        assert (counts.requests, counts.errors, timed(counts)) == (1, 0, 1)


@pytest.mark.parametrize(("answer", "error"), [(refusing(421), 0), (refusing(503), 0), (break_off, 1)])
async def test_answer_of_the_stable_revision_in_its_place_counts_for_the_one_that_was_picked(answer: Answer, error: int) -> None:
    async def by_model(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (answer if body["model"] == OTHER_MODEL else completion)(pod, request, body)

    async with Pod("a", models={MODEL, OTHER_MODEL}, answer=by_model) as pod, running() as world:
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
        serve(world.table, pod, to=[traffic("vendor-1", weight=0), traffic("vendor-2", weight=100)])
        world.supervise()
        assert await status(world) == 200
        counts = counted(world, "vendor-2")
        assert (counts.requests, counts.errors, timed(counts)) == (1, error, 0)
        assert counted(world, "vendor-1").requests == 0


async def test_pinned_request_is_no_live_traffic() -> None:
    async with Pod("a", models={MODEL}, answer=answering(500)) as pod, running(pod) as world:
        assert await status(world, model="finance/vendor@vendor-1") == 500
        assert counted(world) == Counts()
