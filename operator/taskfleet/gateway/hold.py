"""Requests that wait for a pod: how many may, and what wakes them.

Bounded in all, per namespace and per task, so that neither a cold task, nor a tenant with many broken ones, nor an outage can collect requests without limit; each of
them also has a deadline.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from taskfleet.gateway.errors import UnavailableError
from taskfleet.gateway.records import Key

RETRY_AFTER = 5  # seconds; what a client is told that found no place, or waited in vain


class Changes:
    """Announces changes of the routes to whoever waits at that moment."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        """Wakes everybody who waits."""
        if self._event.is_set():
            return
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seconds: float) -> None:
        """Returns at the next change, or after `seconds`."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return


class Hold:
    """Counts the places."""

    def __init__(self, *, total: int, per_namespace: int, per_task: int) -> None:
        self._total = total
        self._per_namespace = per_namespace
        self._per_task = per_task
        self._held: Counter[Key] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._count = 0

    @property
    def count(self) -> int:
        """Requests that wait now."""
        return self._count

    @contextmanager
    def place(self, task: Key) -> Iterator[None]:
        """A place for the time of the block, also when the client leaves. Raises UnavailableError where none is free."""
        namespace, _ = task
        if self._count >= self._total or self._of_namespace[namespace] >= self._per_namespace or self._held[task] >= self._per_task:
            raise UnavailableError("No pod can answer now, and too many requests wait already", code="queue_full", retry_after=RETRY_AFTER)
        self._count += 1
        self._held[task] += 1
        self._of_namespace[namespace] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._held[task] -= 1
            if not self._held[task]:
                del self._held[task]
            self._of_namespace[namespace] -= 1
            if not self._of_namespace[namespace]:
                del self._of_namespace[namespace]
