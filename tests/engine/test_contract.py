"""What the driver relies on, asked of the simulator and of the real vLLM alike. A row that only one of them passes is a defect of the simulator, or news about vLLM."""

import asyncio
import ipaddress
import json
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

from taskfleet.engines import errors
from taskfleet.engines.base import LoadedModel
from taskfleet.engines.vllm.client import Timeouts, VllmClient
from tests.engine.adapter_files import BROKEN, write_adapter
from tests.engine.process_facts import listening_addresses
from tests.engine.running import BASE_NAME, TINY_MODEL, RunningEngine
from tests.engine.waiting import until

LINE = "from Wonka Ltd; total 12.50 EUR; dated 2024-01-02; no R1234"


async def names(client: VllmClient) -> set[str]:
    return {model.name for model in await client.models()}


async def load_new(client: VllmClient, engine: RunningEngine, name: str, seed: int = 0) -> Path:
    path = write_adapter(engine.adapters / name, seed=seed)
    await client.load(name, str(path))
    return path


async def test_running_engine_is_healthy_and_lists_its_base(client: VllmClient) -> None:
    assert await client.health()
    assert LoadedModel(name=BASE_NAME, root=str(TINY_MODEL / "base"), parent=None) in await client.models()


def test_engine_and_its_processes_listen_on_loopback_only(engine: RunningEngine) -> None:
    listening = listening_addresses(engine.process.pid)
    assert ("127.0.0.1", int(engine.base_url.rpartition(":")[2])) in listening
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in listening), listening


async def test_base_proves_itself(client: VllmClient) -> None:
    await client.probe(BASE_NAME)


async def test_loaded_adapter_is_listed_with_its_files_and_proves_itself(client: VllmClient, engine: RunningEngine, name: str) -> None:
    path = await load_new(client, engine, name)
    assert LoadedModel(name=name, root=str(path), parent=BASE_NAME) in await client.models()
    await client.probe(name)


async def test_loading_twice_from_the_same_files_is_fine(client: VllmClient, engine: RunningEngine, name: str) -> None:
    path = await load_new(client, engine, name)
    await client.load(name, str(path))
    assert [model.root for model in await client.models() if model.name == name] == [str(path)]


async def test_name_in_use_is_never_given_to_other_files(client: VllmClient, engine: RunningEngine, name: str) -> None:
    path = await load_new(client, engine, name)
    other = write_adapter(engine.adapters / f"{name}.other", seed=1)
    with pytest.raises(errors.NameTakenError):
        await client.load(name, str(other))
    assert [model.root for model in await client.models() if model.name == name] == [str(path)]


async def test_base_name_is_never_given_to_an_adapter(client: VllmClient, engine: RunningEngine, name: str) -> None:
    path = write_adapter(engine.adapters / name)
    with pytest.raises(errors.NameTakenError):
        await client.load(BASE_NAME, str(path))


async def test_files_that_come_late_are_loaded_when_asked_again(client: VllmClient, engine: RunningEngine, name: str) -> None:
    with pytest.raises(errors.AdapterFilesMissingError):
        await client.load(name, str(engine.adapters / name))
    await load_new(client, engine, name)
    await client.probe(name)


async def test_empty_folder_counts_as_files_not_there_yet(client: VllmClient, engine: RunningEngine, name: str) -> None:
    (engine.adapters / name).mkdir()
    with pytest.raises(errors.AdapterFilesMissingError):
        await client.load(name, str(engine.adapters / name))


@pytest.mark.parametrize("way", BROKEN)
async def test_broken_adapter_is_invalid_for_good_and_harms_nobody(client: VllmClient, engine: RunningEngine, name: str, way: str) -> None:
    neighbour = f"{name}.{way}.neighbour"
    await load_new(client, engine, neighbour)
    broken = engine.adapters / f"{name}.{way}"
    BROKEN[way](broken)
    with pytest.raises(errors.AdapterInvalidError):
        await client.load(broken.name, str(broken))
    assert broken.name not in await names(client)
    assert await client.health()
    await client.probe(neighbour)


async def test_empty_name_is_refused_as_our_mistake(client: VllmClient, engine: RunningEngine, name: str) -> None:
    with pytest.raises(errors.RequestRefusedError):
        await client.load("", str(write_adapter(engine.adapters / name)))


async def test_unloaded_adapter_is_gone(client: VllmClient, engine: RunningEngine, name: str) -> None:
    await load_new(client, engine, name)
    await client.unload(name)
    assert name not in await names(client)
    with pytest.raises(errors.ModelNotServedError):
        await client.probe(name)


async def test_unloading_what_is_not_there_is_fine(client: VllmClient, name: str) -> None:
    await client.unload(name)
    await client.unload(name)


async def test_unloaded_name_can_be_loaded_again(client: VllmClient, engine: RunningEngine, name: str) -> None:
    path = await load_new(client, engine, name)
    await client.unload(name)
    await client.load(name, str(path))
    await client.probe(name)


async def test_more_adapters_than_fit_in_memory_all_answer(client: VllmClient, engine: RunningEngine, name: str) -> None:
    many = [f"{name}.{number}" for number in range(8)]
    for seed, one in enumerate(many):
        await load_new(client, engine, one, seed)
    assert set(many) <= await names(client)
    for one in many:
        await client.probe(one)


async def test_more_adapters_at_once_than_a_batch_holds_all_answer(client: VllmClient, engine: RunningEngine, name: str) -> None:
    several = [f"{name}.{number}" for number in range(4)]
    for seed, one in enumerate(several):
        await load_new(client, engine, one, seed)
    await asyncio.gather(*(client.probe(one) for one in several * 3))


async def test_late_reply_leaves_the_outcome_unknown_until_looked_at(
    session: aiohttp.ClientSession, engine: RunningEngine, name: str
) -> None:
    path = write_adapter(engine.adapters / name)
    hasty = VllmClient(session, engine.base_url, Timeouts(change=0.5))
    os.kill(engine.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(errors.OutcomeUnknownError):
            await hasty.load(name, str(path))
    finally:
        os.kill(engine.process.pid, signal.SIGCONT)
    await VllmClient(session, engine.base_url).load(name, str(path))
    assert [model.root for model in await hasty.models() if model.name == name] == [str(path)]


async def test_stopped_engine_is_not_healthy(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    os.kill(engine.process.pid, signal.SIGSTOP)
    try:
        assert not await VllmClient(session, engine.base_url, Timeouts(health=0.5)).health()
    finally:
        os.kill(engine.process.pid, signal.SIGCONT)


async def ask(session: aiohttp.ClientSession, engine: RunningEngine, route: str, **body: object) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{engine.base_url}/v1/{route}", json=body) as response:
        return response.status, await response.json()


async def stream(session: aiohttp.ClientSession, engine: RunningEngine, route: str, **body: object) -> list[dict[str, Any]]:
    """The chunks of a stream, which has to end as streams end."""
    async with session.post(f"{engine.base_url}/v1/{route}", json={**body, "stream": True}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        events = [event.removeprefix("data: ") for event in (await response.text()).split("\n\n") if event]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_chat_answers_under_the_name_that_was_asked_and_counts_its_tokens(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, name: str
) -> None:
    await load_new(client, engine, name)
    status, answer = await ask(session, engine, "chat/completions", model=name, messages=user(LINE), max_tokens=5, temperature=0)
    assert (status, answer["model"], answer["object"]) == (200, name, "chat.completion")
    assert [choice["message"]["role"] for choice in answer["choices"]] == ["assistant"]
    used = answer["usage"]
    assert used["completion_tokens"] in range(1, 6)
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    # A byte of the prompt is a token, beside one that begins it: the line, and what the chat template adds.
    assert used["prompt_tokens"] == 1 + len(f"{LINE} => ")


async def test_max_tokens_ends_an_answer(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    question = {"model": BASE_NAME, "messages": user(f"date? {LINE}"), "max_tokens": 2, "temperature": 0}
    _, answer = await ask(session, engine, "chat/completions", **question)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


async def test_streamed_chat_says_the_same_in_pieces(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    question = {"model": BASE_NAME, "messages": user(f"date? {LINE}"), "max_tokens": 12, "temperature": 0}
    _, whole = await ask(session, engine, "chat/completions", **question)
    chunks = await stream(session, engine, "chat/completions", **question)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert {chunk["model"] for chunk in chunks} == {BASE_NAME}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any(chunk.get("usage") for chunk in chunks)


async def test_streamed_completion_says_the_same_in_pieces(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    question = {"model": BASE_NAME, "prompt": f"date? {LINE} => ", "max_tokens": 12, "temperature": 0}
    _, whole = await ask(session, engine, "completions", **question)
    chunks = await stream(session, engine, "completions", **question)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert {chunk["object"] for chunk in chunks} == {whole["object"]} == {"text_completion"}


async def test_usage_of_a_stream_comes_last_and_alone_where_asked_for(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    question = {"model": BASE_NAME, "messages": user(f"date? {LINE}"), "max_tokens": 6, "temperature": 0}
    _, whole = await ask(session, engine, "chat/completions", **question)
    chunks = await stream(session, engine, "chat/completions", **question, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [chunks[-1]["usage"][count] for count in counted] == [whole["usage"][count] for count in counted]
    assert not any(chunk.get("usage") for chunk in chunks[:-1])


async def test_structured_output_follows_its_schema(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "fields", "schema": schema}}
    question = {"model": BASE_NAME, "messages": user(f"total? {LINE}"), "response_format": wanted, "temperature": 0, "max_tokens": 120}
    status, answer = await ask(session, engine, "chat/completions", **question)
    assert status == 200
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), schema)


@pytest.mark.parametrize("route", ["chat/completions", "completions"])
async def test_unknown_model_is_404_in_openai_shape(session: aiohttp.ClientSession, engine: RunningEngine, route: str) -> None:
    status, answer = await ask(session, engine, route, model="nobody", messages=user("x"), prompt="x")
    assert status == 404
    assert (answer["error"]["type"], answer["error"]["code"]) == ("NotFoundError", 404)
    assert "nobody" in answer["error"]["message"]


async def test_request_without_a_model_is_answered_by_the_base(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    # Why whoever stands before an engine must refuse such a request.
    status, answer = await ask(session, engine, "chat/completions", messages=user("x"), max_tokens=1)
    assert (status, answer["model"]) == (200, BASE_NAME)


async def test_prompt_beyond_the_context_is_refused_at_once(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    status, answer = await ask(session, engine, "chat/completions", model=BASE_NAME, messages=user("x" * 600), max_tokens=5)
    assert status == 400
    assert "maximum context length" in answer["error"]["message"]


async def test_broken_json_is_400_in_openai_shape(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    headers = {"content-type": "application/json"}
    async with session.post(f"{engine.base_url}/v1/chat/completions", data=b'{"model": ', headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == 400


async def test_metrics_count_tokens_of_all_adapters_under_the_base(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, name: str
) -> None:
    await load_new(client, engine, name)

    async def counted(metric: str) -> float:
        async with session.get(f"{engine.base_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{metric}{{") and f'model_name="{BASE_NAME}"' in line
        )

    before = await counted("vllm:generation_tokens_total")
    _, answer = await ask(session, engine, "completions", model=name, prompt=LINE, max_tokens=3, temperature=0)
    generated: int = answer["usage"]["completion_tokens"]

    async def published() -> bool:
        return bool(await counted("vllm:generation_tokens_total") == before + generated)

    await until(published, limit=30)  # vLLM publishes its counts a moment after the answer
    assert await counted("vllm:request_success_total") >= 1
    assert await counted("vllm:num_requests_running") == 0
