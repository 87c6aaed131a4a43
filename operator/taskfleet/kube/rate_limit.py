"""A token bucket, so that one process can't crowd out others at the API server."""

import time
from collections.abc import Callable


class RateLimit:
    """At most `burst` requests at once and `qps` a second over time. Whoever comes first goes first."""

    def __init__(self, *, qps: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._qps = qps
        self._burst = burst
        self._clock = clock
        # The time at which the bucket would be full again; each request pushes it by 1/qps.
        self._full_at = clock()

    def reserve(self) -> float:
        """Takes a place, and says in how many seconds it is due."""
        now = self._clock()
        self._full_at = max(self._full_at, now) + 1 / self._qps
        return max(0.0, self._full_at - now - self._burst / self._qps)
