"""Notices that a version stands for other bytes at its source than those that were recorded for it.

Nothing follows from it in the pod: files are fetched by their digest, and what serves goes on. It is reported, because whoever moved the version believes that the new bytes serve.
"""

import asyncio
import logging
import random

from taskfleet.agent.board import Board
from taskfleet.agent.pace import Pace
from taskfleet.agent.staging import Staging
from taskfleet.api.agent import DesiredAdapter, DesiredState
from taskfleet.artifacts.errors import ArtifactError
from taskfleet.logs import fields

log = logging.getLogger(__name__)


class VersionWatch:
    """Looks at all adapters of the document in force: when the agent has started, and then every `Pace.version` seconds."""

    def __init__(self, staging: Staging, board: Board, pace: Pace) -> None:
        self._staging = staging
        self._board = board
        self._pace = pace
        self._adapters: tuple[DesiredAdapter, ...] = ()
        self._begun = asyncio.Event()

    def follow(self, document: DesiredState) -> None:
        """Takes up a document. What is new in it was looked up a moment ago, so it waits for its turn."""
        self._adapters = document.adapters
        if document.adapters:
            self._begun.set()

    async def run(self) -> None:
        await self._begun.wait()
        while True:
            for adapter in self._adapters:
                await self._look(adapter)
            # Spread, so that the pods of a fleet don't ask a registry all at once.
            await asyncio.sleep(self._pace.version * random.uniform(0.8, 1.2))  # noqa: S311  no secret

    async def _look(self, adapter: DesiredAdapter) -> None:
        try:
            now = await self._staging.standing(adapter.adapter)
        except ArtifactError as error:
            # Whether the source can be read matters to who fetches from it, and is told then.
            log.debug("version not looked at", extra=fields(adapter=adapter.engine_name, error=str(error)))
            return
        moved = now if now not in {None, adapter.adapter.digest} else None
        if moved is not None:
            about = {"source": adapter.adapter.source, "version": adapter.adapter.version}
            log.warning("version stands for other bytes now", extra=fields(adapter=adapter.engine_name, digest=moved, **about))
        if adapter in self._adapters:
            self._board.report_upstream(adapter.engine_name, moved)
