"""The drain of a pod that nobody uses: the operator asks for it before it scales the pool to zero, so that no request meets a pod that is about to go.

It is apart from `drain`, which follows the pod's own end: neither ends the other.
"""

import logging
import time
from collections.abc import Callable

from taskfleet.agent.flights import Flights
from taskfleet.api.agent import DrainReply, DrainRequest
from taskfleet.logs import fields

log = logging.getLogger(__name__)


class IdleDrain:
    """While it is on, nothing is let in. The pod stays Ready: it lasts for seconds, and is undone where another pod of the pool turns out to be in use."""

    def __init__(self, flights: Flights, clock: Callable[[], float] = time.monotonic) -> None:
        self._flights = flights
        self._clock = clock
        self._until = float("-inf")

    @property
    def on(self) -> bool:
        return self._clock() < self._until

    def ask(self, request: DrainRequest) -> DrainReply:
        """Looks and acts without an await between the two: a request is either counted already, and refuses the drain, or finds it on."""
        idle = self._flights.idle_seconds
        accepted = self._flights.total == 0 and idle >= request.idle_seconds
        if accepted:
            self._until = self._clock() + request.hold_seconds
            log.info("idle, lets nothing in", extra=fields(idle_seconds=round(idle), for_seconds=request.hold_seconds))
        return DrainReply(accepted=accepted, in_flight=self._flights.total, idle_seconds=round(idle, 3))

    def end(self) -> None:
        """Lets requests in again, at once."""
        if self.on:
            log.info("is kept, lets requests in again")
        self._until = float("-inf")
