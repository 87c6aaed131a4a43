"""The keyed work queue: each key once, one worker per key at a time, failures with growing pauses.

Keys that are due are taken from the tenants in turn, and no tenant has all the workers: five hundred broken objects of one make nobody else wait. Of one tenant, what many wait
for has every other turn (`is_shared`): fifty tasks of a pool that change their versions at once wait for the pool, and would otherwise stand before it.
Neither kind starves the other.

A key that is added while it is worked on is worked on once more afterwards, so nothing that happened meanwhile is missed. Events carry no content: a worker looks at the
cache when its turn comes, so fifty edits cost as much as the last one.
"""

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from taskfleet.controller import metrics
from taskfleet.event_wait import set_within

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 120.0


class RetryError(Exception):
    """A key's work failed, for a reason that was told already; it is tried again after a pause. `least_seconds` is the shortest one."""

    def __init__(self, message: str, *, least_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.least_seconds = least_seconds


def pause_seconds(failures: int, *, spread: float) -> float:
    """The pause after the `failures`-th failure in a row, from 1. `spread` in [0, 1) is the jitter: keys that failed together don't come back together."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 20), LONGEST_PAUSE_SECONDS)) * (0.75 + 0.5 * spread)


@dataclass(slots=True)
class _Entry:
    """One key that is due, waiting or being worked on."""

    due: float  # monotonic time; `inf` while nothing is asked
    ticket: int = 0  # of the newest place in the heap; older places are void
    working_since: float | None = None
    failures: int = 0


@dataclass(slots=True)
class _Due(Generic[K]):
    """What is due of one tenant: of each kind first come, first served, and the kinds in turn."""

    shared: deque[tuple[int, K]] = field(default_factory=deque)
    others: deque[tuple[int, K]] = field(default_factory=deque)
    others_turn: bool = False

    def __bool__(self) -> bool:
        return bool(self.shared or self.others)

    def pop(self) -> tuple[int, K]:
        takes_other = bool(self.others) and (self.others_turn or not self.shared)
        self.others_turn = not takes_other
        return (self.others if takes_other else self.shared).popleft()


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """`work` does one key and returns in how many seconds it wants to be called again (None: not by itself).

    Nothing is kept before `start`: whoever starts adds all keys that exist.
    """

    work: Callable[[K], Awaitable[float | None]]
    kind_of: Callable[[K], str]
    text_of: Callable[[K], str] = str
    tenant_of: Callable[[K], Hashable] = lambda _: None
    is_shared: Callable[[K], bool] = lambda _: False
    workers: int = 8
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    _entries: dict[K, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, int, K]] = field(default_factory=list)
    # Those whose time has come, by tenant; the tenant whose turn is next comes first.
    _due: "OrderedDict[Hashable, _Due[K]]" = field(default_factory=OrderedDict)
    _in_work: Counter[Hashable] = field(default_factory=Counter)
    _tickets: "itertools.count[int]" = field(default_factory=itertools.count)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _started: bool = False
    _stopping: bool = False

    def start(self) -> None:
        """Begins to work. Keys are accepted from now on."""
        self._started = True
        self._running = [asyncio.create_task(self._serve(), name=f"worker {number}") for number in range(self.workers)]

    def add(self, key: K, *, after: float = 0.0) -> None:
        """Asks for `key` to be worked on, in `after` seconds at the latest. A failing key that something happened to is tried at once."""
        if not self._started or self._stopping:
            return
        due = self.clock() + after
        entry = self._entries.setdefault(key, _Entry(due=float("inf")))
        if due < entry.due:
            entry.due = due
            entry.ticket = next(self._tickets)
            # A key in work gets its place when that is done, so that it has one worker at a time.
            if entry.working_since is None:
                self._push(key, entry)

    async def stop(self, *, grace_seconds: float) -> None:
        """Takes no more keys, lets those in work finish within `grace_seconds`, then cancels them."""
        self._stopping = True
        self._changed.set()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def halt(self) -> None:
        """Cancels all work at once: whoever lost the right to write must not finish a thought."""
        self._stopping = True
        for task in self._running:
            task.cancel()

    def depths(self) -> Mapping[str, int]:
        """Keys that are due or in work, by kind; later ones are not counted."""
        now = self.clock()
        counts: dict[str, int] = {}
        for key, entry in self._entries.items():
            if entry.working_since is not None or entry.due <= now:
                counts[self.kind_of(key)] = counts.get(self.kind_of(key), 0) + 1
        return counts

    @property
    def idle(self) -> bool:
        """Is nothing due or in work?"""
        return not self.depths()

    def longest_wait(self) -> float:
        """Seconds that the oldest key has been due or worked on; what liveness looks at."""
        now = self.clock()
        return max((now - (entry.working_since or entry.due) for entry in self._entries.values()), default=0.0)

    def dead_workers(self) -> int:
        """Workers that ended although nobody stopped them."""
        return 0 if self._stopping else sum(task.done() for task in self._running)

    async def _serve(self) -> None:
        while (key := await self._next()) is not None:
            entry = self._entries[key]
            tenant = self.tenant_of(key)
            self._in_work[tenant] += 1
            entry.working_since = self.clock()
            entry.due = float("inf")
            try:
                again = await self._attempt(key, entry)
                if again is not None:
                    self.add(key, after=again)
            finally:
                entry.working_since = None
                self._in_work[tenant] -= 1
                if not self._in_work[tenant]:
                    del self._in_work[tenant]
            if entry.due != float("inf"):
                self._push(key, entry)
            elif entry.failures == 0:
                del self._entries[key]

    async def _attempt(self, key: K, entry: _Entry) -> float | None:
        began = self.clock()
        result = "done"
        try:
            again = await self.work(key)
            entry.failures = 0
            return again
        except RetryError as error:
            result = "retry"
            return max(self._failed(entry), error.least_seconds)
        except Exception:
            result = "error"
            log.exception("reconciling failed, %s %s is tried again", self.kind_of(key), self.text_of(key))
            return self._failed(entry)
        finally:
            metrics.RECONCILE_SECONDS.labels(self.kind_of(key), result).observe(self.clock() - began)

    def _failed(self, entry: _Entry) -> float:
        entry.failures += 1
        return pause_seconds(entry.failures, spread=self.jitter())

    async def _next(self) -> K | None:
        """The next key that is due; None when the queue stops."""
        while not self._stopping:
            now = self.clock()
            while self._heap and self._heap[0][0] <= now:
                _, ticket, key = heapq.heappop(self._heap)
                due = self._due.setdefault(self.tenant_of(key), _Due())
                (due.shared if self.is_shared(key) else due.others).append((ticket, key))
            if (found := self._take()) is not None:
                return found
            self._changed.clear()
            wait = self._heap[0][0] - now if self._heap else None
            await set_within(self._changed, wait)
        return None

    def _take(self) -> K | None:
        """A key of the tenant whose turn it is, among those that don't have their share of the workers already."""
        share = max(1, self.workers - self.workers // 4)
        for tenant in list(self._due):
            if self._in_work[tenant] >= share:
                continue
            waiting = self._due.pop(tenant)
            while waiting:
                ticket, key = waiting.pop()
                entry = self._entries.get(key)
                if entry is None or entry.ticket != ticket or entry.working_since is not None:
                    continue
                if waiting:
                    self._due[tenant] = waiting  # behind all others
                return key
        return None

    def _push(self, key: K, entry: _Entry) -> None:
        heapq.heappush(self._heap, (entry.due, entry.ticket, key))
        self._changed.set()
