"""Counts requests in flight, by model, exactly: a drain and an unload wait for them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Flights:
    """For one event loop. A request that was let in is counted in the same step, with no await between, so none slips by a drain that looks at the count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._landed = asyncio.Event()
        self._idle_since = clock()
        self.total = 0

    @property
    def idle_seconds(self) -> float:
        """How long nothing has been in flight: since the last request ended, or since the start, as of the time before nothing is known."""
        return 0.0 if self.total else self._clock() - self._idle_since

    def count(self, model: str) -> int:
        """Requests of one model."""
        return self._counts.get(model, 0)

    @contextmanager
    def flight(self, model: str) -> Iterator[None]:
        """One request, from being let in to its end, however it ends."""
        self._counts[model] = self.count(model) + 1
        self.total += 1
        try:
            yield
        finally:
            self.total -= 1
            self._idle_since = self._clock()
            if left := self._counts[model] - 1:
                self._counts[model] = left
            else:
                del self._counts[model]
            self._landed.set()
            self._landed = asyncio.Event()

    async def none_of(self, model: str) -> None:
        """Returns when the model has no request in flight."""
        while self.count(model):
            await self._landed.wait()

    async def none(self) -> None:
        """Returns when there is no request in flight at all."""
        while self.total:
            await self._landed.wait()
