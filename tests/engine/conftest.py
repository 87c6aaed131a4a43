"""Engines for tests: one of each kind at a time, shared until a test has killed it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from taskfleet.engines.vllm.client import VllmClient
from tests.engine.running import RunningEngine, settings, start
from tests.unit.artifacts.registry_process import RegistryProcess, running_registry


class EngineShelf:
    """Hands out a living engine of a kind, started anew only where the last one is dead: vLLM takes a minute to start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: dict[str, RunningEngine] = {}

    def living(self, kind: str) -> RunningEngine:
        engine = self._engines.get(kind)
        if engine is None or not engine.alive:
            if engine is not None:
                engine.stop()
            adapters = self._folder / "adapters"
            adapters.mkdir(exist_ok=True)
            self._engines[kind] = start(kind, self._folder, settings(adapters))
        return self._engines[kind]

    def clear(self) -> None:
        for engine in self._engines.values():
            engine.stop()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineShelf]:
    shelf = EngineShelf(tmp_path_factory.mktemp("engines"))
    yield shelf
    shelf.clear()


@pytest.fixture(params=["simulator", pytest.param("vllm", marks=pytest.mark.slow)], scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(shelf: EngineShelf, kind: str) -> RunningEngine:
    return shelf.living(kind)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(session: aiohttp.ClientSession, engine: RunningEngine) -> VllmClient:
    return VllmClient(session, engine.base_url)


@pytest.fixture
def name(request: pytest.FixtureRequest, engine: RunningEngine) -> str:
    """A name and, below the engine's folder, a place for files that no other test uses."""
    stem = request.node.name.partition("[")[0].removeprefix("test_")
    return f"{stem[:60]}.{len(list(engine.adapters.iterdir()))}"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry of the module's own."""
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running
