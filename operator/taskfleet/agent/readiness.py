"""Is the pod Ready? Readiness is the pod's, residency is the adapter's: a broken adapter takes no neighbour down, and one that is added later makes no Ready pod unready."""

import asyncio
import contextlib
from collections.abc import Callable

from taskfleet.agent.base_stage import BaseStage
from taskfleet.agent.board import Board
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.residents import Residents

# The kubelet asks every other second. Until the pod has come up it is answered with yes as soon as that is true, or with no after so long: well within its patience of 2 s, and
# nearly always it is waiting when the moment comes.
PROBE_SECONDS = 1.5
# Not all that readiness depends on is told by the board.
_LOOK_SECONDS = 0.1


class Readiness:
    """Becomes true once per run of the engine, when every adapter wanted at that time has had its attempt; ends with the engine, or with a drain."""

    def __init__(self, *, base: BaseStage, watch: EngineWatch, residents: Residents, board: Board) -> None:
        self._base = base
        self._watch = watch
        self._residents = residents
        self._board = board
        self._settled_in_run: int | None = None

    async def engine_answers(self) -> bool:
        """Does the engine answer its health route? For the kubelet, which looks at readiness only after it has been told so once."""
        if not self._watch.starts:
            await self._within_a_probe(lambda: self._watch.healthy)
        return self._watch.healthy

    async def objection_to_probe(self) -> str | None:
        """The same as `objection`, for the kubelet."""
        if self._settled_in_run is None and not self._board.draining:
            await self._within_a_probe(lambda: self.objection() is None)
        return self.objection()

    def objection(self) -> str | None:
        """Why the pod is not Ready; None if it is."""
        if self._board.draining:
            return "draining"
        if self._base.shapes is None:
            return "the base is not staged"
        if not self._watch.healthy:
            return "the engine is not healthy"
        if self._settled_in_run != self._watch.starts:
            if not self._residents.settled():
                return "adapters are being loaded for the first time"
            self._settled_in_run = self._watch.starts
        return None

    async def _within_a_probe(self, has_come: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                while not has_come() and not self._board.closed:
                    await self._board.newer_than(self._board.version, seconds=_LOOK_SECONDS)
