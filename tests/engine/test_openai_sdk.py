"""OpenAI's own Python SDK against gateway, agent and engine: what applications do, by the calls that they do it with."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

from taskfleet.api.agent import AdapterPhase
from taskfleet.gateway.auth import ANYBODY, Caller
from taskfleet.gateway.errors import UnauthenticatedError
from tests.engine.agent_pod import NAMESPACE, Pod, running_pod
from tests.engine.gateway_fleet import OTHER_UID, PoolTokens, Version, place, route, version
from tests.engine.running import TINY_MODEL
from tests.engine.simulator import embeddings as simulated
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess, running_registry
from tests.unit.gateway import builders
from tests.unit.gateway.world import World, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL, VECTORS, COLD = f"{NAMESPACE}/vendor", f"{NAMESPACE}/vectors", f"{NAMESPACE}/cold"
KEY = "good"


class Invoice(BaseModel):
    vendor: str
    total: int


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "book",
        "parameters": {"type": "object", "properties": {"account": {"type": "string"}}, "required": ["account"]},
    },
}


class Key:
    """One key opens everything."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        if headers.get("Authorization") != f"Bearer {KEY}":
            raise UnauthenticatedError("The token was refused", presented=True)
        return ANYBODY

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:  # noqa: ARG002
        return True


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory, registry: RegistryProcess) -> AsyncIterator[Pod]:
    engine = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    async with running_pod(tmp_path_factory.mktemp("pod"), registry, TINY_MODEL / "base", engine_arguments=engine) as started:
        yield started


async def proven(pod: Pod, adapter: Version) -> None:
    await pod.want(adapter.desired)
    await pod.reach({adapter.desired.revision: AdapterPhase.PROVEN})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vendor(pod: Pod, tmp_path_factory: pytest.TempPathFactory) -> Version:
    made = version(pod, tmp_path_factory.mktemp("vendor"), "vendor", "v1", seed=1)
    await proven(pod, made)
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def world(pod: Pod, vendor: Version) -> AsyncIterator[World]:
    async with running(tokens=PoolTokens(), access=Key(), hold_seconds=0.3, max_open_requests=1) as started:
        route(started, "vendor", vendor)
        route(started, "cold", Version(vendor.desired.model_copy(update={"revision": "cold-v1"}), vendor.mark), pool="nowhere")
        place(started, pod)
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def client(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, max_retries=0, timeout=60) as started:
        yield started


def messages(text: str = "from Wonka Ltd") -> Any:
    return [{"role": "user", "content": text}]


async def judge(client: openai.AsyncOpenAI, answer_id: str, verdict: str) -> Any:
    """OpenAI's SDKs have no name for it, and send it all the same."""
    return await client.post("/feedback", cast_to=object, body={"id": answer_id, "verdict": verdict})


def votes(world: World, revision: str) -> tuple[float, float]:
    labels = {"namespace": NAMESPACE, "task_model": "vendor", "revision": revision}
    return world.figure("votes_total", **labels, verdict="good"), world.figure("votes_total", **labels, verdict="bad")


async def test_answers_of_all_kinds_are_judged_by_their_ids(client: openai.AsyncOpenAI, world: World) -> None:
    answers: list[Any] = [
        await client.chat.completions.create(model=MODEL, messages=messages()),
        await client.completions.create(model=MODEL, prompt="x"),
        await client.responses.create(model=MODEL, input="x"),
    ]
    chat = [chunk async for chunk in await client.chat.completions.create(model=MODEL, messages=messages(), stream=True)]
    assert len({chunk.id for chunk in chat}) == 1
    plain = [chunk async for chunk in await client.completions.create(model=MODEL, prompt="x", stream=True)]
    async with client.responses.stream(model=MODEL, input="x") as stream:
        final = await stream.get_final_response()
    for number, answer in enumerate([*answers, chat[-1], plain[0], final], start=1):
        reply = await judge(client, answer.id, "good")
        assert (reply["model"], reply["revision"]) == (MODEL, "vendor-v1")
        assert votes(world, "vendor-v1") == (number, 0)
    with pytest.raises(openai.ConflictError) as twice:
        await judge(client, final.id, "bad")
    assert twice.value.code == "already_voted"
    with pytest.raises(openai.NotFoundError) as unknown:
        await judge(client, "chatcmpl-1", "bad")
    assert (unknown.value.code, unknown.value.param) == ("answer_not_found", "id")
    assert votes(world, "vendor-v1") == (6, 0)


async def test_verdicts_tell_the_candidate_from_the_stable_revision(
    client: openai.AsyncOpenAI, world: World, pod: Pod, vendor: Version, tmp_path_factory: pytest.TempPathFactory
) -> None:
    candidate = version(pod, tmp_path_factory.mktemp("candidate"), "vendor", "v2", seed=2)
    await pod.want(vendor.desired, candidate.desired)
    await pod.reach({vendor.desired.revision: AdapterPhase.PROVEN, candidate.desired.revision: AdapterPhase.PROVEN})
    try:
        digest = candidate.desired.adapter.digest
        world.table.put_revision(
            builders.revision(
                "vendor-v2", of="vendor", namespace=NAMESPACE, owner=f"uid-{NAMESPACE}-vendor", digest=digest, phase="Pending"
            )
        )
        answer = await client.completions.create(model=f"{MODEL}@vendor-v2", prompt="x")
        assert candidate.mark in answer.choices[0].text
        await judge(client, answer.id, "bad")
        await judge(client, (await client.completions.create(model=MODEL, prompt="x")).id, "good")
        assert (votes(world, "vendor-v1"), votes(world, "vendor-v2")) == ((1, 0), (0, 1))
    finally:
        await proven(pod, vendor)


async def test_models_are_listed_and_looked_up(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [COLD, MODEL]
    found = await client.models.retrieve(MODEL)
    assert (found.id, found.owned_by) == (MODEL, NAMESPACE)


async def test_completions_whole_and_streamed(client: openai.AsyncOpenAI, vendor: Version) -> None:
    whole = await client.completions.create(model=MODEL, prompt="from Wonka Ltd", max_tokens=32)
    assert whole.model == MODEL
    assert vendor.mark in whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    parts = [chunk async for chunk in await client.completions.create(model=MODEL, prompt="from Wonka Ltd", max_tokens=32, stream=True)]
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert {part.model for part in parts} == {MODEL}


async def test_chat_whole_and_streamed(client: openai.AsyncOpenAI, vendor: Version) -> None:
    whole = await client.chat.completions.create(model=MODEL, messages=messages())
    assert vendor.mark in str(whole.choices[0].message.content)
    stream = await client.chat.completions.create(model=MODEL, messages=messages(), stream=True, stream_options={"include_usage": True})
    parts = [chunk async for chunk in stream]
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage


async def test_messages_of_several_parts(client: openai.AsyncOpenAI) -> None:
    parts: Any = [{"type": "text", "text": "from "}, {"type": "text", "text": "Wonka Ltd"}]
    answers = [await client.chat.completions.create(model=MODEL, messages=messages(content)) for content in ("from Wonka Ltd", parts)]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


async def test_structured_output_is_parsed(client: openai.AsyncOpenAI) -> None:
    parsed = await client.chat.completions.parse(model=MODEL, messages=messages(), response_format=Invoice)
    assert isinstance(parsed.choices[0].message.parsed, Invoice)
    async with client.chat.completions.stream(model=MODEL, messages=messages(), response_format=Invoice) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed.choices[0].message.parsed


async def test_tool_is_called_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "book"}}
    whole = await client.chat.completions.create(model=MODEL, messages=messages(), tools=[TOOL], tool_choice=choice)
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, list(json.loads(call.function.arguments))) == ("book", ["account"])
    async with client.chat.completions.stream(model=MODEL, messages=messages(), tools=[TOOL], tool_choice=choice) as stream:
        final = await stream.get_final_completion()
    (streamed,) = final.choices[0].message.tool_calls or []
    assert streamed.type == "function"
    assert streamed.function.arguments == call.function.arguments


async def test_responses_whole_streamed_and_parsed(client: openai.AsyncOpenAI, world: World, vendor: Version) -> None:
    whole = await client.responses.create(model=MODEL, input="from Wonka Ltd")
    assert (whole.model, whole.status) == (MODEL, "completed")
    assert vendor.mark in whole.output_text
    assert whole.usage is not None
    async with client.responses.stream(model=MODEL, input="from Wonka Ltd") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert (final.output_text, final.model, final.usage) == (whole.output_text, MODEL, whole.usage)
    parsed = await client.responses.parse(model=MODEL, input="x", text_format=Invoice)
    assert isinstance(parsed.output_parsed, Invoice)
    labels = {"namespace": NAMESPACE, "task_model": "vendor", "revision": "vendor-v1"}
    assert parsed.usage is not None
    assert world.figure("completion_tokens_total", **labels) == 2 * whole.usage.output_tokens + parsed.usage.output_tokens


async def test_responses_call_tools(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", **TOOL["function"], "strict": True}
    answer = await client.responses.create(model=MODEL, input="x", tools=[tool], tool_choice={"type": "function", "name": "book"})
    (call,) = answer.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, list(json.loads(call.arguments))) == ("book", ["account"])


async def test_responses_are_not_stored_and_nobody_is_told_otherwise(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model=MODEL, input="x")
    with pytest.raises(openai.NotFoundError, match="not stored"):
        await client.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError, match="not stored"):
        await client.responses.delete(answer.id)
    with pytest.raises(openai.BadRequestError, match="not stored") as refused:
        await client.responses.create(model=MODEL, input="x", previous_response_id=answer.id)
    assert refused.value.param == "previous_response_id"
    # The conversation itself can be sent instead.
    history: Any = [{"role": "user", "content": "x"}, *(item.model_dump(exclude_none=True) for item in answer.output)]
    assert (await client.responses.create(model=MODEL, input=[*history, {"role": "user", "content": "y"}])).status == "completed"


async def test_what_the_engine_has_no_route_for_is_an_error_that_costs_the_adapter_nothing(client: openai.AsyncOpenAI, pod: Pod) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.embeddings.create(model=MODEL, input="x")
    assert refused.value.code == "unsupported_endpoint"
    # The engine's 404 could be taken for a lost adapter, by which any client could take it from all others.
    assert await pod.phases() == {"vendor-v1": AdapterPhase.PROVEN}
    assert (await client.completions.create(model=MODEL, prompt="x", max_tokens=1)).choices


async def test_embeddings_of_an_embedding_model(tmp_path_factory: pytest.TempPathFactory, registry: RegistryProcess) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    engine = ("--runner", "pooling")
    async with running_pod(folder, registry, TINY_MODEL / "base", uid=OTHER_UID, engine_arguments=engine) as pod:
        made = version(pod, folder, "vectors", "v1", seed=3)
        await proven(pod, made)
        async with (
            running(tokens=PoolTokens(), access=Key()) as world,
            openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, max_retries=0) as client,
        ):
            route(world, "vectors", made, pool="vectors")
            place(world, pod, pool="vectors", uid=OTHER_UID)
            answer = await client.embeddings.create(model=VECTORS, input=["a", "b"])
            assert answer.model == VECTORS
            assert [len(one.embedding) for one in answer.data] == [simulated.DIMENSIONS] * 2
            assert answer.data[0].embedding != answer.data[1].embedding
            raw = await client.embeddings.with_raw_response.create(model=VECTORS, input="a")
            assert (await judge(client, json.loads(raw.text)["id"], "good"))["revision"] == "vectors-v1"
            plain = await client.embeddings.create(model=VECTORS, input="a", encoding_format="float")
            assert plain.data[0].embedding == answer.data[0].embedding
            with pytest.raises(openai.NotFoundError) as refused:
                await client.chat.completions.create(model=VECTORS, messages=messages())
            assert refused.value.code == "unsupported_endpoint"
            assert await pod.phases() == {"vectors-v1": AdapterPhase.PROVEN}


async def test_errors_are_the_sdks_own(client: openai.AsyncOpenAI, world: World) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        await client.with_options(api_key="bad").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="finance/nobody", messages=messages())
    assert (missing.value.code, missing.value.param, missing.value.type) == ("model_not_found", "model", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.chat.completions.create(model=MODEL, messages=messages(), max_tokens=-1)
    assert "max_tokens" in wrong.value.message
    with pytest.raises(openai.InternalServerError) as cold:
        await client.chat.completions.create(model=COLD, messages=messages())
    assert (cold.value.status_code, cold.value.code, cold.value.response.headers["retry-after"]) == (503, "model_unavailable", "5")
    slow: Any = {"extra_body": {"sim": {"delay_ms": 60_000}}, "extra_headers": {"x-taskfleet-timeout-seconds": "0.3"}}
    with pytest.raises(openai.InternalServerError) as late:
        await client.chat.completions.create(model=MODEL, messages=messages(), **slow)
    assert (late.value.status_code, late.value.code) == (504, "upstream_timeout")
    assert late.value.request_id


async def test_sdk_retries_after_429_when_it_is_told_to(client: openai.AsyncOpenAI, world: World) -> None:
    slow: Any = {"sim": {"token_ms": 60_000}}
    stream = await client.completions.create(model=MODEL, prompt="x", stream=True, extra_body=slow)
    with pytest.raises(openai.RateLimitError) as full:
        await client.completions.create(model=MODEL, prompt="x")
    assert (full.value.code, full.value.response.headers["retry-after"]) == ("too_many_requests", "1")
    before = world.figure("errors_total", code="429")
    patient = asyncio.create_task(client.with_options(max_retries=5).completions.create(model=MODEL, prompt="x"))

    async def refused() -> bool:
        return world.figure("errors_total", code="429") > before

    await until(refused, limit=30)
    await stream.close()
    assert (await asyncio.wait_for(patient, 60)).choices


async def test_sdk_retries_after_503_when_it_is_told_to(client: openai.AsyncOpenAI, world: World, pod: Pod) -> None:
    world.table.remove_slice(NAMESPACE, "tiny-x")
    patient = asyncio.create_task(client.with_options(max_retries=1).completions.create(model=MODEL, prompt="x"))

    async def refused() -> bool:
        return world.figure("errors_total", code="503") >= 1

    await until(refused, limit=30)
    place(world, pod)
    assert (await asyncio.wait_for(patient, 60)).choices


async def test_sdk_reads_over_comments_while_it_waits(pod: Pod, vendor: Version) -> None:
    wish: Any = {"extra_headers": {"x-taskfleet-keep-alive": "comments"}, "stream": True}
    async with running(tokens=PoolTokens(), access=Key(), hold_seconds=60, comment_seconds=0.05) as world:
        route(world, "vendor", vendor)
        async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            chat, response = client.chat.completions, client.responses
            streams = [await chat.create(model=MODEL, messages=messages(), **wish), await response.create(model=MODEL, input="x", **wish)]
            assert world.figure("held_requests") == 2
            place(world, pod)
            for stream in streams:
                assert [event async for event in stream]


async def test_deadline_after_comments_is_the_sdks_own_error(vendor: Version) -> None:
    wish: Any = {"extra_headers": {"x-taskfleet-keep-alive": "comments"}, "stream": True}
    async with running(tokens=PoolTokens(), access=Key(), hold_seconds=0.3, comment_seconds=0.05) as world:
        route(world, "vendor", vendor)
        async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            stream = await client.chat.completions.create(model=MODEL, messages=messages(), **wish)
            with pytest.raises(openai.APIError) as late:
                async for _ in stream:
                    pass
            assert late.value.code == "model_unavailable"


async def running_in(pod: Pod) -> float:
    """Requests that the engine itself says it works on."""
    async with aiohttp.ClientSession() as session, session.get(f"{pod.engine_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith("vllm:num_requests_running")))


@pytest.mark.parametrize("stream", [True, False])
async def test_client_that_leaves_ends_the_engines_work(client: openai.AsyncOpenAI, pod: Pod, *, stream: bool) -> None:
    slow: Any = {"sim": {"token_ms": 60_000}}
    asked: Any = asyncio.create_task(client.completions.create(model=MODEL, prompt="x", stream=stream, extra_body=slow))

    async def working() -> bool:
        return await running_in(pod) == 1

    async def idle() -> bool:
        return await running_in(pod) == 0

    await until(working, limit=30)
    if stream:
        await (await asked).close()
    else:
        asked.cancel()
    await until(idle, limit=30)
