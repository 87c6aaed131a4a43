"""When a schedule asks for how much: calendars, changes of the clock, and what holds at any moment."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from taskfleet.api.modelpool import FloorSource, ScalingFloor
from taskfleet.api.schedules import Cron, Schedule
from taskfleet.planning.scaling.schedules import fault, timetable

BERLIN = ZoneInfo("Europe/Berlin")


def schedule(start: str, end: str, *, zone: str = "Europe/Berlin", name: str = "hours", replicas: int = 2) -> Schedule:
    return Schedule(name=name, start=start, end=end, time_zone=zone, min_replicas=replicas)


def at(text: str) -> datetime:
    """`2026-11-27 12:00` in Berlin; with an offset behind it, where the clock shows the same twice."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=BERLIN)


def keeps(found: Schedule, now: datetime) -> tuple[bool, str]:
    """Is it active, and until when that stays so by the clock in Berlin."""
    came = timetable([found], now=now.astimezone(UTC))
    assert came.until is not None
    return came.floor is not None, came.until.astimezone(BERLIN).isoformat(" ", "minutes")


OFFICE = schedule("0 8 * * 1-5", "0 18 * * 1-5")


@pytest.mark.parametrize(
    ("found", "now", "expected"),
    [
        # 2026-11-27 is a Friday.
        (OFFICE, "2026-11-27 07:59:59", (False, "2026-11-27 08:00+01:00")),
        (OFFICE, "2026-11-27 08:00", (True, "2026-11-27 18:00+01:00")),
        (OFFICE, "2026-11-27 17:59:59.999", (True, "2026-11-27 18:00+01:00")),
        (OFFICE, "2026-11-27 18:00", (False, "2026-11-30 08:00+01:00")),
        (OFFICE, "2026-11-29 12:00", (False, "2026-11-30 08:00+01:00")),
        (schedule("0 22 * * *", "0 6 * * *"), "2026-11-27 02:00", (True, "2026-11-27 06:00+01:00")),  # over midnight
        (schedule("0 20 * * fri", "0 6 * * MON"), "2026-11-29 12:00", (True, "2026-11-30 06:00+01:00")),  # over a week's end
        (schedule("0 8 * * 1-5", "0 18 * * *"), "2026-11-29 12:00", (False, "2026-11-30 08:00+01:00")),  # an end that nothing began
        (schedule("0 8,10 * * *", "0 18 * * *"), "2026-11-27 09:00", (True, "2026-11-27 18:00+01:00")),  # a start while it is active
        (schedule("0 8 * * *", "0 18,20 * * *"), "2026-11-27 19:00", (False, "2026-11-28 08:00+01:00")),  # a second end
        (schedule("0 8 * * *", "0 */4 * * *"), "2026-11-27 08:00", (True, "2026-11-27 12:00+01:00")),  # both at once: it begins
        (schedule("0 8 1 * 1", "0 18 * * *"), "2026-11-30 12:00", (True, "2026-11-30 18:00+01:00")),  # the first of a month, or a Monday
        (schedule("0 0 29 2 *", "0 0 1 3 *"), "2026-11-27 12:00", (False, "2028-02-29 00:00+01:00")),
        (schedule("0 8 * * *", "0 18 * * *", zone="Etc/UTC"), "2026-11-27 09:30", (True, "2026-11-27 19:00+01:00")),
        (schedule("0 8 * * *", "0 18 * * *", zone="America/New_York"), "2026-11-27 13:59", (False, "2026-11-27 14:00+01:00")),
    ],
)
def test_from_each_start_to_the_next_end(found: Schedule, now: str, expected: tuple[bool, str]) -> None:
    assert keeps(found, at(now)) == expected


@pytest.mark.parametrize(
    ("found", "now", "expected"),
    [
        # On 2026-03-29 the clock goes from 2:00 to 3:00.
        (schedule("30 2 * * *", "0 6 * * *"), "2026-03-29 01:59", (False, "2026-03-29 03:00+02:00")),
        (schedule("30 2 * * *", "0 6 * * *"), "2026-03-29 03:00", (True, "2026-03-29 06:00+02:00")),
        (schedule("0 1 * * *", "30 2 * * *"), "2026-03-29 01:30", (True, "2026-03-29 03:00+02:00")),
        (schedule("0 1 * * *", "30 2 * * *"), "2026-03-29 03:00", (False, "2026-03-30 01:00+02:00")),
        (schedule("15 2 * * *", "45 2 * * *"), "2026-03-29 03:00", (False, "2026-03-30 02:15+02:00")),  # all of it is skipped
        (schedule("30 2 * * *", "0 3 * * *"), "2026-03-29 03:00", (False, "2026-03-30 02:30+02:00")),
        (schedule("0 3 * * *", "30 2 * * *"), "2026-03-29 03:00", (True, "2026-03-30 02:30+02:00")),  # it ends and begins
        (schedule("0 8 * * *", "0 18 * * *"), "2026-03-29 08:00", (True, "2026-03-29 18:00+02:00")),
        (schedule("0 22 * * *", "0 6 * * *"), "2026-03-29 05:59", (True, "2026-03-29 06:00+02:00")),
        # On 2026-10-25 it goes from 3:00 back to 2:00.
        (schedule("30 2 * * *", "45 2 * * *"), "2026-10-25 02:30+02:00", (True, "2026-10-25 02:45+02:00")),
        (schedule("30 2 * * *", "45 2 * * *"), "2026-10-25 02:45+02:00", (False, "2026-10-26 02:30+01:00")),
        (schedule("30 2 * * *", "45 2 * * *"), "2026-10-25 02:30+01:00", (False, "2026-10-26 02:30+01:00")),  # the second 2:30 is none
        (schedule("30 2 * * *", "0 6 * * *"), "2026-10-25 02:10+01:00", (True, "2026-10-25 06:00+01:00")),
        (schedule("0 1 * * *", "30 2 * * *"), "2026-10-25 02:10+01:00", (False, "2026-10-26 01:00+01:00")),
        (schedule("0 8 * * *", "0 18 * * *"), "2026-10-25 07:59", (False, "2026-10-25 08:00+01:00")),
    ],
)
def test_changes_of_the_clock(found: Schedule, now: str, expected: tuple[bool, str]) -> None:
    assert keeps(found, at(now)) == expected


def test_of_several_the_greatest_counts_and_of_equal_ones_the_longest() -> None:
    now = at("2026-11-27 12:00").astimezone(UTC)
    found = [
        schedule("0 8 * * *", "0 18 * * *", name="office", replicas=3),
        schedule("0 11 * * *", "0 14 * * *", name="lunch", replicas=3),
        schedule("0 0 * * *", "0 23 * * *", name="day", replicas=1),
        schedule("0 13 * * *", "0 15 * * *", name="later", replicas=9),
    ]
    came = timetable(found, now=now)
    assert came.floor is not None
    assert (came.floor.replicas, came.floor.schedule) == (3, "office")
    assert came.until == at("2026-11-27 13:00")
    assert came.floor.told("total") == ScalingFloor(
        replicas=3, source=FloorSource.SCHEDULE, task_model="total", schedule="office", until="2026-11-27T17:00:00Z"
    )


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("2026-11-27 08:00", "schedule hours of total keeps 2 until 18:00 Europe/Berlin"),
        ("2026-11-26 23:00", "schedule hours of total keeps 2 until 2026-11-27 18:00 Europe/Berlin"),
    ],
)
def test_it_is_told_in_the_time_zone_of_the_schedule(now: str, words: str) -> None:
    moment = at(now).astimezone(UTC)
    floor = timetable([schedule("0 22 26 * *", "0 18 27 * *")], now=moment).floor
    assert floor is not None
    assert floor.in_words("total", now=moment) == words


def test_no_schedules_ask_for_nothing() -> None:
    came = timetable([], now=at("2026-11-27 12:00"))
    assert (came.floor, came.until) == (None, None)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (OFFICE, None),
        (schedule("0 0 30 2 *", "0 6 * * *"), "start: 0 0 30 2 * is not a time that comes: bad day-of-month"),
        (schedule("0 8 * * *", "0 18 * * 5-1"), "end: 0 18 * * 5-1 is not a time that comes: bad day-of-week"),
        (schedule("0 8 * * *", "0 18 * * *", zone="Europe/Atlantis"), "timeZone: Europe/Atlantis is not a time zone of the IANA database"),
        (schedule("0 8 * * *", "0 18 * * *", zone="Europe"), "timeZone: Europe is not a time zone of the IANA database"),
        (schedule("0 8 * * *", "0 18 * * *", zone="Local"), "timeZone: Local is not a time zone of the IANA database"),
    ],
)
def test_what_can_not_be_kept_names_its_field(found: Schedule, says: str | None) -> None:
    assert fault(found) == says


def test_one_that_can_not_be_kept_takes_nothing_from_the_others() -> None:
    came = timetable([schedule("0 0 30 2 *", "0 6 * * *", name="broken", replicas=9), OFFICE], now=at("2026-11-27 12:00"))
    assert came.floor is not None
    assert (came.floor.schedule, came.until) == ("hours", at("2026-11-27 18:00"))


@pytest.mark.parametrize("text", ["* * * * *", "0 8 * * 1-5", "*/15 8-18/2 1,15 jan-MAR,12 SUN,3", "59 23 31 12 7", "00 08 01 01 0"])
def test_cron_of_five_fields(text: str) -> None:
    assert TypeAdapter(Cron).validate_python(text) == text
    assert fault(schedule(text, "7 7 7 7 *")) is None


NO_CRON = (
    *("", "* * * *", "* * * * * *", " * * * * *", "*  * * * *", "@daily"),
    *("60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8", "-1 * * * *", "*/0 * * * *", "0,, 0 * * *"),
    *("0 0 L * *", "0 0 * * MON#1", "0 0 ? * *", "0 0 * * MONDAY"),
)


@pytest.mark.parametrize("text", NO_CRON)
def test_what_is_no_cron_is_refused_by_the_definition(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Cron).validate_python(text)


minutes = st.sampled_from(["0", "30", "*", "*/20", "5,50"])
hours = st.sampled_from(["*", "2", "1-4", "*/6", "8,18", "22"])
days = st.sampled_from(["* * *", "* * 1-5", "1 * *", "* 3,10 0", "29 2 *"])
crons = st.builds(lambda minute, hour, day: f"{minute} {hour} {day}", minutes, hours, days)
zones = st.sampled_from(["Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
# Around both changes of the clock in Berlin, and on any day.
moments = st.one_of(
    st.integers(-4 * 3600, 4 * 3600).map(lambda seconds: datetime(2026, 3, 29, 1, tzinfo=UTC) + timedelta(seconds=seconds)),
    st.integers(-4 * 3600, 4 * 3600).map(lambda seconds: datetime(2026, 10, 25, 1, tzinfo=UTC) + timedelta(seconds=seconds)),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  the zone is the strategy's
)
schedules = st.builds(
    lambda start, end, zone, replicas: schedule(start, end, zone=zone, replicas=replicas), crons, crons, zones, st.integers(1, 9)
)


@settings(max_examples=300)
@given(st.lists(schedules, max_size=3), moments, st.floats(0, 1, exclude_max=True))
def test_nothing_changes_before_the_told_edge(found: list[Schedule], now: datetime, part: float) -> None:
    """Whoever looks again at `until` misses nothing."""
    came = timetable(found, now=now)
    assert came.holds(found, now)
    if came.until is None:
        return
    assert came.until > now
    between = now + (came.until - now) * part
    if between < came.until:
        again = timetable(found, now=between)
        assert (again.floor, again.until) == (came.floor, came.until)
        assert came.holds(found, between)
    assert not came.holds(found, came.until)
    assert not came.holds([*found, OFFICE], now)
