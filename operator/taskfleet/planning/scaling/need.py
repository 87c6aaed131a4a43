"""How many pods the demand of a pool needs.

The need is the sum over its tasks of requests at a time, divided by how many of them a pod is to have: a fraction of pods, rounded by whoever decides. Sums, never averages
over pods or gateways: eight pods that share one pod's work need one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS, PoolDemand, TaskDemandView
from taskfleet.planning.scaling.replicas import TaskScaling

# Against means that miss a whole number of pods by a rounding error.
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """In pods, except where said."""

    fast: float = 0.0
    stable: float = 0.0
    # What requests that arrive now need, and those that wait, if they are to be answered within a stable window.
    arriving: float = 0.0
    requests_fast: float = 0.0  # requests at a time
    requests_stable: float = 0.0
    # As `fast` and `stable`, if no task had a maximum.
    asked_fast: float = 0.0
    asked_stable: float = 0.0
    target: int | None = None  # the tasks' targetConcurrency, where all that are asked for have the same
    held: int = 0  # requests
    greatest: str = ""  # the task that asks for most
    # A task that its maxReplicas keeps from more: by what is there now, by the stable window, and by `arriving`.
    capped: str = ""
    capped_stable: str = ""
    capped_arriving: str = ""

    def with_spare(self, spare: int, *, most: int) -> "Need":
        """With the room of so many pods beyond it, as far as the maximum lets them be: a spare pod is never what meets the maximum."""

        def beyond(pods: float) -> float:
            return max(pods, min(pods + spare, float(most)))

        return replace(self, fast=beyond(self.fast), stable=beyond(self.stable), arriving=beyond(self.arriving)) if spare else self


def need_of(
    demand: PoolDemand,
    wishes: Mapping[str, TaskScaling],
    seconds_per_request: Mapping[str, float],
    *,
    window_seconds: int,
    tolerance: float,
) -> Need:
    """The need of the pool's tasks. `seconds_per_request` is what an answer takes where no request waits, by task, as far as it is known."""
    views = [view for view in demand.tasks if view.task in wishes]
    shares = {view.task: _pods(now_of(view), wishes[view.task], tolerance) for view in views}
    targets = {wishes[view.task].target for view in views if now_of(view) or view.stable}
    stable = {view.task: _pods(view.stable, wishes[view.task], tolerance) for view in views}
    arriving = {view.task: _pods(_explained(view, seconds_per_request, window_seconds), wishes[view.task], tolerance) for view in views}
    asked = {view.task: now_of(view) / wishes[view.task].target for view in views}
    return Need(
        fast=sum(shares.values()),
        stable=sum(stable.values()),
        arriving=sum(arriving.values()),
        requests_fast=sum(now_of(view) for view in views),
        requests_stable=sum(view.stable for view in views),
        asked_fast=sum(asked.values()),
        asked_stable=sum(view.stable / wishes[view.task].target for view in views),
        target=targets.pop() if len(targets) == 1 else None,
        held=sum(view.held for view in views),
        greatest=max(sorted(asked), key=lambda task: asked[task], default=""),
        capped=_capped(shares, wishes, tolerance),
        capped_stable=_capped(stable, wishes, tolerance),
        capped_arriving=_capped(arriving, wishes, tolerance),
    )


def _capped(shares: Mapping[str, float], wishes: Mapping[str, TaskScaling], tolerance: float) -> str:
    return next((task for task in sorted(shares) if shares[task] >= wishes[task].most * (1 + tolerance)), "")


def now_of(view: TaskDemandView) -> float:
    """Requests at a time. Those that wait at this moment count at once; the mean would take its window to see them."""
    return max(view.fast, float(view.held))


def pods_above(need: float, tolerance: float = 0.0) -> int:
    """Whole pods for a need, where each may be above its target by the tolerance (a share of it)."""
    return ceil(need / (1 + tolerance) - _EPSILON)


def _explained(view: TaskDemandView, seconds_per_request: Mapping[str, float], window_seconds: int) -> float:
    """Requests at a time, by Little's law. Of a task that was never answered, an answer is taken to last as long as the fast window."""
    open_now = max(now_of(view), view.stable)
    if view.arrivals_per_second is None:
        return open_now
    seconds = seconds_per_request.get(view.task, float(FAST_WINDOW_SECONDS))
    arriving = view.arrivals_per_second * seconds
    return arriving + max(0.0, open_now - arriving) * seconds / window_seconds


def _pods(requests: float, wish: TaskScaling, tolerance: float) -> float:
    """At most what a task's maximum of pods takes where each is above its target by the tolerance."""
    return min(requests / wish.target, wish.most * (1 + tolerance))
