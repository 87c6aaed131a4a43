"""May the last pod go? Only if every task of the pool is known to have been idle for as long as it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.replicas import TaskScaling


@dataclass(frozen=True, slots=True)
class Idleness:
    """In how many seconds all will have been idle long enough, 0 where they are, and the task that it takes longest."""

    seconds: float = 0.0
    task: str = ""
    since_heard: bool = False  # its time counts from when demand was known, not from its last request


def idle_left(demand: PoolDemand, wishes: Mapping[str, TaskScaling], *, now: datetime) -> Idleness:
    """Nobody can say what was asked before demand was known, so the time counts from then at the earliest."""
    last = {view.task: view.last_request_at for view in demand.tasks}
    found = []
    for task, wish in sorted(wishes.items()):
        asked = last.get(task)
        since = max(demand.heard_since, asked or demand.heard_since)
        found.append(Idleness(wish.idle_seconds - (now - since).total_seconds(), task, asked is None or asked < demand.heard_since))
    longest = max(found, key=lambda idleness: idleness.seconds, default=Idleness())
    return longest if longest.seconds > 0 else Idleness()


def is_busy(demand: PoolDemand) -> bool:
    """Is there a request now? Pods that answer somebody of whom no gateway knows are busy too."""
    at_gateways = any(view.held or view.fast > 0 for view in demand.tasks)
    return at_gateways or bool(demand.in_flight_at_pods)
