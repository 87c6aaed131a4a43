"""What the simulator offers beyond the real engine: answers that tell whose they are, slots that can be watched, faults on demand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from taskfleet.engines import errors
from taskfleet.engines.vllm.client import Timeouts, VllmClient
from tests.engine.adapter_files import write_adapter
from tests.engine.running import BASE_NAME, RunningEngine, settings, start
from tests.engine.simulator.schema import simplest
from tests.engine.simulator.slots import Slots
from tests.engine.waiting import until


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """An engine that takes a tenth of a second for each token, with two adapters in a batch."""
    folder = tmp_path_factory.mktemp("slow")
    engine = start("simulator", folder, settings(folder), "--sim-token-seconds=0.1")
    yield engine
    engine.stop()


@pytest.fixture
def engine(slow: RunningEngine) -> RunningEngine:
    return slow


async def ask(session: aiohttp.ClientSession, engine: RunningEngine, model: str, **more: object) -> dict[str, Any]:
    async with session.post(
        f"{engine.base_url}/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 20, **more}
    ) as response:
        answer: dict[str, Any] = await response.json()
        return {"status": response.status, **answer}


async def cause(session: aiohttp.ClientSession, engine: RunningEngine, **faults: object) -> None:
    async with session.post(f"{engine.base_url}/sim/faults", json=faults) as response:
        assert response.status == 200


async def test_answers_tell_which_bytes_answered(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, tmp_path: Path
) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 2), ("a-again", 1)):
        await client.load(name, str(write_adapter(tmp_path / name, seed=seed)))
        texts.append((await ask(session, engine, name))["choices"][0]["text"])
    base = (await ask(session, engine, BASE_NAME))["choices"][0]["text"]
    assert texts[0] == texts[2] != texts[1]
    assert base.startswith("base ")
    assert all(text.startswith("adapter ") for text in texts)


async def test_adapters_beyond_the_batch_wait_their_turn(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        await client.load(name, str(write_adapter(tmp_path / name)))
    running = [asyncio.create_task(ask(session, engine, name)) for name in ("one", "two")]

    async def both_run() -> bool:
        async with session.get(f"{engine.base_url}/metrics") as response:
            return f'vllm:num_requests_running{{engine="0",model_name="{BASE_NAME}"}} 2\n' in await response.text()

    await until(both_run, limit=30)
    third = asyncio.create_task(ask(session, engine, "three"))
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    assert not third.done()
    assert (await third)["status"] == 200
    await asyncio.gather(*running)


async def test_forgotten_adapter_is_gone_without_a_word(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, tmp_path: Path
) -> None:
    await client.load("forgotten", str(write_adapter(tmp_path / "forgotten")))
    await cause(session, engine, forget=["forgotten"])
    with pytest.raises(errors.ModelNotServedError):
        await client.probe("forgotten")


async def test_lost_reply_of_a_load_hides_a_success(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "lost")
    await cause(session, engine, lose_load_replies=1)
    with pytest.raises(errors.OutcomeUnknownError):
        await client.load("lost", str(path))
    assert "lost" in {model.name for model in await client.models()}
    await client.load("lost", str(path))


async def test_load_goes_on_when_its_client_is_gone_and_generation_does_not(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    engine = start("simulator", tmp_path, settings(tmp_path), "--sim-load-seconds=1", "--sim-token-seconds=60")
    try:
        hasty, patient = VllmClient(session, engine.base_url, Timeouts(change=0.2, probe=0.2)), VllmClient(session, engine.base_url)
        with pytest.raises(errors.OutcomeUnknownError):
            await hasty.load("late", str(write_adapter(tmp_path / "late")))

        async def loaded() -> bool:
            return "late" in {model.name for model in await patient.models()}

        await until(loaded, limit=30)
        generation = asyncio.create_task(ask(session, engine, "late"))

        async def running(count: int) -> bool:
            async with session.get(f"{engine.base_url}/metrics") as response:
                return f'vllm:num_requests_running{{engine="0",model_name="{BASE_NAME}"}} {count}\n' in await response.text()

        await until(lambda: running(1), limit=30)
        generation.cancel()
        await until(lambda: running(0), limit=30)
    finally:
        engine.stop()


async def test_request_can_ask_for_trouble(session: aiohttp.ClientSession, engine: RunningEngine) -> None:
    assert (await ask(session, engine, BASE_NAME, sim={"code": 503}))["status"] == 503
    assert (await ask(session, engine, BASE_NAME, sim={"answer": "42"}))["choices"][0]["text"] == "42"
    with pytest.raises(aiohttp.ClientPayloadError):
        async with session.post(
            f"{engine.base_url}/v1/completions", json={"model": BASE_NAME, "prompt": "x", "stream": True, "sim": {"break_after": 1}}
        ) as response:
            await response.read()


@contextlib.asynccontextmanager
async def holding(slots: Slots, *adapters: str | None) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for adapter in adapters:
            await stack.enter_async_context(slots.take(adapter))
        yield


async def occupy(slots: Slots, adapter: str | None, done: list[str | None]) -> None:
    async with slots.take(adapter):
        done.append(adapter)


async def test_running_adapters_and_the_base_pass_a_waiting_one() -> None:
    slots, done = Slots(sequences=8, adapters=2), list[str | None]()
    async with holding(slots, "a", "b"):
        waiting = asyncio.create_task(occupy(slots, "c", done))
        await asyncio.sleep(0)
        assert slots.waiting == 1
        await occupy(slots, "a", done)
        await occupy(slots, None, done)
        assert done == ["a", None]
    await waiting
    assert done == ["a", None, "c"]
    assert (slots.running, slots.waiting) == (0, 0)


async def test_who_leaves_while_waiting_takes_no_slot() -> None:
    slots, done = Slots(sequences=1, adapters=1), list[str | None]()
    async with holding(slots, "a"):
        leaving = asyncio.create_task(occupy(slots, "a", done))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    await occupy(slots, "b", done)
    assert done == ["b"]
    assert slots.running == 0


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}, {"a": "x"}),
        ({"type": "array", "items": {"enum": ["k"]}, "minItems": 2}, ["k", "k"]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["number", "null"], "minimum": 3}, 3),
        ({"const": 7}, 7),
    ],
)
def test_simplest_instance(schema: object, value: object) -> None:
    assert simplest(schema) == value
