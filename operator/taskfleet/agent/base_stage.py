"""Brings the base model into the pod, before the engine starts."""

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path

from taskfleet.agent import signs
from taskfleet.agent.board import Board
from taskfleet.agent.desired import DesiredDocument
from taskfleet.agent.pace import Pace
from taskfleet.agent.staging import Staging
from taskfleet.api.agent import BaseReport, DesiredState, Limits
from taskfleet.api.conditions import Reason
from taskfleet.artifacts.base_model import BaseShapes
from taskfleet.artifacts.errors import ArtifactError
from taskfleet.event_wait import set_within
from taskfleet.logs import fields

log = logging.getLogger(__name__)


class BaseStage:
    """`shapes` is None until the base is staged; a pool's base never changes, so what is staged stays."""

    def __init__(self, document: DesiredDocument, staging: Staging, board: Board, pace: Pace, run_folder: Path) -> None:
        self._document = document
        self._staging = staging
        self._board = board
        self._pace = pace
        self._sign = run_folder / signs.BASE_READY
        self._changed = asyncio.Event()
        self._failures = 0
        self._refused: tuple[str, Limits] | None = None
        self.shapes: BaseShapes | None = None
        self.on_staged: Callable[[], None] = lambda: None

    def kick(self) -> None:
        """The document in force has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Returns once the base is staged."""
        while self.shapes is None:
            self._changed.clear()
            wait = await self._attempt()
            if self.shapes is None:
                await set_within(self._changed, wait)

    async def _attempt(self) -> float | None:
        """Seconds until the next attempt; None: not before the document changes."""
        desired = self._document.current
        if desired is None or desired.base_digest is None:
            self._board.report_base(BaseReport(staged=False, reason=Reason.RESOLVING, message="the base's digest is being looked up"))
            return None
        if self._refused == (desired.base_digest, desired.limits):
            return None
        if not self._failures:
            self._board.report_base(BaseReport(staged=False, reason=Reason.LOADING, message="the base is being fetched and verified"))
        try:
            base = desired.base.model_copy(update={"revision": desired.base_resolved_version or desired.base.revision})
            self.shapes = await self._staging.base(base, desired.base_digest, desired.limits)
        except ArtifactError as error:
            return self._object(error, desired, desired.base_digest)
        self._sign.touch()
        log.info("base is staged", extra=fields(source=desired.base.source, digest=desired.base_digest))
        self._board.report_base(BaseReport(staged=True, reason=Reason.VALID))
        self.on_staged()
        return None

    def _object(self, error: ArtifactError, desired: DesiredState, digest: str) -> float | None:
        self._failures += 1
        log.warning("base can't be staged", extra=fields(source=desired.base.source, reason=error.reason, error=str(error)))
        self._board.report_base(BaseReport(staged=False, reason=error.reason, message=str(error)))
        if error.permanent:
            self._refused = (digest, desired.limits)
            return None
        return self._pace.retry(self._failures, random.random())  # noqa: S311  (spreads retries; no secret)
