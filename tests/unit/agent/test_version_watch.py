"""What the agent tells of versions that were given other bytes at their source."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.agent.pace import Pace
from taskfleet.agent.staging import Staging
from taskfleet.agent.version_watch import VersionWatch
from taskfleet.api.agent import AdapterPhase, AdapterReport
from taskfleet.api.taskmodel import Adapter
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.errors import ArtifactError, SourceUnavailable
from taskfleet.artifacts.store import Store
from tests.unit.agent.builders import DIGEST, document, no_peers

NAME, OTHER = "finance.vendor.1", "sha256:" + "f" * 64


class SaidStaging(Staging):
    """The source's words, one for each time that it is asked; the last one stays."""

    def __init__(self, folder: Path, *words: str | ArtifactError | None) -> None:
        super().__init__(Store(folder), Access(credentials_directory=folder), no_peers(), seconds=10.0, patience=10.0)
        self.words = list(words)

    async def standing(self, adapter: Adapter) -> str | None:  # noqa: ARG002
        word = self.words.pop(0) if len(self.words) > 1 else self.words[0]
        if isinstance(word, ArtifactError):
            raise word
        return word


@asynccontextmanager
async def watched(tmp_path: Path, *words: str | ArtifactError | None) -> AsyncIterator[tuple[VersionWatch, Board, SaidStaging]]:
    board = Board("pod", Flights())
    board.report_adapter(AdapterReport(engine_name=NAME, revision="r", phase=AdapterPhase.PROVEN, reason="Proven"))
    staging = SaidStaging(tmp_path, *words)
    watch = VersionWatch(staging, board, replace(Pace(), version=0.001))
    running = asyncio.create_task(watch.run())
    try:
        yield watch, board, staging
    finally:
        running.cancel()


async def told(board: Board, digest: str | None) -> None:
    async with asyncio.timeout(10):
        version = -1
        while (state := await board.newer_than(version, seconds=10)).adapters[0].upstream_digest != digest:
            version = state.version


async def test_moved_version_is_told_and_taken_back_when_it_returns(tmp_path: Path) -> None:
    async with watched(tmp_path, DIGEST, OTHER) as (watch, board, source):
        watch.follow(document(1, NAME))
        await told(board, OTHER)
        source.words[:] = [DIGEST]
        await told(board, None)


async def test_source_that_cannot_be_read_or_has_no_such_version_tells_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path, SourceUnavailable("no route"), None, OTHER) as (watch, board, _):
        before = board.version
        watch.follow(document(1, NAME))
        await told(board, OTHER)
        assert board.version == before + 1


async def test_adapter_that_is_gone_takes_its_news_along(tmp_path: Path) -> None:
    async with watched(tmp_path, OTHER) as (watch, board, _):
        watch.follow(document(1, NAME))
        await told(board, OTHER)
        watch.follow(document(2))
        board.drop_adapter(NAME)
        board.report_adapter(AdapterReport(engine_name=NAME, revision="r", phase=AdapterPhase.STAGING, reason="Loading"))
        assert board.state().adapters[0].upstream_digest is None
