"""What is remembered of a task's demand, and what is worth a write."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.planning.scaling.demandhistory import KEPT_DAYS, QUARTERS, DemandHistory, index_of, quarter_of, read, written
from tests.unit.planning.builders import NOW, later

TODAY = NOW.date()
NOON = index_of(NOW)


def looked(
    requests: float, *, begin: float = 0, seconds: float = 900, step: float = 30, history: DemandHistory | None = None
) -> DemandHistory:
    """The same demand for so long, seen each `step` seconds; `begin` is in seconds from NOW, which is noon."""
    found = history or DemandHistory()
    at = begin
    while at <= begin + seconds:
        found = found.seen(requests, now=later(at))
        at += step
    return found


def value(history: DemandHistory, index: int = NOON, day: date = TODAY) -> float | None:
    return history.days[day][index] if day in history.days else None


def test_the_mean_of_a_quarter_is_kept_when_it_is_over() -> None:
    half = looked(4, seconds=450)
    assert not half.days
    whole = looked(8, begin=480, seconds=450, history=half)
    assert value(whole) == pytest.approx(6, abs=0.2)
    assert [found for found in whole.days[TODAY] if found is not None] == [value(whole)]


@pytest.mark.parametrize("step", [1, 10, 60])
def test_it_does_not_matter_how_often_one_looks(step: float) -> None:
    assert value(looked(4, seconds=960, step=step)) == 4


def test_a_quarter_of_which_less_than_half_was_seen_is_not_known() -> None:
    assert value(looked(4, begin=480, seconds=480)) is None
    assert value(looked(4, begin=420, seconds=540)) == 4


def test_time_without_looks_does_not_count() -> None:
    before = looked(4, seconds=300)
    assert value(looked(4, begin=700, seconds=260, history=before)) == 4, "500 of 900 seconds"
    assert value(looked(4, begin=800, seconds=160, history=before)) is None


def test_time_in_which_a_gateway_was_not_heard_does_not_count() -> None:
    found = looked(4, seconds=390)
    for at in range(450, 840, 30):
        found = found.unseen()
        assert found.last is None, at
    assert value(looked(4, begin=840, seconds=90, history=found)) is None


def test_a_clock_that_goes_back_adds_nothing() -> None:
    found = DemandHistory().seen(4, now=later(60)).seen(4, now=NOW)
    assert found.quarter is not None
    assert found.quarter.seconds == 0


def test_idle_quarters_are_known_to_be_idle() -> None:
    assert value(looked(0, seconds=930)) == 0


def test_days_that_no_forecast_looks_back_to_are_forgotten() -> None:
    old = {TODAY - timedelta(days=ago): (1.0,) * QUARTERS for ago in range(1, 40)}
    found = looked(4, seconds=930, history=DemandHistory(days=old))
    assert sorted(found.days) == [TODAY - timedelta(days=ago) for ago in range(KEPT_DAYS - 1, -1, -1)]


def test_only_figures_are_news() -> None:
    nothing = DemandHistory()
    idle, busy = looked(0, seconds=930), looked(4, seconds=930)
    assert not nothing.is_news_to({})
    assert not idle.is_news_to({})
    assert busy.is_news_to({})
    assert busy.is_news_to(idle.days)
    assert not busy.is_news_to(busy.days)
    over = looked(0, begin=900, seconds=0, history=looked(4, seconds=870))
    later_on = looked(0, begin=930, seconds=900, history=over)
    assert value(later_on, NOON + 1) == 0
    assert not later_on.is_news_to(over.days), "that nothing was asked waits for the next figure"


def test_a_day_as_text() -> None:
    data = written(looked(0.125, seconds=930).days)
    assert list(data) == ["2026-01-01"]
    assert data["2026-01-01"].split(" ")[NOON - 1 : NOON + 2] == ["-", "0.125", "-"]


figures = st.none() | st.floats(0, 1e6).map(lambda found: float(f"{found:.3g}"))
# Most quarters of a day alike: a hundred figures of their own take hypothesis longer to make than it allows on a busy machine.
some = st.dictionaries(st.integers(0, QUARTERS - 1), figures, max_size=6)
day = st.builds(lambda usual, others: tuple(others.get(index, usual) for index in range(QUARTERS)), figures, some)
days = st.dictionaries(st.dates(date(2026, 1, 1), date(2026, 2, 1)), day, max_size=2)


@given(days)
def test_what_is_written_is_read(found: dict[date, tuple[float | None, ...]]) -> None:
    assert read(written(found)) == found


@pytest.mark.parametrize(
    "text", ["", "0", " ".join(["nan"] * QUARTERS), " ".join(["-1"] * QUARTERS), " ".join(["x"] * QUARTERS), "inf " * QUARTERS]
)
def test_a_day_that_somebody_spoilt_is_left_out(text: str) -> None:
    good = " ".join(["1"] * QUARTERS)
    assert list(read({"2026-01-01": text, "2026-01-02": good, "yesterday": good})) == [date(2026, 1, 2)]


@pytest.mark.parametrize(("moment", "expected"), [("2026-01-01T00:00", 0), ("2026-01-01T08:59:59.9", 35), ("2026-01-01T23:45", 95)])
def test_quarters_of_a_day(moment: str, expected: int) -> None:
    found = datetime.fromisoformat(f"{moment}+00:00")
    assert index_of(found) == expected
    assert quarter_of(found) == quarter_of(quarter_of(found)) <= found
