"""The agent with the real engine: the three tasks of the examples in one pod, and a change of version under a steady load."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from taskfleet.api.agent import AdapterPhase, DesiredAdapter
from tests.engine.adapter_files import BROKEN
from tests.engine.agent_pod import NAMESPACE, Pod, running_pod
from tests.engine.gateway_fleet import PoolTokens, Version, place, route
from tests.engine.running import REPOSITORY, TINY_MODEL
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess
from tests.unit.gateway.world import running

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

LINES = 6
LIMIT = 240.0  # seconds; the engine shares two cores with whatever else runs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory, registry: RegistryProcess) -> AsyncIterator[Pod]:
    async with running_pod(tmp_path_factory.mktemp("pod"), registry, TINY_MODEL / "base", engine_kind="vllm") as pod:
        yield pod


def example(pod: Pod, task: str, version: str) -> DesiredAdapter:
    return pod.adapter(TINY_MODEL / "adapters" / task / version, task, version)


def golden(task: str) -> list[dict[str, object]]:
    lines = (REPOSITORY / "examples" / "golden" / f"{task}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:LINES]]


async def chat(pod: Pod, model: str, messages: object) -> tuple[int, str]:
    body = {"model": model, "messages": messages, "max_tokens": 48, "temperature": 0}
    async with pod.session.post(pod.url + "/v1/chat/completions", json=body, headers=pod.as_gateway()) as answer:
        content = await answer.json()
        return answer.status, content["choices"][0]["message"]["content"] if answer.status == 200 else json.dumps(content)


async def test_three_tasks_answer_rightly_from_one_engine_beside_a_broken_one(pod: Pod, tmp_path_factory: pytest.TempPathFactory) -> None:
    BROKEN["over-rank"](broken := tmp_path_factory.mktemp("broken") / "adapter")
    tasks = {"vendor": example(pod, "vendor", "v1"), "date": example(pod, "date", "v1"), "total": example(pod, "total", "v2")}
    await pod.want(*tasks.values(), pod.adapter(broken, "broken"))
    proven = {f"{task}-{adapter.adapter.version}": AdapterPhase.PROVEN for task, adapter in tasks.items()}
    await pod.reach({**proven, "broken-v1": AdapterPhase.FAILED}, limit=LIMIT)
    for task, adapter in tasks.items():
        lines = golden(task)
        answers = await asyncio.gather(*(chat(pod, adapter.engine_name, line["messages"]) for line in lines))
        assert answers == [(200, line["expected"]) for line in lines], task


async def test_openais_sdk_is_answered_through_the_gateway(pod: Pod) -> None:
    adapter = example(pod, "total", "v2")
    await pod.want(adapter)
    await pod.reach({"total-v2": AdapterPhase.PROVEN}, limit=LIMIT)
    line: Any = golden("total")[0]
    async with running(tokens=PoolTokens()) as world, openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key="x", timeout=LIMIT) as client:
        route(world, "total", Version(adapter, mark=""))
        place(world, pod)
        asked: Any = {"model": f"{NAMESPACE}/total", "messages": line["messages"], "max_tokens": 48, "temperature": 0}
        whole = await client.chat.completions.create(**asked)
        assert (whole.choices[0].message.content, whole.model) == (line["expected"], f"{NAMESPACE}/total")
        parts = [part async for part in await client.chat.completions.create(**asked, stream=True)]
        assert "".join(part.choices[0].delta.content or "" for part in parts) == line["expected"]
        assert {part.model for part in parts} == {f"{NAMESPACE}/total"}
        # The same words as a response: the same answer, by the same adapter.
        asked = {"model": f"{NAMESPACE}/total", "input": line["messages"], "max_output_tokens": 48, "temperature": 0}
        response = await client.responses.create(**asked)
        assert (response.output_text, response.model) == (line["expected"], f"{NAMESPACE}/total")
        async with client.responses.stream(**asked) as stream:
            final = await stream.get_final_response()
        assert (final.output_text, final.usage) == (line["expected"], response.usage)
        with pytest.raises(openai.NotFoundError) as refused:
            await client.embeddings.create(model=f"{NAMESPACE}/total", input="x")
        assert refused.value.code == "unsupported_endpoint"
    assert await pod.phases() == {"total-v2": AdapterPhase.PROVEN}


async def test_change_of_version_under_load_refuses_with_not_here_and_breaks_nothing(pod: Pod) -> None:
    old, new = example(pod, "total", "v1"), example(pod, "total", "v2")
    await pod.want(old)
    await pod.reach({"total-v1": AdapterPhase.PROVEN}, limit=LIMIT)
    codes: list[int] = []
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            code, _ = await chat(pod, old.engine_name, golden("total")[0]["messages"])
            codes.append(code)

    async def answered() -> bool:
        return len(codes) >= 10

    clients = [asyncio.create_task(load()) for _ in range(3)]
    await until(answered, limit=LIMIT)
    await pod.want(old, new)
    await pod.reach({"total-v1": AdapterPhase.PROVEN, "total-v2": AdapterPhase.PROVEN}, limit=LIMIT)
    assert set(codes) == {200}
    await pod.want(new)
    await pod.reach({"total-v2": AdapterPhase.PROVEN}, limit=LIMIT)
    ended.set()
    await asyncio.gather(*clients)
    # What came before the switch was answered, what came after it was sent elsewhere; nothing met a missing adapter.
    assert set(codes) == {200, 421}
    assert pod.staged() == {new.adapter.digest}
    line = golden("total")[0]
    assert await chat(pod, new.engine_name, line["messages"]) == (200, line["expected"])


async def test_killed_core_costs_no_request_that_another_pod_could_answer(pod: Pod) -> None:
    """Last: it ends the engine. Its server goes on answering 500, and its health route yes, for half a second."""
    adapter = example(pod, "vendor", "v1")
    await pod.want(adapter)
    await pod.reach({"vendor-v1": AdapterPhase.PROVEN}, limit=LIMIT)
    codes: list[int] = []
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            code, _ = await chat(pod, adapter.engine_name, golden("vendor")[0]["messages"])
            codes.append(code)

    async def answered() -> bool:
        return len(codes) >= 10

    async def noticed() -> bool:
        return not (await pod.state()).engine.healthy

    clients = [asyncio.create_task(load()) for _ in range(3)]
    await until(answered, limit=LIMIT)
    assert pod.engine is not None
    os.kill(pod.engine.core_process(), signal.SIGKILL)
    await until(noticed, limit=LIMIT)
    ended.set()
    await asyncio.gather(*clients)
    assert {200, 502} <= set(codes) <= {200, 421, 502, 503}
