"""Takes the time of the pod's start, step by step, for whoever wants starts to be shorter."""

from collections.abc import Callable
from datetime import UTC, datetime

from taskfleet.agent.board import Board
from taskfleet.agent.residents import Residents
from taskfleet.api.agent import StartReport

# What changes without a word on the board is noticed after so long.
_LOOK_SECONDS = 0.5


class Startup:
    """Reports once, when the last step is done. The moments are the node's own time, which the kubelet's are too: only together they say how long an image was pulled."""

    def __init__(self, *, board: Board, residents: Residents, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._board = board
        self._residents = residents
        self._now = now

    async def run(self) -> None:
        """Returns once the pod has come up, or is about to end."""
        agent = self._now()
        base = await self._when(lambda: self._board.base.staged)
        engine = await self._when(lambda: self._board.engine.healthy)
        adapters = await self._when(self._residents.settled)
        if not self._board.closed:
            self._board.report_start(StartReport(agent_at=agent, base_at=base, engine_at=engine, adapters_at=adapters))

    async def _when(self, has_come: Callable[[], bool]) -> datetime:
        while not has_come() and not self._board.closed:
            await self._board.newer_than(self._board.version, seconds=_LOOK_SECONDS)
        return self._now()
