"""Schedules with stars around changes of the clock: due whenever the clock on the wall shows it."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet.planning.scaling.schedules import _last, _next, timetable
from tests.unit.planning.scaling.test_schedules import at, schedule


def shows(expression: str, zone: ZoneInfo, moment: datetime) -> bool:
    wall = moment.astimezone(zone).replace(tzinfo=None)
    return next(CronSim(expression, wall - timedelta(seconds=1))) == wall


# Clocks change by an hour in Berlin, by half an hour on Lord Howe Island, in both directions.
CHANGES = {
    "Europe/Berlin": ("2026-03-29 01:00+00:00", "2026-10-25 01:00+00:00"),
    "Australia/Lord_Howe": ("2026-04-04 15:00+00:00", "2026-10-03 15:30+00:00"),
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["* 8,18 * * *", "*/20 2 * * *", "30 * * * *", "5,50 * * * *", "* * * * *", "*/20 1-4 * * *"]),
    st.sampled_from([(zone, change) for zone, changes in CHANGES.items() for change in changes]),
    st.integers(-5 * 3600, 5 * 3600),
)
def test_what_has_a_star_is_due_whenever_the_clock_shows_it(expression: str, change: tuple[str, str], seconds: int) -> None:
    zone, now = ZoneInfo(change[0]), at(change[1]) + timedelta(seconds=seconds)
    minute = now.replace(second=0)
    later = [minute + timedelta(minutes=number) for number in range(1, 30 * 60)]
    earlier = [minute - timedelta(minutes=number) for number in range(30 * 60)]
    assert _next(expression, zone, now) == next(moment for moment in later if shows(expression, zone, moment))
    assert _last(expression, zone, now) == next(moment for moment in earlier if shows(expression, zone, moment))


def test_an_edge_far_behind_a_change_by_half_an_hour_is_on_time() -> None:
    found = schedule("* 8,18 * 3,10 0", "0 12 * * *", zone="Australia/Lord_Howe")
    assert timetable([found], now=at("2024-04-08 00:00+00:00")).until == at("2024-10-05 21:00+00:00")
