"""Schedules of a task: how many pods they ask for at a moment, and until when that stays so.

A schedule is active when its last `start` is later than its last `end`, or at the same minute. Looking back, and not ahead to whichever comes next, makes schedules right whose
ends and starts don't alternate: `0 8 * * 1-5` to `0 18 * * *` is over on a Sunday morning, though an end comes next.

Daylight saving, as in Debian's cron: what is due in an hour that is skipped is due when the clock has jumped, and what is due in an hour that comes twice is due the first time.
A schedule that lies in a skipped hour does not take place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from taskfleet.api.modelpool import FloorSource
from taskfleet.api.schedules import Schedule
from taskfleet.planning.scaling.floor import Floor

# Around a change of the clock the library's own "before" and "after" are by the clock on the wall, which is off by as much as the clock changes.
_CLOCK_CHANGES = timedelta(hours=3)
_SECOND = timedelta(seconds=1)
# Any day will do to find out whether a time ever comes.
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """What a task's schedules come to from `since` to `until`, the next start or end (None: there is none)."""

    schedules: tuple[Schedule, ...]
    since: datetime
    until: datetime | None
    floor: Floor | None

    def holds(self, schedules: Sequence[Schedule], now: datetime) -> bool:
        """Is it still what `timetable` would come to?"""
        return self.since <= now and (self.until is None or now < self.until) and self.schedules == tuple(schedules)


def timetable(schedules: Sequence[Schedule], *, now: datetime) -> Timetable:
    """Of several active ones the greatest counts. One that can't be understood counts nothing: `fault` says why."""
    active: list[Floor] = []
    edges: list[datetime] = []
    for schedule in schedules:
        if fault(schedule) is not None:
            continue
        zone = ZoneInfo(schedule.time_zone)
        is_active = _is_active(schedule, zone, now)
        edge = _next(schedule.end if is_active else schedule.start, zone, now)
        if edge is not None:
            edges.append(edge)
        if is_active:
            active.append(
                Floor(
                    replicas=schedule.min_replicas,
                    source=FloorSource.SCHEDULE,
                    until=edge,
                    zone=schedule.time_zone,
                    schedule=schedule.name,
                )
            )
    return Timetable(
        schedules=tuple(schedules),
        since=now,
        until=min(edges, default=None),
        floor=max(active, key=lambda floor: (floor.replicas, floor.until or now), default=None),
    )


def fault(schedule: Schedule) -> str | None:
    """Why a schedule can't be kept, beginning with the field; None where it can."""
    return _fault(schedule.start, schedule.end, schedule.time_zone)


@lru_cache(maxsize=4096)
def _fault(start: str, end: str, time_zone: str) -> str | None:
    try:
        ZoneInfo(time_zone)
    except (ValueError, LookupError, OSError):
        # A directory of the database is an OSError.
        return f"timeZone: {time_zone} is not a time zone of the IANA database"
    for field, expression in (("start", start), ("end", end)):
        try:
            next(CronSim(expression, _SOME_DAY))
        except CronSimError as error:
            return f"{field}: {expression} is not a time that comes: {str(error).lower()}"
        except StopIteration:
            return f"{field}: {expression} is not a time that comes"
    return None


def _is_active(schedule: Schedule, zone: ZoneInfo, now: datetime) -> bool:
    started, ended = _last(schedule.start, zone, now), _last(schedule.end, zone, now)
    if started is None or ended is None or started != ended:
        return started is not None and (ended is None or started > ended)
    # Both at once: a skipped hour may have moved them together, so the order that they would have had decides; of the very same minute the start counts.
    wall = started.astimezone(zone).replace(tzinfo=None) + _SECOND
    return next(CronSim(schedule.start, wall, reverse=True)) >= next(CronSim(schedule.end, wall, reverse=True))


def _next(expression: str, zone: ZoneInfo, now: datetime) -> datetime | None:
    """The first time after now, within fifty years."""
    begin = now - _margin(zone, now)
    if _is_by_the_wall(expression):
        return _first_on_the_wall(expression, zone, begin, now)
    return next((found for moment in CronSim(expression, begin.astimezone(zone)) if (found := moment.astimezone(UTC)) > now), None)


def _last(expression: str, zone: ZoneInfo, now: datetime) -> datetime | None:
    """The last time up to now, within fifty years."""
    begin = now.replace(microsecond=0) + _SECOND + _margin(zone, now)
    if _is_by_the_wall(expression):
        return _last_on_the_wall(expression, zone, begin, now)
    moments = CronSim(expression, begin.astimezone(zone), reverse=True)
    return next((found for moment in moments if (found := moment.astimezone(UTC)) <= now), None)


def _is_by_the_wall(expression: str) -> bool:
    """Is it due whenever the clock shows it, also twice or never, as what has a star for minutes or hours is in Debian's cron?"""
    minute, hour = expression.split()[:2]
    return minute.startswith("*") or hour.startswith("*")


# The library goes by hours that have passed, and misses half of one where the clock changes by half an hour (Lord Howe Island), so the clock on the wall is read here.


def _first_on_the_wall(expression: str, zone: ZoneInfo, begin: datetime, now: datetime) -> datetime | None:
    found: datetime | None = None
    for wall in CronSim(expression, begin.astimezone(zone).replace(tzinfo=None)):
        shown = _shown(wall, zone)
        # The second time that something is shown may come after the first time of what is later on the wall.
        if found is not None and shown and shown[0] >= found:
            break
        found = min((moment for moment in (found, *shown) if moment is not None and moment > now), default=None)
    return found


def _last_on_the_wall(expression: str, zone: ZoneInfo, begin: datetime, now: datetime) -> datetime | None:
    found: datetime | None = None
    for wall in CronSim(expression, begin.astimezone(zone).replace(tzinfo=None), reverse=True):
        shown = _shown(wall, zone)
        if found is not None and shown and shown[-1] <= found:
            break
        found = max((moment for moment in (found, *shown) if moment is not None and moment <= now), default=None)
    return found


def _shown(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """When a zone's clock shows a time: once, twice where it goes back, never where it goes forward."""
    moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall)


def _margin(zone: ZoneInfo, now: datetime) -> timedelta:
    offsets = {(now + apart).astimezone(zone).utcoffset() for apart in (-_CLOCK_CHANGES, timedelta(), _CLOCK_CHANGES)}
    return _CLOCK_CHANGES if len(offsets) > 1 else timedelta()
