"""Getting an answer from somewhere: other pods, waiting, giving up in time, and what is never done twice."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from aiohttp import web

from tests.unit.gateway.builders import OTHER_DIGEST, revision, task, traffic
from tests.unit.gateway.pods import Pod, break_off, completion, hang, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, place, running, serve

OTHER_MODEL = MODEL.replace("ab" * 16, "cd" * 16)


async def status(world: World, **fields: Any) -> int:
    async with world.post(**fields) as response:
        await response.read()
        code: int = response.status
        return code


async def test_pod_that_lacks_the_adapter_is_passed_over() -> None:
    async with Pod("a") as without, Pod("b", models={MODEL}) as having, running(without, having) as world:
        assert [await status(world) for _ in range(10)] == [200] * 10
        assert len(having.received) == 10


async def test_pod_whose_engine_is_down_is_passed_over() -> None:
    async with Pod("a", models={MODEL}, answer=refusing(503)) as down, Pod("b", models={MODEL}) as well, running(down, well) as world:
        assert [await status(world) for _ in range(5)] == [200] * 5


async def test_pod_that_is_gone_is_passed_over() -> None:
    async with Pod("b", models={MODEL}) as well, running() as world:
        async with Pod("a", models={MODEL}) as gone:
            serve(world.table, gone, well)
        assert [await status(world) for _ in range(5)] == [200] * 5


async def test_trouble_with_our_own_token_is_not_told_as_the_clients() -> None:
    async with Pod("a", models={MODEL}, pool_uid="uid-other") as pod, running(pod, hold_seconds=0.2) as world:
        assert await status(world) == 503


async def test_request_waits_for_the_first_pod() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table)
        asked = asyncio.create_task(_held(world))
        await until(lambda: world.figure("held_requests"))
        place(world.table, pod)
        code, held = await asyncio.wait_for(asked, 10)
        assert code == 200
        assert held >= 0
        assert world.figure("held_requests") == 0


async def test_request_waits_until_its_adapter_is_proven() -> None:
    async with Pod("a") as pod, running(pod) as world:
        asked = asyncio.create_task(_held(world))
        await until(lambda: len(pod.received) >= 2)
        pod.models.add(MODEL)
        code, _ = await asyncio.wait_for(asked, 10)
        assert code == 200


async def test_wait_ends_in_time_with_an_honest_503() -> None:
    async with Pod("a") as pod, running(pod, hold_seconds=0.3) as world:
        began = time.monotonic()
        async with world.post() as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert (await response.json())["error"]["code"] == "model_unavailable"
        assert 0.2 < time.monotonic() - began < 10
        # Asked again and again, but not in a tight loop.
        assert 1 < len(pod.received) < 10


async def test_client_that_leaves_frees_its_place() -> None:
    async with running(max_held_per_task=1) as world:
        serve(world.table)
        leaving = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        leaving.cancel()
        await until(lambda: not world.figure("held_requests"))
        assert world.gateway.api.open_requests == 0


async def test_task_deleted_while_a_request_waits_is_404() -> None:
    async with running() as world:
        serve(world.table)
        waiting = asyncio.create_task(status(world))
        await until(lambda: world.figure("held_requests"))
        world.table.remove_task(("finance", "vendor"))
        assert await asyncio.wait_for(waiting, 10) == 404


async def test_broken_connection_is_tried_elsewhere_once_only() -> None:
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(Pod(name, models={MODEL}, answer=break_off)) for name in "abc"]
        world = await stack.enter_async_context(running(*pods))
        # A request that kills engines must not go round all of them.
        assert await status(world) == 502
        assert sum(len(pod.received) for pod in pods) == 2


async def test_one_broken_connection_is_not_seen_by_the_client() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:

        async def first_breaks(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            return await (break_off if len(pod.received) == 1 else completion)(pod, request, body)

        pod.answer = first_breaks
        assert await status(world) == 200


async def test_engines_own_refusal_is_passed_on_under_the_clients_name() -> None:
    async def refuse(_pod: Pod, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"{body['model']} takes 512 tokens", "type": "invalid_request_error"}}, status=400)

    async with Pod("a", models={MODEL}, answer=refuse) as pod, running(pod) as world, world.post() as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"] == "finance/vendor takes 512 tokens"
        assert len(pod.received) == 1


async def test_slow_answer_is_504_and_ends_the_work_on_it() -> None:
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod, request_timeout_seconds=0.3) as world:
        assert await status(world) == 504
        await asyncio.wait_for(pod.cancelled.wait(), 10)
        assert len(pod.received) == 1


async def test_stream_that_never_begins_is_504() -> None:
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod, first_byte_timeout_seconds=0.3) as world:
        assert await status(world, stream=True) == 504


async def test_stream_comes_as_it_is_made() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        pod.gate.clear()
        asked = asyncio.create_task(_open(world))
        for word in ("one", "two", "three"):
            pod.gate.set()
            if word == "one":
                response = await asyncio.wait_for(asked, 10)
                assert response.headers["Content-Type"].startswith("text/event-stream")
            while word not in (line := await asyncio.wait_for(response.content.readline(), 10)).decode():
                assert line
            assert json.loads(line.removeprefix(b"data: "))["model"] == "finance/vendor"
        rest = (await response.read()).decode()
        assert "usage" not in rest
        assert rest.endswith("data: [DONE]\n\n")
        response.release()


async def test_streams_usage_is_there_for_who_asks() -> None:
    async with (
        Pod("a", models={MODEL}) as pod,
        running(pod) as world,
        world.post(stream=True, stream_options={"include_usage": True}) as response,
    ):
        assert '"usage":{"prompt_tokens":7' in await response.text()


async def test_client_that_leaves_a_stream_ends_the_work_on_it() -> None:
    async with Pod("a", models={MODEL}, answer=_endless) as pod, running(pod) as world:
        async with world.post(stream=True) as response:
            await response.content.readline()
            response.close()
        await asyncio.wait_for(pod.cancelled.wait(), 10)
        await until(lambda: not world.gateway.api.open_requests)
        labels = {"namespace": "finance", "task_model": "vendor", "revision": "vendor-1"}
        assert world.figure("requests_total", **labels, code="499") == 1
        assert world.figure("in_flight_requests", **labels) == 0


async def test_client_that_leaves_before_the_answer_ends_the_work_on_it() -> None:
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod) as world:
        asked = asyncio.create_task(status(world))
        await until(lambda: pod.received)
        asked.cancel()
        await asyncio.wait_for(pod.cancelled.wait(), 10)


async def test_stream_that_breaks_off_never_looks_whole() -> None:
    async def breaks(_pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"model":"' + body["model"].encode() + b'","choices":[{}]}\n\n')
        assert request.transport is not None
        request.transport.close()
        return response

    async with Pod("a", models={MODEL}, answer=breaks) as pod, running(pod) as world:
        received = b""
        try:
            async with world.post(stream=True) as response:
                async for chunk in response.content.iter_any():
                    received += chunk
        except aiohttp.ClientPayloadError:
            broken = True
        else:
            broken = False
        assert broken
        assert b'"error"' in received
        assert b"[DONE]" not in received
        assert len(pod.received) == 1


async def test_stream_that_breaks_before_its_first_byte_is_tried_elsewhere() -> None:
    async def first_breaks(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (break_off if len(pod.received) == 1 else completion)(pod, request, body)

    async with Pod("a", models={MODEL}, answer=first_breaks) as pod, running(pod) as world, world.post(stream=True) as response:
        assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_stream_without_a_single_byte_is_tried_elsewhere() -> None:
    async def first_is_empty(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(pod.received) > 1:
            return await completion(pod, request, body)
        return web.Response(headers={"Content-Type": "text/event-stream"})

    async with Pod("a", models={MODEL}, answer=first_is_empty) as pod, running(pod) as world, world.post(stream=True) as response:
        assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_switch_of_traffic_under_load_loses_nothing() -> None:
    async with Pod("a", models={MODEL, OTHER_MODEL}) as pod, running(pod) as world:
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST))
        done = asyncio.Event()

        async def client() -> list[int]:
            codes = []
            while not done.is_set():
                codes.append(await status(world))
            return codes

        clients = [asyncio.create_task(client()) for _ in range(4)]
        for number in range(20):
            await asyncio.sleep(0.02)
            world.table.put_task(task(to=[traffic("vendor-2" if number % 2 == 0 else "vendor-1")]))
        pod.models.discard(OTHER_MODEL)
        await asyncio.sleep(0.1)
        done.set()
        codes = [code for found in await asyncio.gather(*clients) for code in found]
        assert set(codes) == {200}
        assert {received.body["model"] for received in pod.received} == {MODEL, OTHER_MODEL}


async def test_superseded_revision_that_no_pod_holds_is_404_at_once() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        world.table.put_revision(revision("vendor-0", digest=OTHER_DIGEST, phase="Superseded"))
        began = time.monotonic()
        assert await status(world, model="finance/vendor@vendor-0") == 404
        assert time.monotonic() - began < 4


async def _endless(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"model":"' + body["model"].encode() + b'","choices":[{}]}\n\n')
    return await hang(pod, request, body)


async def _held(world: World) -> tuple[int, float]:
    async with world.post() as response:
        return response.status, float(response.headers.get("x-taskfleet-held-seconds", "-1"))


async def _open(world: World) -> aiohttp.ClientResponse:
    response: aiohttp.ClientResponse = await world.post(stream=True)
    return response
