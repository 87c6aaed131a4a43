"""Does anybody watch over the candidates? Without a supervisor nothing stops a bad one, so candidates then get no requests at all, and the stable revisions answer.

There is one while the operator reads this replica's measurements (`measurement_stream`), or did not long ago, and while the routes are heard of: a withdrawn candidate
must not live on in a replica that the news does not reach.
"""

import asyncio
import logging
from collections.abc import Callable

from taskfleet.api.measurements import UNSUPERVISED_SECONDS
from taskfleet.logs import fields

log = logging.getLogger(__name__)


def never() -> float:
    """The time of what has not happened."""
    return float("-inf")


class Supervision:
    """`active` is what requests look at. `clock` is monotonic, in seconds; `routes_heard` is the time at which the API server told last that the routes are up to date."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = never()
        self.routes_heard: Callable[[], float] = never
        self.active = False

    def told(self) -> None:
        """The operator was told of measurements."""
        self._told = self._clock()
        self.check()

    def check(self) -> None:
        """Looks at the clock."""
        now = self._clock()
        silent, stale = now - self._told, now - self.routes_heard()
        active = silent <= UNSUPERVISED_SECONDS and stale <= UNSUPERVISED_SECONDS
        if active != self.active:
            self.active = active
            if active:
                log.info("candidates are supervised")
            else:
                why = "the operator reads no measurements" if silent > stale else "the API server tells nothing of the routes"
                log.warning("candidates get no requests", extra=fields(why=why))

    async def watch(self, *, interval: float = 1.0) -> None:
        """Looks at the clock for ever."""
        while True:
            await asyncio.sleep(interval)
            self.check()
