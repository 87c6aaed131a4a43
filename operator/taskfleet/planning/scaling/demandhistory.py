"""What was asked of a task on the last days, by quarter of an hour: what a forecast is made from.

A quarter counts where at least half of it was seen; of others nothing is known, which is not the same as no demand. Days and quarters are those of UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Self

QUARTER = timedelta(minutes=15)
QUARTERS = timedelta(days=1) // QUARTER
# Two weeks, the most that a forecast looks back, and the day that is still going on.
KEPT_DAYS = 15
# Between two looks at a pool that sleeps there is a minute; after more nobody knows what was in between.
LONGEST_GAP_SECONDS = 90.0

# Requests at a time, by quarter; None: not known.
Day = tuple[float | None, ...]
_UNKNOWN: Day = (None,) * QUARTERS
_NOT_KNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarter:
    """The quarter of an hour that is going on."""

    start: datetime
    seconds: float = 0.0  # that were seen
    busy_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandHistory:
    """One task's."""

    days: Mapping[date, Day] = field(default_factory=dict)
    quarter: Quarter | None = None
    last: datetime | None = None  # look

    def seen(self, requests: float, *, now: datetime) -> Self:
        """With one more look. `requests` is the mean of requests at a time over the fast window."""
        gap = (now - self.last).total_seconds() if self.last is not None else 0.0
        known = gap if 0 < gap <= LONGEST_GAP_SECONDS else 0.0
        start = quarter_of(now)
        history = self if self.quarter is not None and self.quarter.start == start else self._closed()
        quarter = history.quarter or Quarter(start=start)
        quarter = replace(
            quarter,
            seconds=quarter.seconds + known,
            # Looks are far apart only while nothing is asked: each request brings one.
            busy_seconds=quarter.busy_seconds + requests * known,
        )
        return replace(history, quarter=quarter, last=now)

    def unseen(self) -> Self:
        """Demand is not known now; the time until it is again does not count."""
        return replace(self, last=None)

    def is_news_to(self, written: Mapping[date, Day]) -> bool:
        """Has it a figure that is not written yet? That nothing was asked is written together with the next figure only, so that idle tasks cost no writes."""
        return any(
            value and value != before
            for day, values in self.days.items()
            for value, before in zip(values, written.get(day, _UNKNOWN), strict=True)
        )

    def _closed(self) -> Self:
        """With the quarter that is over among the days."""
        if self.quarter is None or self.quarter.seconds < QUARTER.total_seconds() / 2:
            return replace(self, quarter=None)
        day, index = self.quarter.start.date(), index_of(self.quarter.start)
        values = self.days.get(day, _UNKNOWN)
        # Three digits are as exact as any forecast.
        mean = float(f"{self.quarter.busy_seconds / self.quarter.seconds:.3g}")
        days = {one: kept for one, kept in self.days.items() if one > day - timedelta(days=KEPT_DAYS)}
        return replace(self, days={**days, day: (*values[:index], mean, *values[index + 1 :])}, quarter=None)


def quarter_of(moment: datetime) -> datetime:
    """When the quarter of an hour began that the moment is in."""
    utc = moment.astimezone(UTC)
    return utc.replace(minute=utc.minute - utc.minute % 15, second=0, microsecond=0)


def index_of(moment: datetime) -> int:
    """Number of a quarter within its day, from 0."""
    utc = moment.astimezone(UTC)
    return (utc.hour * 60 + utc.minute) // 15


def written(days: Mapping[date, Day]) -> dict[str, str]:
    """As text, by date: `0 0 1.25 - …`."""
    return {day.isoformat(): " ".join(_NOT_KNOWN if value is None else f"{value:g}" for value in days[day]) for day in sorted(days)}


def read(data: Mapping[str, str]) -> dict[date, Day]:
    """What `written` wrote. Days that somebody spoilt are left out."""
    found = {}
    for name, text in data.items():
        try:
            day = tuple(None if part == _NOT_KNOWN else float(part) for part in text.split(" "))
            if len(day) == QUARTERS and all(value is None or 0 <= value < float("inf") for value in day):
                found[date.fromisoformat(name)] = day
        except ValueError:
            continue
    return found
