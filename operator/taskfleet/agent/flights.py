"""Counts requests in flight, by model, exactly: a drain and an unload wait for them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Flights:
    """For one event loop. A request that was let in is counted in the same step, with no await between, so none slips by a drain that looks at the count."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._landed = asyncio.Event()
        self.total = 0

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
