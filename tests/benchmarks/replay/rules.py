"""What a rule for the number of replicas sees and answers. Each rule that is compared has a module of its own beside this one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class TaskDemand:
    """What a gateway counts of one task. `busy_seconds`: the integral over time of held + in flight."""

    held: int = 0
    in_flight: int = 0
    arrivals: int = 0
    busy_seconds: float = 0.0
    seen: float = 0.0
    last_request: float | None = None

    def advance(self, now: float) -> None:
        """Bring `busy_seconds` up to now; before each change of what is counted."""
        asked = self.held + self.in_flight
        self.busy_seconds += asked * (now - self.seen)
        self.seen = now
        if asked:
            self.last_request = now


@dataclass(slots=True)
class Demand:
    """All tasks together, and each that ever had a request."""

    total: TaskDemand = field(default_factory=TaskDemand)
    tasks: dict[int, TaskDemand] = field(default_factory=dict)

    def advance(self, now: float) -> None:
        self.total.advance(now)
        for task in self.tasks.values():
            task.advance(now)

    def count(self, task: int, now: float, *, held: int = 0, in_flight: int = 0, arrivals: int = 0) -> None:
        """So many more, or fewer, from now on."""
        for counted in (self.total, self.tasks.setdefault(task, TaskDemand(seen=now))):
            counted.advance(now)
            counted.held += held
            counted.in_flight += in_flight
            counted.arrivals += arrivals
            if arrivals:
                counted.last_request = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a rule may look at. `replicas`: as it was written last; pods that drain are no part of it, and of none of the counts of pods."""

    now: float  # seconds since the beginning
    replicas: int
    ready: int
    starting: int
    demand: Demand

    @property
    def asked(self) -> int:
        """Requests now, held and at pods."""
        return self.demand.total.held + self.demand.total.in_flight


class Rule(Protocol):
    """Decides on replicas. It may keep what it saw; a new one is made for each replay."""

    @property
    def name(self) -> str: ...

    @property
    def interval(self) -> float:
        """Seconds until the next look, from the last one on."""

    @property
    def wakes_after(self) -> float | None:
        """In how many seconds a request that finds no replicas makes it look; None: it waits for the next look."""

    def replicas(self, seen: Observation) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the user asks for, the same for all rules."""

    concurrency: int  # requests per replica that are aimed at
    most: int  # replicas
    tasks: Mapping[int, str]


class Window:
    """The mean number of requests over the last seconds, from a counter that grows by one a second for each of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._points: list[tuple[float, float]] = [(0.0, 0.0)]

    def mean(self, now: float, busy_seconds: float) -> float:
        """Over the window that ends now; over what there is where it is younger. To be asked in the order of time."""
        self._points.append((now, busy_seconds))
        while len(self._points) > 2 and self._points[1][0] <= now - self._seconds:
            self._points.pop(0)
        since, before = self._points[0]
        return (busy_seconds - before) / (now - since) if now > since else 0.0
