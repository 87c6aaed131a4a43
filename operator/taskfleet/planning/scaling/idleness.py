"""May the last pod go? Only if every task of the pool is known to have been idle for as long as it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.replicas import TaskScaling


class Since(StrEnum):
    """What a task's idle time counts from."""

    REQUEST = "from its last request"
    READY = "from when a pod was Ready"
    HEARD = "from when all gateways were heard"


@dataclass(frozen=True, slots=True)
class Idleness:
    """In how many seconds all will have been idle long enough, 0 where they are, and the task that it takes longest."""

    seconds: float = 0.0
    task: str = ""
    since: Since = Since.REQUEST


@dataclass(frozen=True, slots=True)
class Uptime:
    """Since when the first pod of a pool that was at zero starts, and since when it is Ready. Both are None of a pool that had a Ready pod at the first look."""

    starting_since: datetime | None = None
    ready_since: datetime | None = None

    def looked(self, *, present: int, ready: int, now: datetime) -> "Uptime":
        if ready:
            return Uptime(ready_since=self.ready_since or (now if self.starting_since else None))
        return Uptime(starting_since=self.starting_since or now) if present else Uptime()

    def start_left(self, startup_seconds: int, *, now: datetime) -> float:
        """Seconds that the first pod may still take, 0 where it is Ready or has had them all.

        A pool that fell asleep meanwhile would never be up for clients that give up and ask again later.
        """
        return max(0.0, startup_seconds - (now - self.starting_since).total_seconds()) if self.starting_since is not None else 0.0


def idle_left(demand: PoolDemand, wishes: Mapping[str, TaskScaling], uptime: Uptime, *, now: datetime) -> Idleness:
    """Nobody can say what was asked before demand was known, and nobody could be answered before a pod was Ready, so the time counts from then at the earliest."""
    last = {view.task: view.last_request_at for view in demand.tasks}
    found = []
    for task, wish in sorted(wishes.items()):
        moments = [(demand.heard_since, Since.HEARD), (uptime.ready_since, Since.READY), (last.get(task), Since.REQUEST)]
        at, since = max(((at, since) for at, since in moments if at is not None), key=lambda moment: moment[0])
        found.append(Idleness(wish.idle_seconds - (now - at).total_seconds(), task, since))
    longest = max(found, key=lambda idleness: idleness.seconds, default=Idleness())
    return longest if longest.seconds > 0 else Idleness()


def is_busy(demand: PoolDemand) -> bool:
    """Is there a request now? Pods that answer somebody of whom no gateway knows are busy too."""
    at_gateways = any(view.held or view.fast > 0 for view in demand.tasks)
    return at_gateways or bool(demand.in_flight_at_pods)
