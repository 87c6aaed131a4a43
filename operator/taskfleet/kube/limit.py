"""A token bucket, so that a burst of ours never takes the API server's attention from others."""

import asyncio
import time
from collections.abc import Callable


class RateLimit:
    """At most `burst` calls at once and `rate` a second in the long run; waiting callers are served in their order."""

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    async def acquire(self) -> None:
        """Returns when the call may be made."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        # A negative count is the queue's length: each waiter sleeps until its own token exists.
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
