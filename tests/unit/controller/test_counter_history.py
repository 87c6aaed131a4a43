"""Counters over a bounded past."""

import pytest

from taskfleet.controller.counter_history import CounterHistory

LEVELS = ((0.25, 6.0), (1.0, 60.0), (30.0, 3600.0))


def grown(seconds: float, *, rate: float, step: float = 0.25) -> CounterHistory:
    """A counter that was told every `step` and grew by `rate` a second."""
    history = CounterHistory(LEVELS, (0.0, 0.0))
    for tick in range(1, int(seconds / step) + 1):
        history.add(tick * step, rate * tick * step)
    return history


def size(history: CounterHistory) -> int:
    return sum(len(samples) for samples in history._samples)


def test_the_counter_is_read_between_two_samples_on_a_straight_line() -> None:
    history = CounterHistory(LEVELS, (10.0, 4.0))
    history.add(12.0, 8.0)
    assert [history.at(time) for time in (10.0, 11.0, 11.5, 12.0, 99.0)] == [4.0, 6.0, 7.0, 8.0, 8.0]


def test_before_the_first_sample_the_counter_grew_as_fast_as_is_assumed_but_never_from_below_nothing() -> None:
    history = CounterHistory(LEVELS, (100.0, 30.0), rate=2.0)
    assert [history.at(time) for time in (100.0, 94.0, 40.0)] == [30.0, 18.0, 0.0]


def test_a_long_past_is_thinned_and_its_means_stay_right() -> None:
    history = grown(4000.0, rate=3.0)
    assert size(history) < 230
    for window in (6.0, 60.0, 600.0, 3600.0):
        assert (history.at(4000.0) - history.at(4000.0 - window)) / window == pytest.approx(3.0)


def test_a_burst_is_not_smeared_over_the_recent_past() -> None:
    history = grown(300.0, rate=0.0)
    for tick in range(1, 9):
        history.add(300.0 + tick * 0.25, tick * 0.25 * 20)
    assert history.at(302.0) - history.at(302.0 - 6.0) == pytest.approx(40.0)
    assert history.at(302.0) - history.at(300.0) == pytest.approx(40.0)


def test_what_no_window_needs_is_dropped() -> None:
    history = grown(3600.0, rate=1.0)
    history.forget(3600.0 - 60.0)
    assert size(history) < 95
    assert history.at(3540.0) == pytest.approx(3540.0)
