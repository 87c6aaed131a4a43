"""Pods that start: requests that wait for them were counted when they were asked for.

A queue that grows while pods start says nothing new; only more arrivals do. From when pods are pending until the pool has caught up, at most a stable window after they became
Ready, what is needed is therefore taken from arrivals and from how long an answer takes while nobody waits. After that the requests themselves count again, so that answers
which have become slower are followed too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.need import Need, now_of

# Of the newest look in the running mean; with a look each second it follows within some ten seconds.
_SHARE_OF_NEWEST = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """`seconds_per_request` holds what an answer takes while nobody waits, by task; at most one entry for each member."""

    until: datetime | None = None
    seconds_per_request: tuple[tuple[str, float], ...] = ()

    @property
    def known(self) -> dict[str, float]:
        return dict(self.seconds_per_request)

    def looked(self, need: Need, *, ready: int, pending: int, window_seconds: int, now: datetime) -> Self:
        """Whether the pool is warming up, after one more look."""
        if pending > 0:
            return replace(self, until=now + timedelta(seconds=window_seconds))
        caught_up = need.fast <= ready or (self.until is not None and now >= self.until)
        return replace(self, until=None) if caught_up else self

    def learned(self, demand: PoolDemand, tasks: Mapping[str, object], need: Need, *, ready: int) -> Self:
        """With what an answer takes now, if no request waits: the mean number of requests at a time, divided by arrivals (Little's law)."""
        known = {task: seconds for task, seconds in self.seconds_per_request if task in tasks}
        if self.until is None and ready and need.fast <= ready and not need.held:
            for view in demand.tasks:
                if view.task in tasks and view.arrivals_per_second and view.fast:
                    seconds = now_of(view) / view.arrivals_per_second
                    before = known.get(view.task, seconds)
                    known[view.task] = before + _SHARE_OF_NEWEST * (seconds - before)
        return replace(self, seconds_per_request=tuple(sorted(known.items())))
