"""Watches the engine beside: is it healthy, was it restarted, which models does it serve?"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from taskfleet.agent.board import Board
from taskfleet.agent.pace import Pace
from taskfleet.api.agent import EngineReport
from taskfleet.engines.base import EngineClient, LoadedModel
from taskfleet.engines.errors import EngineError
from taskfleet.event_wait import set_within
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# One missed answer may be an engine that is busy for a moment; closing the door on every request for it would turn slowness into an outage.
MISSES = 2


class EngineWatch:
    """`starts` counts how often the engine was seen to become healthy; a listing of models is passed on with the moment at which it was asked for."""

    def __init__(self, client: EngineClient, board: Board, pace: Pace) -> None:
        self._client = client
        self._board = board
        self._pace = pace
        self._poke = asyncio.Event()
        self._missed = 0
        self._looked = float("-inf")
        self.healthy = False
        self.starts = 0
        self.looked_once = asyncio.Event()
        self._started = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None
        self.on_models: Callable[[Sequence[LoadedModel], float], None] = lambda _models, _asked: None

    def suspect(self) -> None:
        """Look now, without waiting for the next turn: a request has met something odd."""
        self._looked = float("-inf")
        self._poke.set()

    async def run(self) -> None:
        while True:
            self._poke.clear()
            await self.look()
            await set_within(self._poke, self._pace.health if self.starts else self._pace.start)

    async def started_after(self, starts: int) -> None:
        """Returns when the engine has become healthy once more than `starts` times."""
        while self.starts <= starts:
            await self._started.wait()

    async def survives(self, seconds: float) -> bool:
        """Is it healthy, and still so after `seconds`? For a request that has met something odd."""
        if not await self._client.health():
            return False
        await asyncio.sleep(seconds)
        return await self._client.health()

    async def look(self) -> None:
        """One turn: health, and the models when the last listing is old."""
        self._judge(answered=await self._client.health())
        self.looked_once.set()
        asked = time.monotonic()
        if not self.healthy or asked - self._looked < self._pace.look:
            return
        try:
            models = await self._client.models()
        except EngineError as error:
            log.warning("engine's models can't be listed", extra=fields(error=str(error)))
            return
        self._looked = asked
        self.on_models(models, asked)

    def _judge(self, *, answered: bool) -> None:
        self._missed = 0 if answered else self._missed + 1
        healthy = answered or (self.healthy and self._missed < MISSES)
        if healthy == self.healthy:
            return
        self.healthy = healthy
        if healthy:
            self.starts += 1
            self._looked = float("-inf")
            self._started.set()
            self._started = asyncio.Event()
        log.log(
            logging.INFO if healthy else logging.WARNING,
            "engine is healthy" if healthy else "engine does not answer",
            extra=fields(starts=self.starts),
        )
        self._board.report_engine(EngineReport(healthy=healthy, starts=self.starts))
        self.on_change()
