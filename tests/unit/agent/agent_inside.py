"""The agent's inside, without its door, around an engine in memory: what tests of adapters' lives have in common."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskfleet.agent.base_stage import BaseStage
from taskfleet.agent.board import Board
from taskfleet.agent.desired import DesiredDocument
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.pace import Pace
from taskfleet.agent.residency import Surroundings
from taskfleet.agent.residents import Residents
from taskfleet.agent.staging import Staging
from taskfleet.api.agent import AdapterPhase, AdapterReport, DesiredAdapter, Limits
from taskfleet.artifacts import base_model
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.base_model import BaseShapes
from taskfleet.artifacts.errors import ArtifactError
from taskfleet.artifacts.store import Shelf, Store
from tests.unit.agent.builders import document, no_peers
from tests.unit.agent.scripted_engine import ScriptedEngine
from tests.unit.artifacts.model_files import write_adapter, write_base

PACE = Pace(health=0.01, look=0.01, first_retry=0.01, last_retry=0.02, settle=0.1)
NAME = "finance.vendor.1"


class LocalStaging(Staging):
    """Adapters come from a folder instead of a registry, after the errors that a test wants first."""

    def __init__(self, store: Store, access: Access, source: Path) -> None:
        super().__init__(store, access, no_peers(), seconds=10.0, patience=10.0)
        self.source = source
        self.trouble: list[ArtifactError] = []

    async def adapter(self, desired: DesiredAdapter, shapes: BaseShapes, limits: Limits) -> Path:  # noqa: ARG002
        def fill(folder: Path, _most: int) -> None:
            if self.trouble:
                raise self.trouble.pop(0)
            for path in self.source.iterdir():
                (folder / path.name).write_bytes(path.read_bytes())

        return await self.store.ensure(
            Shelf.ADAPTERS, self.digest(desired), fill, check=lambda _folder: None, most=limits.max_adapter_bytes
        )


@dataclass
class Stage:
    """The agent's inside without its door."""

    engine: ScriptedEngine
    watch: EngineWatch
    residents: Residents
    board: Board
    flights: Flights
    staging: LocalStaging
    metrics: AgentMetrics
    generation: int = 0

    def want(self, *names: str) -> None:
        self.generation += 1
        self.residents.follow(document(self.generation, *names))

    def report(self, name: str = NAME) -> AdapterReport | None:
        return next((report for report in self.board.adapters if report.engine_name == name), None)

    async def reach(self, phase: AdapterPhase | None, name: str = NAME) -> AdapterReport | None:
        """Waits until the adapter is in a phase; None: gone."""
        await within(lambda: (None if (report := self.report(name)) is None else report.phase) == phase, lambda: str(self.board.adapters))
        return self.report(name)

    def staged(self) -> list[str]:
        return self.staging.store.digests(Shelf.ADAPTERS)


async def within(condition: Callable[[], bool], explain: Callable[[], str] = lambda: "") -> None:
    try:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  (many things may make it true)
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"never came true: {explain()}")


@asynccontextmanager
async def running_stage(folder: Path, pace: Pace = PACE, engine: ScriptedEngine | None = None) -> AsyncIterator[Stage]:
    """All of it, running, with a base that is staged."""
    engine, flights = engine or ScriptedEngine(), Flights()
    board = Board("pod", flights)
    metrics = AgentMetrics(board)
    store = Store(folder / "store")
    store.prepare()
    source = write_adapter(folder / "source")
    staging = LocalStaging(store, Access(credentials_directory=folder), source)
    watch = EngineWatch(engine, board, pace)
    base = BaseStage(DesiredDocument(folder), staging, board, pace, folder)
    base.shapes = base_model.verify(write_base(folder / "base"))
    async with asyncio.TaskGroup() as tasks:
        surroundings = Surroundings(
            staging=staging,
            base=base,
            engine=engine,
            watch=watch,
            flights=flights,
            board=board,
            metrics=metrics,
            pace=pace,
            engine_slots=asyncio.Semaphore(4),
            demand_slots=asyncio.Semaphore(4),
        )
        residents = Residents(surroundings, tasks)
        watch.on_change, watch.on_models = residents.kick, residents.compare
        watching = tasks.create_task(watch.run())
        yield Stage(engine, watch, residents, board, flights, staging, metrics)
        watching.cancel()
        residents.cancel()
