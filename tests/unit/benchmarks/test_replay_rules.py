"""The rules that taskfleet's is compared with, by their documentation."""

import math
from collections.abc import Iterable

import pytest

from tests.benchmarks.replay.hpa import HorizontalPodAutoscaler, recommendation
from tests.benchmarks.replay.kpa import KnativePodAutoscaler, clamped
from tests.benchmarks.replay.moving_average import MovingAverage
from tests.benchmarks.replay.ours import Taskfleet
from tests.benchmarks.replay.rules import Demand, Observation, Rule, Target

TARGET = Target(concurrency=10, most=50, tasks={0: "task-0"})


class Pool:
    """Looks of a rule at a pool whose pods are ready at once, with so many requests at a time."""

    def __init__(self, rule: Rule, replicas: int) -> None:
        self.rule, self.replicas, self.now, self.asked, self.demand = rule, replicas, 0.0, 0, Demand()

    def look(self, asked: int, *, after: float | None = None, held: bool = False) -> int:
        """So many requests from the last look on, until this one."""
        self.demand.count(0, self.now, **{"held" if held else "in_flight": asked - self.asked})
        self.asked = asked
        self.now += self.rule.interval if after is None else after
        self.demand.advance(self.now)
        seen = Observation(now=self.now, replicas=self.replicas, ready=self.replicas, starting=0, demand=self.demand)
        self.replicas = self.rule.replicas(seen)
        return self.replicas

    def looks(self, asked: int, seconds: float) -> list[int]:
        return [self.look(asked) for _ in range(math.ceil(seconds / self.rule.interval))]


def changes(counts: Iterable[int]) -> list[int]:
    """Without repetitions."""
    found: list[int] = []
    for count in counts:
        if not found or found[-1] != count:
            found.append(count)
    return found


# The HPA


@pytest.mark.parametrize(
    ("in_flight", "ready", "starting", "wanted"),
    [
        (10, 1, 0, 1),  # on target
        (11, 1, 0, 1),  # within the tolerance
        (12, 1, 0, 2),  # beyond it
        (91, 10, 0, 10),  # within it below
        (80, 10, 0, 8),  # beyond it
        (25, 1, 1, 3),  # a pod that starts has no load: 12.5 each
        (15, 1, 1, 2),  # with it, there would be too many: kept
        (5, 1, 3, 1),  # going down, what starts does not count
        (50, 0, 2, 2),  # no pod that could tell
    ],
)
def test_hpa_multiplies_by_the_ratio_outside_its_tolerance(in_flight: int, ready: int, starting: int, wanted: int) -> None:
    assert recommendation(in_flight=in_flight, target=10, replicas=ready + starting, ready=ready, starting=starting) == wanted


def test_hpa_goes_up_by_four_pods_or_to_twice_as_many() -> None:
    pool = Pool(HorizontalPodAutoscaler(TARGET), 1)
    assert pool.looks(400, 60) == [5, 10, 20, 40]


def test_hpa_goes_down_to_the_highest_of_five_minutes_and_never_to_zero() -> None:
    pool = Pool(HorizontalPodAutoscaler(TARGET), 4)
    pool.look(40)
    counts = pool.looks(0, 330)
    assert counts[:19] == [4] * 19  # 285 s
    assert counts[-1] == 1


# Knative


@pytest.mark.parametrize(
    ("concurrency", "ready", "wanted"),
    [
        (7, 1, 1),  # 70 % of the target
        (8, 1, 2),
        (70, 2, 10),
        (0, 8, 4),  # a half at a time
        (0, 1, 0),
    ],
)
def test_kpa_divides_by_seventy_percent_within_its_rates(concurrency: float, ready: int, wanted: int) -> None:
    assert clamped(concurrency, ready=ready, target=10) == wanted


def test_kpa_panics_on_twice_what_there_is_and_keeps_the_most_for_a_minute() -> None:
    pool = Pool(KnativePodAutoscaler(TARGET), 1)
    pool.looks(5, 60)
    assert pool.looks(70, 6)[-1] == 10
    quiet = pool.looks(5, 120)
    assert quiet[:27] == [10] * 27  # no way down within 60 s of the last panic
    assert quiet[-1] == 1


def test_kpa_sleeps_after_a_minute_and_its_grace_and_wakes_with_a_request() -> None:
    pool = Pool(KnativePodAutoscaler(TARGET), 1)
    pool.looks(5, 60)
    counts = pool.looks(0, 100)
    assert changes(counts) == [1, 0]
    assert 58 <= 2 * counts.index(0) - 30 <= 62
    assert pool.look(1, after=0.0, held=True) == 1


# A moving average


def test_moving_average_takes_ten_minutes_to_see_a_step() -> None:
    pool = Pool(MovingAverage(TARGET), 1)
    counts = pool.looks(60, 600)
    assert counts[8:11] == [1, 1, 2]  # 10 of 60 samples make one pod
    assert counts[-1] == 6
    assert changes(counts) == [1, 2, 3, 4, 5, 6]


def test_moving_average_goes_down_after_three_looks_and_sleeps_after_ten_minutes() -> None:
    pool = Pool(MovingAverage(TARGET), 1)
    pool.looks(10, 600)
    pool.replicas = 3
    assert [pool.look(10) for _ in range(4)] == [3, 3, 3, 1]
    counts = pool.looks(0, 700)
    assert counts.index(0) == 62
    assert pool.look(1, after=3.0, held=True) == 1


# Our own, by the function that the operator calls


def test_own_rule_is_told_what_the_operator_would_know() -> None:
    pool = Pool(Taskfleet(TARGET), 1)
    pool.looks(5, 120)
    assert pool.replicas == 1
    assert max(pool.looks(60, 10)) >= 5  # a step, within seconds
    assert pool.looks(0, 900)[-1] == 0  # idle for its idleSeconds
    assert pool.look(1, after=0.25, held=True) == 1
