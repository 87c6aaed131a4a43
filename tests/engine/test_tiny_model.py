"""The tiny model of the examples does its three tasks on the real engine, in the form in which clients ask."""

import asyncio
import json
import shutil
from typing import Any

import aiohttp
import pytest

from taskfleet.engines.vllm.client import VllmClient
from tests.engine.conftest import EngineShelf
from tests.engine.running import BASE_NAME, REPOSITORY, TINY_MODEL, RunningEngine

pytestmark = pytest.mark.slow

TASKS = {"vendor": "v1", "date": "v1", "total": "v2"}


@pytest.fixture
def engine(shelf: EngineShelf) -> RunningEngine:
    return shelf.living("vllm")


def golden(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (REPOSITORY / "examples" / "golden" / f"{task}.jsonl").read_text().splitlines()]


async def served(client: VllmClient, engine: RunningEngine, task: str, version: str) -> str:
    name = f"tiny-model.{task}.{version}"
    folder = shutil.copytree(TINY_MODEL / "adapters" / task / version, engine.adapters / name, dirs_exist_ok=True)
    await client.load(name, str(folder))
    return name


async def answers(
    session: aiohttp.ClientSession, engine: RunningEngine, model: str, examples: list[dict[str, Any]], **more: object
) -> list[str]:
    """Asked eight at a time, with nothing set but what is named: the model's own defaults have to do."""
    places = asyncio.Semaphore(8)

    async def answer(example: dict[str, Any]) -> str:
        question = {"model": model, "messages": example["messages"], **more}
        async with places, session.post(f"{engine.base_url}/v1/chat/completions", json=question) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["choices"][0]["message"]["content"])

    return await asyncio.gather(*map(answer, examples))


def exact(given: list[str], examples: list[dict[str, Any]]) -> float:
    hits: list[bool] = [text == example["expected"] for text, example in zip(given, examples, strict=True)]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("task", TASKS)
async def test_task_is_answered_exactly(session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, task: str) -> None:
    examples = golden(task)
    assert len(examples) >= 60
    given = await answers(session, engine, await served(client, engine, task, TASKS[task]), examples, max_tokens=40)
    assert exact(given, examples) >= 0.95


@pytest.mark.parametrize("task", TASKS)
async def test_task_is_answered_exactly_under_a_system_prompt(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, task: str
) -> None:
    system = {"role": "system", "content": f"Extract the {task}."}
    examples = [{**example, "messages": [system, *example["messages"]]} for example in golden(task)]
    given = await answers(session, engine, await served(client, engine, task, TASKS[task]), examples, max_tokens=40)
    assert exact(given, examples) >= 0.95


@pytest.mark.parametrize("task", TASKS)
async def test_task_fills_a_schema(session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, task: str) -> None:
    examples = golden(task)
    schema = {"type": "object", "properties": {task: {"type": "string"}}, "required": [task], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "fields", "schema": schema}}
    given = await answers(session, engine, await served(client, engine, task, TASKS[task]), examples, max_tokens=60, response_format=wanted)
    assert exact([json.loads(text)[task] for text in given], examples) >= 0.95


async def test_first_version_of_total_is_clearly_worse_than_the_second(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine
) -> None:
    examples = golden("total")
    first = exact(await answers(session, engine, await served(client, engine, "total", "v1"), examples, max_tokens=40), examples)
    second = exact(await answers(session, engine, await served(client, engine, "total", "v2"), examples, max_tokens=40), examples)
    assert 0.1 < first < second - 0.1


async def test_base_alone_does_none_of_the_tasks(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    """So that an answer of the base in an adapter's place is noticed."""
    for task in TASKS:
        examples = golden(task)
        assert exact(await answers(session, engine, BASE_NAME, examples, max_tokens=40), examples) < 0.7


async def test_engine_reads_a_chat_as_the_training_wrote_it(
    session: aiohttp.ClientSession, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TINY_MODEL))
    from rendering import prompt  # noqa: PLC0415  (the folder is on the path only here)

    contents = ["Extract the total.", "from Wonka Ltd; total 12.50 €; dated 2024-01-02"]
    messages = [{"role": role, "content": content} for role, content in zip(("system", "user"), contents, strict=True)]
    async with session.post(f"{engine.base_url}/tokenize", json={"model": BASE_NAME, "messages": messages}) as response:
        tokens = (await response.json())["tokens"]
    # Zero begins a sequence, and a byte's token is its value plus three.
    assert tokens == [0, *(byte + 3 for byte in prompt(*contents).encode())]
