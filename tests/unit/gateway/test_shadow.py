"""Mirrored requests: after the stable answer, never in its way, and counted apart from everything else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from taskfleet.api.measurements import ShadowCounts
from taskfleet.gateway import mirror
from tests.unit.gateway.builders import OTHER_DIGEST, pool, revision, task, traffic
from tests.unit.gateway.pods import Answer, Pod, break_off, hang, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, place, running

CANDIDATE = MODEL.replace("ab" * 16, "cd" * 16)
SCHEMA = {"outputSchema": '{"type": "object", "required": ["total"]}'}


def saying(text: str) -> Answer:
    """Answers with this text, whole or as a stream of two words."""

    async def answer(_pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        if not body.get("stream"):
            return web.json_response({"model": body["model"], "choices": [{"message": {"content": text}}], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in (text[:3], text[3:]):
            event = {"model": body["model"], "choices": [{"index": 0, "delta": {"content": part}}]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    return answer


def by_model(stable: Answer, candidate: Answer) -> Answer:
    async def answer(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (candidate if body["model"] == CANDIDATE else stable)(pod, request, body)

    return answer


@asynccontextmanager
async def shadowed(
    *pods: Pod, percent: int = 100, evaluation: dict[str, Any] | None = None, settings: dict[str, Any] | None = None
) -> AsyncIterator[World]:
    """finance/vendor, answered by vendor-1 and mirrored to vendor-2."""
    async with running() as world:
        world.table.put_revision(revision("vendor-1", settings=settings))
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending", settings=settings))
        to = [traffic("vendor-1"), traffic("vendor-2", weight=0, shadow=percent)]
        world.table.put_task(task(to=to, evaluation=evaluation))
        world.table.put_pool(pool())
        place(world.table, *pods)
        world.supervise()
        yield world
        world.gateway.mirror.close()
        await until(lambda: not world.gateway.mirror.under_way)


async def ask(world: World, **fields: Any) -> None:
    async with world.post(**fields) as response:
        assert response.status == 200
        assert response.headers["x-taskfleet-revision"] == "vendor-1"
        await response.read()


def shadow(world: World) -> ShadowCounts:
    found = [tally.counts().shadow for tally in world.gateway.measurements.tallies() if tally.revision.name == "vendor-2"]
    return (found[0] if found else None) or ShadowCounts()


@pytest.mark.parametrize("stream", [False, True])
async def test_candidate_is_asked_the_same_and_its_answer_compared(*, stream: bool) -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=saying("total 5")) as pod, shadowed(pod) as world:
        await ask(world, stream=stream, temperature=0.5)
        await until(lambda: shadow(world).answers.requests)
        asked, mirrored = (received.body for received in pod.received)
        assert (asked["model"], mirrored["model"]) == (MODEL, CANDIDATE)
        assert (mirrored["messages"], mirrored["temperature"]) == (asked["messages"], 0.5)
        assert "stream" not in mirrored or not stream
        counts = shadow(world)
        assert (counts.compared, counts.agreed, counts.skipped, counts.answers.errors) == (1, 1, 0, 0)
        assert sum(count for _, count in counts.answers.latency) == 1
        pod.answer = by_model(saying("total 5"), saying("total 6"))
        await ask(world, stream=stream)
        await until(lambda: shadow(world).compared == 2)
        assert shadow(world).agreed == 1


async def test_answers_are_compared_by_the_tasks_own_measure() -> None:
    evaluation = {"metric": "NumericTolerance", "tolerancePercent": 10}
    answer = by_model(saying("100"), saying("95.0"))
    async with Pod("a", models={MODEL, CANDIDATE}, answer=answer) as pod, shadowed(pod, evaluation=evaluation) as world:
        await ask(world)
        await until(lambda: shadow(world).compared)
        assert shadow(world).agreed == 1


async def test_answers_that_both_follow_the_schema_agree_by_that_measure() -> None:
    answer = by_model(saying('{"total": 5}'), saying('{"total": 6}'))
    async with (
        Pod("a", models={MODEL, CANDIDATE}, answer=answer) as pod,
        shadowed(pod, evaluation={"metric": "JSONSchema"}, settings=SCHEMA) as world,
    ):
        await ask(world)
        await until(lambda: shadow(world).compared)
        assert (shadow(world).agreed, shadow(world).answers.checked) == (1, 1)


async def test_stable_answer_goes_out_first_and_waits_for_nothing() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=by_model(saying("x"), hang)) as pod, shadowed(pod) as world:
        for _ in range(mirror.MAX_OF_TASK + 3):
            await ask(world)
        await until(lambda: shadow(world).skipped == 3)
        await until(lambda: len(pod.received) == 2 * mirror.MAX_OF_TASK + 3)
        assert world.gateway.mirror.under_way == mirror.MAX_OF_TASK
        assert pod.received[0].body["model"] == MODEL


async def test_drain_waits_for_no_mirrored_request_and_closing_drops_them() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=by_model(saying("x"), hang)) as pod, shadowed(pod) as world:
        await ask(world)
        await until(lambda: len(pod.received) == 2)
        world.gateway.api.closing = True
        await asyncio.wait_for(world.gateway.api.idle(), 5)
        world.gateway.mirror.close()
        await asyncio.wait_for(pod.cancelled.wait(), 5)
        await until(lambda: not world.gateway.mirror.under_way)
        assert shadow(world) == ShadowCounts()


@pytest.mark.parametrize(
    ("answer", "errors", "skipped"), [(break_off, 1, 0), (refusing(500), 1, 0), (refusing(421), 0, 1), (refusing(503), 0, 1)]
)
async def test_candidates_failure_is_counted_and_nobody_elses_trouble(answer: Answer, errors: int, skipped: int) -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=by_model(saying("x"), answer)) as pod, shadowed(pod) as world:
        await ask(world)
        await until(lambda: shadow(world) != ShadowCounts())
        counts = shadow(world)
        assert (counts.answers.requests, counts.answers.errors, counts.skipped, counts.compared) == (errors, errors, skipped, 0)
        assert len(pod.received) == 2  # once, and nowhere else


async def test_mirrored_requests_are_no_traffic() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=saying("x")) as pod, shadowed(pod) as world:
        await ask(world)
        await until(lambda: shadow(world).compared)
        labels = {"namespace": "finance", "task_model": "vendor"}
        assert world.figure("completion_tokens_total", **labels, revision="vendor-1") == 3
        assert world.figure("completion_tokens_total", **labels, revision="vendor-2") == 0
        assert world.figure("requests_total", **labels, revision="vendor-2", code="200") == 0
        found = {tally.revision.name: tally for tally in world.gateway.measurements.tallies()}
        assert (found["vendor-1"].live.requests, found["vendor-2"].live.requests) == (1, 0)
        demand = world.gateway.measurements.demand(("finance", "vendor"))
        assert (demand.arrivals, demand.under_way) == (1, 0)


async def test_only_a_share_is_mirrored_and_nothing_without_supervision() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=saying("x")) as pod, shadowed(pod, percent=30) as world:
        world.gateway.supervision.routes_heard = lambda: float("-inf")
        world.gateway.supervision.check()
        for _ in range(10):
            await ask(world)
        assert {received.body["model"] for received in pod.received} == {MODEL}
        world.supervise()
        for _ in range(60):
            await ask(world)
            await until(lambda: not world.gateway.mirror.under_way)
        assert 5 <= shadow(world).answers.requests <= 35


async def test_pinned_requests_and_large_ones_are_not_mirrored() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}, answer=saying("x")) as pod, shadowed(pod) as world:
        await ask(world, model="finance/vendor@vendor-1")
        await ask(world, messages=[{"role": "user", "content": "x" * (mirror.MAX_REQUEST_BYTES + 1)}])
        await until(lambda: shadow(world).skipped == 1)
        assert {received.body["model"] for received in pod.received} == {MODEL}


async def test_answers_are_held_against_the_tasks_schema() -> None:
    answer = by_model(saying('{"total": 5}'), saying('{"sum": 5}'))
    async with Pod("a", models={MODEL, CANDIDATE}, answer=answer) as pod, shadowed(pod, settings=SCHEMA) as world:
        for stream in (False, True):
            await ask(world, stream=stream)
            await until(lambda: not world.gateway.mirror.under_way)
        await until(lambda: shadow(world).answers.checked == 2)
        assert shadow(world).answers.invalid == 2
        (stable,) = (tally.live for tally in world.gateway.measurements.tallies() if tally.revision.name == "vendor-1")
        assert (stable.checked, stable.invalid) == (2, 0)
