"""What is asked of a pool: all gateways together, as the autoscaler sees it. `controller` makes it from the gateways' measurements."""

from dataclasses import dataclass
from datetime import datetime

# Long enough for a mean of LLM requests, short enough to follow a step within seconds (Knative's panic window is of the same length).
FAST_WINDOW_SECONDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDemandView:
    """One task. Mirrored requests and those of evaluations don't count."""

    task: str
    fast: float  # mean of held + in flight over the fast window
    stable: float  # the same over the class's stable window
    held: int = 0  # now
    # Requests that came in, over the fast window; None: not known. It tells a growing queue from growing demand while pods start.
    arrivals_per_second: float | None = None
    last_request_at: datetime | None = None  # None: none since any gateway that is heard began


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDemand:
    """All tasks of a pool; one that is not named has no demand."""

    tasks: tuple[TaskDemandView, ...]
    # Since when demand is known without a gap: the youngest of when the operator began to listen, when a gateway that is heard began, and when one was missing last.
    heard_since: datetime
    complete: bool  # every gateway is heard now
    in_flight_at_pods: int | None = None  # what the pods' agents report; None where one can't be asked
