"""What requests ask of one task at this process: how many are under way, and for how long it had how many. What scaling goes by.

Counted at a request's beginning and end, because looking now and then would miss all that is shorter than the time between two looks.
"""


class Demand:
    """One task. A request is under way from when its caller is known to be allowed until its answer has ended: it waits for a pod (`held`), or is at one."""

    __slots__ = ("_busy", "_since", "arrivals", "held", "last", "under_way", "version")

    def __init__(self) -> None:
        self.under_way = 0
        self.held = 0
        self.arrivals = 0
        self.version = 0  # grows with every change, so that a stream sees what has changed
        self.last: float | None = None  # monotonic: when the last one ended
        self._busy = 0.0  # until `_since`
        self._since = 0.0

    def enter(self, now: float) -> None:
        """A request has come. `now`: monotonic seconds, never less than the time before."""
        self._busy += self.under_way * (now - self._since)
        self._since = now
        self.under_way += 1
        self.arrivals += 1
        self.version += 1

    def leave(self, now: float) -> None:
        """One has ended, however."""
        self._busy += self.under_way * (now - self._since)
        self._since = self.last = now
        self.under_way -= 1
        self.version += 1

    def busy(self, now: float) -> float:
        """The integral of `under_way` over time, in seconds."""
        return self._busy + self.under_way * (now - self._since)
