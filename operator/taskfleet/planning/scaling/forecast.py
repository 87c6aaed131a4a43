"""The usual of this time of day as a floor: pods are there before the usual rise.

What is usual in a quarter of an hour is the median of the last days, the lower one of two, so neither one busy day nor one idle day makes a pattern, and a weekend takes nothing
from Monday. Only days that are over count, so a day's forecast stands when it begins. It raises the fewest pods and does nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil
from statistics import median_low

from taskfleet.api.modelpool import FloorSource
from taskfleet.api.schedules import Forecast
from taskfleet.planning.scaling.demandhistory import QUARTER, QUARTERS, DemandHistory, index_of, quarter_of
from taskfleet.planning.scaling.floor import Floor
from taskfleet.planning.scaling.need import pods_above
from taskfleet.planning.scaling.replicas import TaskScaling

# Fewer have no pattern.
FEWEST_DAYS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Requests at a time that a task has pods for on one day, by quarter, as long ahead as its forecast says."""

    forecast: Forecast
    day: date
    requests: tuple[float, ...]

    def holds(self, forecast: Forecast, now: datetime) -> bool:
        """Is it still what `pattern` would come to?"""
        return self.forecast == forecast and self.day == quarter_of(now).date()


def pattern(history: DemandHistory, forecast: Forecast, *, now: datetime) -> Pattern:
    """What the days before today say of today. After its last quarter comes its first: tomorrow is taken to be like today."""
    today = quarter_of(now).date()
    days = [history.days[day] for ago in range(1, forecast.days + 1) if (day := today - timedelta(days=ago)) in history.days]
    usual = [_usual([value for day in days if (value := day[index]) is not None]) for index in range(QUARTERS)]
    ahead = ceil(forecast.lead_seconds / QUARTER.total_seconds())
    requests = tuple(max(usual[(index + step) % QUARTERS] for step in range(ahead + 1)) for index in range(QUARTERS))
    return Pattern(forecast=forecast, day=today, requests=requests)


def forecast_floor(
    patterns: Mapping[str, Pattern], wishes: Mapping[str, TaskScaling], *, most: int, tolerance: float, now: datetime
) -> tuple[str, Floor] | None:
    """The floor of a pool now, and the task with the largest share; None where nothing is usual. At most `most`, and of each task what its own maximum allows."""
    start = quarter_of(now)
    here = index_of(start)
    pods = _pods(patterns, wishes, here, most, tolerance)
    if not pods:
        return None
    shares = {task: found.requests[here] / wishes[task].target for task, found in sorted(patterns.items()) if task in wishes}
    # Until midnight at most: by then there is another day to learn from.
    later = next((index for index in range(here + 1, QUARTERS) if _pods(patterns, wishes, index, most, tolerance) != pods), QUARTERS)
    floor = Floor(replicas=pods, source=FloorSource.FORECAST, until=start + (later - here) * QUARTER, zone="Etc/UTC")
    return max(shares, key=lambda task: shares[task]), floor


def next_quarter(now: datetime) -> datetime:
    """When a forecast changes at the earliest."""
    return quarter_of(now) + QUARTER


def _usual(values: list[float]) -> float:
    return median_low(values) if len(values) >= FEWEST_DAYS else 0.0


def _pods(patterns: Mapping[str, Pattern], wishes: Mapping[str, TaskScaling], index: int, most: int, tolerance: float) -> int:
    shares = (min(found.requests[index] / wishes[task].target, wishes[task].most) for task, found in patterns.items() if task in wishes)
    return min(most, pods_above(sum(shares), tolerance))
