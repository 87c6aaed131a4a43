"""The way out: the engine's preStop asks through a file, and waits for the answer in another one.

The kubelet runs preStop also when it restarts the engine alone, after failed liveness probes: then the pod goes on living, and both files go when the new engine is healthy.
"""

import asyncio
import logging
import time
from pathlib import Path

from taskfleet.agent import signs
from taskfleet.agent.board import Board
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.flights import Flights
from taskfleet.agent.idle_drain import IdleDrain
from taskfleet.agent.pace import Pace
from taskfleet.logs import fields

log = logging.getLogger(__name__)


class Drain:
    """While it is on, requests are answered with 421, so that the gateway asks another pod."""

    def __init__(
        self, *, folder: Path, flights: Flights, idle: IdleDrain, board: Board, watch: EngineWatch, pace: Pace, seconds: float
    ) -> None:
        self._asked = folder / signs.DRAIN
        self._done = folder / signs.DRAINED
        self._flights = flights
        self._idle = idle
        self._board = board
        self._watch = watch
        self._pace = pace
        self._seconds = seconds
        self._stopping = False
        self.since = float("inf")  # the moment (monotonic clock) at which the pod, as far as it is known, began to go

    @property
    def on(self) -> bool:
        """Is nothing to be let in, for whichever reason?"""
        return self._board.draining or self._idle.on

    def prepare(self) -> None:
        """Removes an answer without a question: it would answer the next preStop before anything has drained."""
        if not self._asked.exists():
            self._done.unlink(missing_ok=True)

    async def run(self) -> None:
        # An agent that was restarted in the middle of a drain must not take the engine that it finds for a new one.
        await self._watch.looked_once.wait()
        while True:
            if self._asked.exists():
                await self._drain()
            await asyncio.sleep(self._pace.drain)

    async def stop(self) -> None:
        """The agent itself is to end: lets nothing in any more, and waits for what is in flight, within the limit."""
        self._stopping = True
        self.since = min(self.since, time.monotonic())
        self._board.report_draining(draining=True)
        await self._landed()

    async def _drain(self) -> None:
        starts = self._watch.starts
        self.since = time.monotonic()
        log.info("draining", extra=fields(in_flight=self._flights.total))
        self._board.report_draining(draining=True)
        await self._landed()
        self._done.touch()
        log.info("drained")
        await self._watch.started_after(starts)
        # The question first: if we end between the two, `prepare` removes the answer, while a question left alone would be taken for a new one.
        self._asked.unlink(missing_ok=True)
        self._done.unlink(missing_ok=True)
        log.info("the engine was restarted and the pod goes on")
        self.since = float("inf")
        self._board.report_draining(draining=self._stopping)

    async def _landed(self) -> None:
        try:
            # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with the last landing.
            async with asyncio.timeout(self._seconds):
                await self._flights.none()
        except TimeoutError:
            log.warning("requests in flight are given up", extra=fields(in_flight=self._flights.total, seconds=self._seconds))
