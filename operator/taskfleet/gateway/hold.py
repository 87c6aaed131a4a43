"""Requests that wait for a pod: how many may, whose turn it is where there is no room for all, and what wakes them.

Bounded in all, per namespace and per task, so that neither a cold task, nor a tenant with many broken ones, nor an outage can collect requests without limit; each of
them also has a deadline. Within the bounds room is shared: where all places of a namespace, or of the replica, are taken, a newcomer of a smaller task, or of a smaller
namespace, gets the place of the youngest request of the largest one. So three tenants whose pools are all down keep no fourth out.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from taskfleet.gateway.errors import QueueFullError
from taskfleet.gateway.records import Key

RETRY_AFTER = 5  # seconds; what a client is told that found no place, or waited in vain


class HeldReason(StrEnum):
    """Why a request waits; told in a header and in metrics."""

    NO_ROUTE = "no-route"  # no revision of the task has traffic yet
    COLD_START = "cold-start"  # no pod of its pool is Ready
    NO_POD_HAS_IT = "no-pod-has-it"  # pods are Ready, and none has proven the adapter
    PODS_FAIL = "pods-fail"  # pods are Ready, and did not take it: no connection, draining, an engine that is down


class Held:
    """One request's place."""

    def __init__(self, task: Key) -> None:
        self.task = task
        self._displaced = False
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Returns at the next change in the task's namespace, or after `seconds`. Raises QueueFullError where the place was given to somebody else."""
        if not self._displaced:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self.wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._displaced:
            raise QueueFullError("No pod can answer now, and others that wait less needed the place", retry_after=RETRY_AFTER)

    def wake(self) -> None:
        """Lets it look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def displace(self) -> None:
        """Its place is somebody else's."""
        self._displaced = True
        self.wake()


class Hold:
    """The places of this replica."""

    def __init__(self, *, total: int, per_namespace: int, per_task: int) -> None:
        self._total = total
        self._per_namespace = per_namespace
        self._per_task = per_task
        # Dictionaries as sets that know who came last.
        self._held: defaultdict[str, dict[Key, dict[Held, None]]] = defaultdict(dict)
        self._of_namespace: Counter[str] = Counter()
        self._count = 0

    @property
    def count(self) -> int:
        """Requests that wait now."""
        return self._count

    def of_task(self, task: Key) -> int:
        """Those of one task."""
        return len(self._held[task[0]].get(task, ())) if task[0] in self._held else 0

    def wake(self, namespace: str) -> None:
        """Something has changed in the namespace: whoever waits for a task of it looks again."""
        for places in self._held[namespace].values() if namespace in self._held else ():
            for held in places:
                held.wake()

    @contextmanager
    def place(self, task: Key) -> Iterator[Held]:
        """A place for the time of the block, also when the client leaves. Raises QueueFullError where none is free for this task."""
        self._make_room(task)
        held = Held(task)
        self._held[task[0]].setdefault(task, {})[held] = None
        self._of_namespace[task[0]] += 1
        self._count += 1
        try:
            yield held
        finally:
            self._remove(held)

    def _make_room(self, task: Key) -> None:
        namespace = task[0]
        if self.of_task(task) >= self._per_task or not self._per_namespace or not self._total:
            raise _full()
        if self._of_namespace[namespace] >= self._per_namespace:
            self._displace_within(task)
        if self._count >= self._total:
            largest = max(self._of_namespace, key=self._of_namespace.__getitem__)
            if self._of_namespace[largest] > self._of_namespace[namespace] + 1:
                self._displace(self._largest_task(largest))
            else:
                self._displace_within(task)

    def _displace_within(self, task: Key) -> None:
        """For a task that is smaller than the largest of its namespace, and will be: otherwise two would take each other's places for ever."""
        if self.of_task(task) == self._of_namespace[task[0]]:
            raise _full()
        largest = self._largest_task(task[0])
        if self.of_task(largest) <= self.of_task(task) + 1:
            raise _full()
        self._displace(largest)

    def _displace(self, task: Key) -> None:
        youngest = next(reversed(self._held[task[0]][task]))
        self._remove(youngest)
        youngest.displace()

    def _largest_task(self, namespace: str) -> Key:
        tasks = self._held[namespace]
        return max(tasks, key=lambda task: len(tasks[task]))

    def _remove(self, held: Held) -> None:
        namespace, task = held.task[0], held.task
        places = self._held.get(namespace, {}).get(task, {})
        if held not in places:
            return  # it was displaced
        del places[held]
        self._count -= 1
        self._of_namespace[namespace] -= 1
        # No entry is left of who is gone: their number must not grow with everybody who ever came.
        if not places:
            del self._held[namespace][task]
        if not self._of_namespace[namespace]:
            del self._of_namespace[namespace], self._held[namespace]


def _full() -> QueueFullError:
    return QueueFullError("No pod can answer now, and too many requests wait already", retry_after=RETRY_AFTER)
