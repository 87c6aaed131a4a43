"""Who may run now: at most so many sequences, of at most so many distinct adapters; the others wait in the order of their coming."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """vLLM's scheduler as seen from outside. A request whose adapter finds no slot is passed over by later ones whose adapter already runs."""

    def __init__(self, *, sequences: int, adapters: int) -> None:
        self._sequences = sequences
        self._adapters = adapters
        self._running: Counter[str | None] = Counter()
        self._waiting: list[tuple[str | None, asyncio.Future[None]]] = []

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def take(self, adapter: str | None) -> AsyncIterator[None]:
        """Hold a slot for a sequence of this adapter (None: the base), waiting for it where needed."""
        if not self._fits(adapter):
            await self._wait(adapter)
        else:
            self._running[adapter] += 1
        try:
            yield
        finally:
            self._leave(adapter)

    async def _wait(self, adapter: str | None) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((adapter, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(adapter)  # admitted in the moment of leaving: the slot is given on
            else:
                self._waiting.remove((adapter, place))
            raise

    def _leave(self, adapter: str | None) -> None:
        self._running[adapter] -= 1
        if not self._running[adapter]:
            del self._running[adapter]
        for entry in list(self._waiting):
            if not entry[1].done() and self._fits(entry[0]):
                self._waiting.remove(entry)
                self._running[entry[0]] += 1
                entry[1].set_result(None)

    def _fits(self, adapter: str | None) -> bool:
        if self._running.total() >= self._sequences:
            return False
        return adapter is None or adapter in self._running or len(self._running.keys() - {None}) < self._adapters
