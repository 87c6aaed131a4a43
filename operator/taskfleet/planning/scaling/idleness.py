"""May the last pod go? Only if every task of the pool is known to have been idle for as long as it asks for."""

from collections.abc import Mapping
from datetime import datetime

from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.replicas import TaskScaling


def idle_left(demand: PoolDemand, wishes: Mapping[str, TaskScaling], *, now: datetime) -> tuple[float, str]:
    """In how many seconds all will have been idle long enough, and the task that it takes longest; (0, "") where they are.

    Nobody can say what was asked before demand was known, so the time counts from then at the earliest.
    """
    last = {view.task: view.last_request_at for view in demand.tasks}
    left = {}
    for task, wish in sorted(wishes.items()):
        since = max(demand.heard_since, last.get(task) or demand.heard_since)
        left[task] = wish.idle_seconds - (now - since).total_seconds()
    task = max(left, key=lambda task: left[task], default="")
    return (left[task], task) if task and left[task] > 0 else (0.0, "")


def is_busy(demand: PoolDemand) -> bool:
    """Is there a request now? Pods that answer somebody of whom no gateway knows are busy too."""
    at_gateways = any(view.held or view.fast > 0 for view in demand.tasks)
    return at_gateways or bool(demand.in_flight_at_pods)
