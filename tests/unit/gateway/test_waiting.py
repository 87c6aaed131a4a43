"""Requests that no pod can answer now: who waits, what clients are told meanwhile, and who is told at once that waiting can't help."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from taskfleet.api.conditions import CANNOT_START, Reason
from taskfleet.gateway.tally import Reader
from tests.unit.gateway.builders import pool, revision, task, traffic, unavailable
from tests.unit.gateway.pods import Pod, completion, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, Rights, World, place, running, serve

TASK = {"namespace": "finance", "task_model": "vendor"}
COMMENTS = {"x-taskfleet-keep-alive": "comments"}


async def status(world: World, **fields: Any) -> int:
    async with world.post(**fields) as response:
        await response.read()
        code: int = response.status
        return code


def condition(world: World, reason: str, message: str = "no node can take a pod", **arguments: Any) -> None:
    """The operator says why the task can't answer."""
    world.table.put_task(task(to=[traffic("vendor-1")], conditions=[unavailable(reason, message, **arguments)]))


def waits(world: World, reason: str, outcome: str) -> float:
    return world.figure("held_seconds_count", reason=reason, outcome=outcome)


async def test_fifty_first_requests_are_one_wake_and_all_are_answered() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        reader = Reader(world.gateway.measurements)
        asked = [asyncio.create_task(status(world)) for _ in range(50)]
        await until(lambda: world.figure("held_requests") == 50)
        batch = reader.changes()
        assert batch is not None
        (demand,) = batch.demand
        assert (demand.held, demand.in_flight, demand.arrivals) == (50, 0, 50)
        assert world.figure("wake_ups_total", **TASK) == 1
        place(world.table, pod)
        assert await asyncio.wait_for(asyncio.gather(*asked), 20) == [200] * 50
        assert len(pod.received) == 50
        assert waits(world, "cold-start", "answered") == 50


async def test_next_cold_start_is_another_wake() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        for number in (1, 2):
            place(world.table)
            asked = asyncio.create_task(status(world))
            await until(lambda: world.figure("held_requests"))
            assert world.figure("wake_ups_total", **TASK) == number
            place(world.table, pod)
            assert await asyncio.wait_for(asked, 20) == 200
        world.gateway.meter.forget_task(("finance", "vendor"))
        assert world.registry.get_sample_value("taskfleet_gateway_wake_ups_total", TASK) is None


async def test_answer_tells_how_long_and_why_it_waited() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        asked = asyncio.create_task(_headers(world))
        await until(lambda: world.figure("held_requests"))
        place(world.table, pod)
        headers = await asyncio.wait_for(asked, 20)
        assert float(headers["x-taskfleet-held-seconds"]) >= 0
        assert headers["x-taskfleet-held-reason"] == "cold-start"
        headers = await _headers(world)
        assert "x-taskfleet-held-seconds" not in headers
        assert "x-taskfleet-held-reason" not in headers


@pytest.mark.parametrize(("code", "reason"), [(421, "no-pod-has-it"), (503, "pods-fail")])
async def test_reason_tells_a_missing_adapter_from_failing_pods(code: int, reason: str) -> None:
    async with Pod("a", models={MODEL}, answer=refusing(code)) as pod, running(pod, hold_seconds=0.2) as world:
        async with world.post() as response:
            assert response.status == 503
            assert response.headers["x-taskfleet-held-reason"] == reason
            assert float(response.headers["x-taskfleet-held-seconds"]) > 0
        assert waits(world, reason, "refused") == 1


async def test_task_without_traffic_waits_for_its_first_version() -> None:
    async with running(hold_seconds=0.1) as world:
        world.table.put_task(task())
        async with world.post() as response:
            assert response.status == 503
            assert response.headers["x-taskfleet-held-reason"] == "no-route"
        assert world.figure("wake_ups_total", **TASK) == 0


async def test_full_queue_is_429_and_the_deadline_503() -> None:
    async with running(max_held_per_task=1, hold_seconds=0.5) as world:
        serve(world.table)
        waiting = asyncio.create_task(_error(world))
        await until(lambda: world.figure("held_requests"))
        code, headers, error = await _error(world)
        assert (code, error["type"], error["code"], error["param"]) == (429, "rate_limit_error", "queue_full", None)
        assert int(headers["Retry-After"]) > 0
        code, headers, error = await asyncio.wait_for(waiting, 20)
        assert (code, error["type"], error["code"], error["param"]) == (503, "server_error", "model_unavailable", None)
        assert int(headers["Retry-After"]) > 0


async def test_who_is_displaced_is_told_so_and_can_come_again() -> None:
    async with running(max_held_requests=2) as world:
        serve(world.table)
        world.table.put_task(task("other", namespace="legal"))
        filling = [asyncio.create_task(_error(world)) for _ in range(2)]
        await until(lambda: world.figure("held_requests") == 2)
        newcomer = asyncio.create_task(status(world, model="legal/other"))
        done, still = await asyncio.wait(filling, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        ((code, headers, error),) = [one.result() for one in done]
        assert (code, error["code"]) == (429, "queue_full")
        assert "Retry-After" in headers
        assert world.figure("held_requests") == 2
        for one in (newcomer, *still):
            one.cancel()
        await until(lambda: not world.figure("held_requests"))


async def test_client_that_leaves_while_it_waits_is_counted_as_such() -> None:
    async with running() as world:
        serve(world.table)
        leaving = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        leaving.cancel()
        await until(lambda: waits(world, "cold-start", "left") == 1)
        demand = world.gateway.measurements.demand(("finance", "vendor"))
        assert (demand.held, demand.under_way, demand.arrivals) == (0, 0, 1)


async def test_examples_of_the_documentation_are_what_clients_get() -> None:
    examples = _documented_errors()
    async with running(max_held_per_task=1, hold_seconds=0.5) as world:
        serve(world.table)
        waiting = asyncio.create_task(_whole_error(world))
        await until(lambda: world.figure("held_requests"))
        assert await _whole_error(world) == examples["queue_full"]
        assert await asyncio.wait_for(waiting, 20) == examples["model_unavailable"]
        condition(world, "Unschedulable", "0/3 nodes are available")
        assert await _whole_error(world) == examples["cannot_start"]


# What can't come right by itself


async def test_nobody_waits_for_a_pool_that_cannot_start() -> None:
    async with running() as world:
        serve(world.table)
        condition(world, "Unschedulable", "no node can take a pod:\n0/3 nodes are available")
        code, headers, error = await asyncio.wait_for(_error(world), 20)
        assert (code, error["code"]) == (503, "cannot_start")
        assert error["message"].endswith("no node can take a pod: 0/3 nodes are available (Unschedulable)")
        assert int(headers["Retry-After"]) > 0
        # It is demand all the same: whoever asks again and again keeps the pool from being put to sleep.
        assert world.gateway.measurements.demand(("finance", "vendor")).last is not None


async def test_who_waits_already_is_told_as_soon_as_it_is_known() -> None:
    async with running() as world:
        serve(world.table)
        asked = asyncio.create_task(_error(world))
        await until(lambda: world.figure("held_requests"))
        condition(world, "ImageUnavailable", "the image can't be pulled")
        code, headers, error = await asyncio.wait_for(asked, 20)
        assert (code, error["code"], headers["x-taskfleet-held-reason"]) == (503, "cannot_start", "cold-start")


@pytest.mark.parametrize(
    "reason", ["Starting", "NoReadyPods", "Loading", "Resolving", "SourceUnavailable", "Progressing", "EngineCrashing", "SomethingNew"]
)
async def test_requests_wait_for_what_passes_by_itself(reason: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        condition(world, reason)
        asked = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        place(world.table, pod)
        assert await asyncio.wait_for(asked, 20) == 200


async def test_finding_about_an_earlier_spec_stops_nobody() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        condition(world, "ImageUnavailable", generation=2)
        asked = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        place(world.table, pod)
        assert await asyncio.wait_for(asked, 20) == 200


async def test_pod_that_answers_is_believed_more_than_the_condition() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        condition(world, "Unschedulable")
        assert await status(world) == 200
        pod.answer = refusing(503)
        asked = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        pod.answer = completion
        assert await asyncio.wait_for(asked, 20) == 200


async def test_adapter_that_can_never_load_is_waited_for_by_nobody() -> None:
    async with Pod("a") as pod, running(pod) as world:
        condition(world, "ArtifactInvalid", "the adapter's rank is 64, and the class allows 16")
        code, _, error = await asyncio.wait_for(_error(world), 20)
        assert (code, error["code"]) == (503, "cannot_start")
        assert len(pod.received) == 1


async def test_condition_is_told_only_to_who_may_invoke() -> None:
    rights = Rights(allowed={("mine", "invoke", "finance", "vendor")})
    async with running(access=rights) as world:
        serve(world.table)
        condition(world, "Unschedulable", "0/3 nodes")
        code, _, error = await _error(world, headers={"Authorization": "Bearer theirs"})
        assert code == 404
        assert "nodes" not in error["message"]
        code, _, error = await _error(world, headers={"Authorization": "Bearer mine"})
        assert code == 503
        assert "nodes" in error["message"]


def test_what_cannot_start_needs_somebody_to_act() -> None:
    assert not CANNOT_START & {Reason.STARTING, Reason.NO_READY_PODS, Reason.LOADING, Reason.PROGRESSING}


def test_long_messages_are_cut() -> None:
    record = task(conditions=[unavailable("PodRefused", "x" * 4000)])
    assert record.cannot_start is not None
    assert len(record.cannot_start) < 600


# Signs of life


async def test_streaming_client_that_asks_for_it_gets_comments_while_it_waits() -> None:
    async with Pod("a", models={MODEL}) as pod, running(comment_seconds=0.02) as world:
        serve(world.table)
        async with world.post(stream=True, headers={**COMMENTS, "x-request-id": "mine"}) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            assert response.headers["x-request-id"] == "mine"
            assert response.headers["x-taskfleet-held-reason"] == "cold-start"
            for _ in range(3):
                assert await asyncio.wait_for(response.content.readuntil(b"\n\n"), 20) == b": waiting\n\n"
            place(world.table, pod)
            events = await asyncio.wait_for(response.content.read(), 20)
        lines = [line for line in events.split(b"\n\n") if line and not line.startswith(b":")]
        assert [json.loads(line[6:])["choices"][0]["delta"]["content"] for line in lines[:-1]] == ["one", "two", "three"]
        assert lines[-1] == b"data: [DONE]"
        assert world.figure("requests_total", **TASK, revision="vendor-1", code="200") == 1


async def test_comments_go_on_while_pods_refuse() -> None:
    async with Pod("a") as pod, running(pod, comment_seconds=0.2) as world, world.post(stream=True, headers=COMMENTS) as response:
        for _ in range(2):
            assert await asyncio.wait_for(response.content.readuntil(b"\n\n"), 20) == b": waiting\n\n"
        assert 1 < len(pod.received) < 20
        pod.models.add(MODEL)
        assert (await asyncio.wait_for(response.content.read(), 20)).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("stream", "headers"), [(True, {}), (False, COMMENTS)])
async def test_nobody_else_gets_comments(*, stream: bool, headers: dict[str, str]) -> None:
    async with running(comment_seconds=0.01, hold_seconds=0.3) as world:
        serve(world.table)
        code, _, error = await _error(world, stream=stream, headers=headers)
        assert (code, error["code"]) == (503, "model_unavailable")


async def test_short_wait_keeps_its_honest_status() -> None:
    async with running(hold_seconds=0.1) as world:
        serve(world.table)
        code, _, error = await _error(world, stream=True, headers=COMMENTS)
        assert (code, error["code"]) == (503, "model_unavailable")


async def test_unknown_wish_is_refused() -> None:
    async with running() as world:
        serve(world.table)
        code, _, error = await _error(world, stream=True, headers={"x-taskfleet-keep-alive": "yes"})
        assert (code, error["code"], error["param"]) == (400, "invalid_header", "x-taskfleet-keep-alive")


async def test_deadline_after_comments_is_an_event_and_the_stream_never_looks_whole() -> None:
    async with running(comment_seconds=0.02, hold_seconds=0.3) as world:
        serve(world.table)
        event = await _last_event(world)
        assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "model_unavailable"
        assert world.figure("requests_total", **TASK, revision="", code="503") == 1
        assert world.figure("errors_total", code="503") == 1
        assert world.gateway.api.open_requests == 0


async def test_deadline_after_comments_is_a_typed_event_for_responses() -> None:
    async with running(comment_seconds=0.02, hold_seconds=0.3) as world:
        serve(world.table)
        body = {"model": "finance/vendor", "input": "x", "stream": True}
        event = await _last_event(world, body, path="/v1/responses")
        assert event.startswith(b"event: error\ndata: ")
        assert json.loads(event.partition(b"data: ")[2])["code"] == "model_unavailable"


async def test_engines_refusal_after_comments_is_an_event_under_the_clients_name() -> None:
    async def refuse(_pod: Pod, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"{body['model']}: too long", "code": 400}}, status=400)

    async with Pod("a", models={MODEL}, answer=refuse) as pod, running(comment_seconds=0.02) as world:
        serve(world.table)
        event = await _last_event(world, then=pod)
        assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == "finance/vendor: too long"
        assert world.figure("requests_total", **TASK, revision="vendor-1", code="400") == 1


async def test_client_that_leaves_among_comments_frees_its_place() -> None:
    async with running(comment_seconds=0.02) as world:
        serve(world.table)
        async with world.post(stream=True, headers=COMMENTS) as response:
            await asyncio.wait_for(response.content.readuntil(b"\n\n"), 20)
            response.close()
        await until(lambda: not world.figure("held_requests"))
        await until(lambda: world.gateway.api.open_requests == 0)
        assert waits(world, "cold-start", "left") == 1


async def test_gateways_own_fault_after_comments_never_looks_like_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pod("a", models={MODEL}) as pod, running(comment_seconds=0.02) as world:
        serve(world.table)

        def fail(*_: object, **__: object) -> bytes:
            raise RuntimeError

        monkeypatch.setattr("taskfleet.gateway.call.Call.body_for", fail)
        async with world.post(stream=True, headers=COMMENTS) as response:
            await asyncio.wait_for(response.content.readuntil(b"\n\n"), 20)
            place(world.table, pod)
            with pytest.raises(aiohttp.ClientError):
                await asyncio.wait_for(response.content.read(), 20)
        await until(lambda: world.gateway.api.open_requests == 0)
        assert world.figure("requests_total", **TASK, revision="vendor-1", code="500") == 1


async def test_conditions_of_other_types_and_shapes_are_read_over() -> None:
    assert task(conditions=[]).cannot_start is None
    assert task(conditions=[unavailable("Unschedulable") | {"type": "Ready"}]).cannot_start is None
    assert task(conditions=[unavailable("Unschedulable") | {"status": "Unknown"}]).cannot_start is None
    assert task(conditions=[{"type": "Available", "status": "False"}]).cannot_start is None


async def test_pinned_revision_has_its_own_fate() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        condition(world, "Unschedulable")
        asked = asyncio.create_task(status(world, model="finance/vendor@vendor-1"))
        await until(lambda: world.figure("held_requests"))
        world.table.put_pool(pool())
        world.table.put_revision(revision("vendor-1"))
        place(world.table, pod)
        assert await asyncio.wait_for(asked, 20) == 200


async def _headers(world: World) -> Any:
    async with world.post() as response:
        await response.read()
        assert response.status == 200
        return response.headers


async def _error(world: World, **arguments: Any) -> tuple[int, Any, dict[str, Any]]:
    async with world.post(**arguments) as response:
        body = await response.json()
        return response.status, response.headers, body["error"]


async def _whole_error(world: World) -> tuple[str, str]:
    """Status line, headers and body as the documentation shows them: how long it took is left out."""
    async with world.post() as response:
        shown = {name: value for name, value in response.headers.items() if name in {"x-taskfleet-held-reason", "Retry-After"}}
        waited = ["x-taskfleet-held-seconds"] if "x-taskfleet-held-seconds" in response.headers else []
        head = [f"HTTP/1.1 {response.status} {response.reason}", *waited, *(f"{name}: {value}" for name, value in shown.items())]
        return "\n".join(head), await response.text()


def _documented_errors() -> dict[str, tuple[str, str]]:
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text().replace("finance/invoice-total", "finance/vendor")
    section = text.partition("## Requests that wait for a pod")[2].partition("\n## ")[0]
    blocks = [block.strip().partition("\n\n") for block in section.split("```")[1::2]]
    return {json.loads(body)["error"]["code"]: (re.sub(r"(held-seconds): [\d.]+", r"\1", head), body) for head, _, body in blocks}


async def _last_event(world: World, body: Any = None, *, path: str = "/v1/chat/completions", then: Pod | None = None) -> bytes:
    """What follows the comments of a stream that ends badly. Pods come after the first comment."""
    fields = {"stream": True} if body is None else {}
    received = b""
    async with world.post(body, path=path, headers=COMMENTS, **fields) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012  the end is missing, wherever it is read
            async with asyncio.timeout(20):
                async for chunk in response.content.iter_any():
                    received += chunk
                    if then is not None:
                        place(world.table, then)
    *comments, last, rest = received.split(b"\n\n")
    assert rest == b""
    assert set(comments) == {b": waiting"}
    return last
