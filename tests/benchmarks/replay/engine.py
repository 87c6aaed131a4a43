"""The pods of the replay: engines with slots that write slower the more requests they have at once, start late, and drain before they go."""

import heapq
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from tests.benchmarks.replay.trace import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What an engine takes. `token_seconds`: seconds per token of each request by the number of requests that run at once, in rising order."""

    token_seconds: tuple[tuple[int, float], ...]
    prompt_token_seconds: float
    slots: int
    cold_start_seconds: float

    def token(self, running: int) -> float:
        """Seconds per token with so many at once: on the line between the two nearest of the table."""
        return _between(self.token_seconds, running)

    def work(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Seconds that a request of this size takes on an engine of its own."""
        return prompt_tokens * self.prompt_token_seconds + answer_tokens * self.token(1)


class State(Enum):
    """Where a pod is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # gets no new requests, finishes those that it has


@dataclass(slots=True)
class Flight:
    """A request on its way. `started`: when it left the last queue."""

    request: Request
    started: float = -1.0
    ended: float = -1.0

    @property
    def wait(self) -> float:
        """Seconds from its coming until an engine began with it."""
        return self.started - self.request.at


@dataclass(slots=True)
class Pod:
    """One engine. Requests that run share its speed: `_progress` is how far one of them has come since the pod's beginning, in seconds of an engine of its own."""

    number: int
    timings: Timings
    created: float
    state: State = State.STARTING
    version: int = 0  # grows with every change that moves the end of its requests
    _running: list[tuple[float, int, Flight]] = field(default_factory=list)
    _queue: deque[Flight] = field(default_factory=deque)
    _progress: float = 0.0
    _seen: float = 0.0
    _order: int = 0

    @property
    def address(self) -> str:
        return f"pod-{self.number}"

    @property
    def load(self) -> int:
        """Requests that it has, running or queued."""
        return len(self._running) + len(self._queue)

    def take(self, flight: Flight, now: float) -> None:
        """Begin with a request, or queue it where all slots are taken."""
        self._advance(now)
        self._queue.append(flight)
        self._fill(now)

    def finish(self, now: float) -> Flight:
        """End the request that is due, at the moment that `due` told."""
        self._advance(now)
        _, _, flight = heapq.heappop(self._running)
        flight.ended = now
        self._fill(now)
        return flight

    def due(self) -> float | None:
        """When the next of its requests ends if no other comes; None where none runs."""
        if not self._running:
            return None
        return self._seen + max(0.0, self._running[0][0] - self._progress) / self._speed()

    def _fill(self, now: float) -> None:
        while self._queue and len(self._running) < self.timings.slots:
            flight = self._queue.popleft()
            flight.started = now
            self._order += 1
            work = self.timings.work(flight.request.prompt_tokens, flight.request.answer_tokens)
            heapq.heappush(self._running, (self._progress + work, self._order, flight))

    def _advance(self, now: float) -> None:
        self.version += 1
        if self._running:
            self._progress += (now - self._seen) * self._speed()
        self._seen = now

    def _speed(self) -> float:
        return self.timings.token(1) / self.timings.token(len(self._running))


@lru_cache(maxsize=4096)
def _between(table: tuple[tuple[int, float], ...], at: int) -> float:
    """The table's value at this place; beyond its last two entries, on their line."""
    index = min(max(1, bisect_left(table, (at, 0.0))), len(table) - 1)
    (low, at_low), (high, at_high) = table[index - 1], table[index]
    return at_low + (at_high - at_low) * (at - low) / (high - low)
