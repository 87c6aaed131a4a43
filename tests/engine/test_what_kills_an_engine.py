"""What kills an engine, and how that looks from outside: the simulator and the real vLLM alike. Each test ends the engine that it gets, so this file runs last."""

import os
import signal

import aiohttp
import pytest

from taskfleet.engines import errors
from taskfleet.engines.vllm.client import VllmClient
from tests.engine.adapter_files import write_adapter
from tests.engine.running import BASE_NAME, RunningEngine
from tests.engine.waiting import until

# Seconds. An engine whose core died was seen to end within two on an idle machine.
END_LIMIT = 90


async def exit_code(engine: RunningEngine) -> int:
    async def ended() -> bool:
        return not engine.alive

    await until(ended, limit=END_LIMIT)
    return engine.process.wait()


async def failure(client: VllmClient, name: str) -> errors.EngineError | None:
    try:
        await client.probe(name)
    except errors.EngineError as error:
        return error
    return None


async def test_files_deleted_under_a_listed_adapter_kill_the_engine_for_everybody(
    client: VllmClient, engine: RunningEngine, name: str
) -> None:
    victim = write_adapter(engine.adapters / name)
    await client.load(name, str(victim))
    for path in victim.iterdir():
        path.unlink()
    victim.rmdir()
    await client.probe(name)  # still in memory
    for number in range(5):  # more than memory holds
        other = f"{name}.{number}"
        await client.load(other, str(write_adapter(engine.adapters / other, seed=number)))
    with pytest.raises((errors.EngineDeadError, errors.OutcomeUnknownError)):
        await client.probe(name)
    assert not await client.health()
    # Neighbours and base die with it; once the process is gone, nobody answers the door.
    assert isinstance(await failure(client, BASE_NAME), errors.EngineDeadError | errors.OutcomeUnknownError | errors.EngineUnreachableError)
    assert await exit_code(engine) == 0
    assert isinstance(await failure(client, BASE_NAME), errors.EngineUnreachableError)


async def test_killed_core_ends_the_engine_with_exit_code_0(client: VllmClient, engine: RunningEngine) -> None:
    await client.probe(BASE_NAME)
    os.kill(engine.core_process(), signal.SIGKILL)

    async def unwell() -> bool:
        return not await client.health()

    await until(unwell, limit=END_LIMIT)
    assert isinstance(await failure(client, BASE_NAME), errors.EngineDeadError | errors.OutcomeUnknownError | errors.EngineUnreachableError)
    # Kubernetes must restart the container all the same: restartPolicy Always.
    assert await exit_code(engine) == 0


async def test_killed_server_is_unreachable_and_breaks_its_streams(
    session: aiohttp.ClientSession, client: VllmClient, engine: RunningEngine
) -> None:
    # vLLM ignores `sim` and needs some seconds for 400 tokens; the simulator has fewer tokens and takes its time for each.
    question = {"model": BASE_NAME, "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True, "sim": {"token_ms": 500}}
    async with session.post(f"{engine.base_url}/v1/completions", json=question) as response:
        assert response.status == 200
        await response.content.readany()
        engine.process.kill()
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            await response.read()
    assert not await client.health()
    with pytest.raises(errors.EngineUnreachableError):
        await client.models()
