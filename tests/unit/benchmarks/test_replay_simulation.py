"""The simulator itself: nothing is lost, and small cases come out as they do by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.benchmarks.replay.engine import Flight, Timings
from tests.benchmarks.replay.figures import Figures, figures, on_front, peak_replicas, percentile, table
from tests.benchmarks.replay.hpa import HorizontalPodAutoscaler
from tests.benchmarks.replay.kpa import KnativePodAutoscaler
from tests.benchmarks.replay.moving_average import MovingAverage
from tests.benchmarks.replay.ours import Taskfleet
from tests.benchmarks.replay.rules import Observation, Rule, Target, Window
from tests.benchmarks.replay.scenarios import Scenario, all_of
from tests.benchmarks.replay.simulation import Outcome, replay
from tests.benchmarks.replay.static import Static
from tests.benchmarks.replay.timings import timings
from tests.benchmarks.replay.trace import COMMITTED, Request, read

# Two requests at once are half as fast each; a prompt takes no time; a token takes a second.
HALVES = Timings(token_seconds=((1, 1.0), (2, 2.0)), prompt_token_seconds=0.0, slots=2, cold_start_seconds=10.0)


@dataclass
class Scripted:
    """A rule that says what it is told to from these times on."""

    script: dict[float, int]
    name: str = "scripted"
    interval: float = 1.0
    wakes_after: float | None = None
    seen: list[Observation] = field(default_factory=list)

    def replicas(self, seen: Observation) -> int:
        self.seen.append(seen)
        return next((count for at, count in reversed(self.script.items()) if at <= seen.now), seen.replicas)


def scenario(*requests: tuple[float, int], seconds: float = 100.0) -> Scenario:
    """Requests of one task, each with its time and the tokens of its answer."""
    return Scenario("small", "by hand", 2, seconds, tuple(Request(at, 0, 0, tokens) for at, tokens in requests))


def beginning_of(name: str, *, requests: int) -> Scenario:
    """Of one of the scenarios that are compared, at a low rate."""
    whole = next(one for one in all_of(read(COMMITTED), pod_rate=0.2) if one.name == name)
    first = whole.requests[:requests]
    return replace(whole, requests=first, seconds=first[-1].at + 60)


def times(outcome: Outcome) -> list[tuple[float, float]]:
    return [(round(flight.started, 6), round(flight.ended, 6)) for flight in outcome.flights]


def test_requests_at_once_share_the_pods_speed() -> None:
    # Alone for 2 s, together until the first has its 4 s of work, alone again.
    assert times(replay(scenario((0.0, 4), (2.0, 4)), Static(1), HALVES)) == [(0.0, 6.0), (2.0, 8.0)]


def test_request_waits_where_all_slots_are_taken() -> None:
    outcome = replay(scenario((0.0, 4), (0.0, 4), (1.0, 3)), Static(1), HALVES)
    assert times(outcome) == [(0.0, 8.0), (0.0, 8.0), (8.0, 11.0)]
    assert [flight.wait for flight in outcome.flights] == [0.0, 0.0, pytest.approx(7.0)]


def test_speed_lies_on_the_line_between_two_measured_ones() -> None:
    table_of = Timings(token_seconds=((1, 1.0), (5, 3.0)), prompt_token_seconds=0.5, slots=8, cold_start_seconds=0.0)
    assert [table_of.token(running) for running in (1, 3, 5, 7)] == [1.0, 2.0, 3.0, 4.0]
    assert table_of.work(4, 3) == 5.0


def test_request_at_zero_is_held_until_a_pod_is_ready() -> None:
    rule = Scripted({0.0: 0, 5.0: 1})
    outcome = replay(scenario((3.0, 2)), rule, HALVES)
    assert times(outcome) == [(15.0, 17.0)]
    assert outcome.scales == ((0.0, 0), (5.0, 1))
    assert outcome.replica_seconds == pytest.approx(95.0)


def test_request_at_zero_wakes_a_rule_that_is_told() -> None:
    woken = Scripted({0.0: 0, 3.0: 1}, interval=50.0, wakes_after=0.25)
    assert replay(scenario((3.0, 2), (3.1, 2)), woken, HALVES).scales == ((0.0, 0), (3.25, 1))
    asleep = Scripted({0.0: 0, 3.0: 1}, interval=50.0)
    assert replay(scenario((3.0, 2)), asleep, HALVES).scales == ((0.0, 0), (50.0, 1))


def test_pod_that_goes_finishes_its_requests_and_counts_until_then() -> None:
    rule = Scripted({0.0: 2, 12.0: 1})
    # Twelve at once: four on the first pod by the gateway's floor, and so on; all of them go on after the scale-down.
    outcome = replay(scenario(*[(11.0, 3)] * 8, seconds=40.0), rule, HALVES)
    assert all(flight.ended > 12.0 for flight in outcome.flights)
    assert 40.0 + 12.0 < outcome.replica_seconds <= 80.0


def test_pod_that_starts_goes_before_one_that_serves() -> None:
    rule = Scripted({0.0: 2, 5.0: 1})
    outcome = replay(scenario((1.0, 20)), rule, HALVES)
    assert times(outcome) == [(1.0, 21.0)]
    assert outcome.replica_seconds == pytest.approx(105.0)


def test_pods_take_the_starts_that_are_given_one_by_one_and_then_all_the_same() -> None:
    rule = Scripted({0.0: 0, 1.0: 1, 5.0: 0, 20.0: 1, 40.0: 0, 50.0: 1})
    outcome = replay(scenario((0.5, 2), (19.0, 2), (49.0, 2)), rule, HALVES, starts=[3.0, 7.0])
    assert [flight.started for flight in outcome.flights] == [4.0, 27.0, 60.0]


def test_demand_is_the_exact_integral_of_requests() -> None:
    rule = Scripted({0.0: 1})
    replay(scenario((0.5, 4), (2.5, 4)), rule, HALVES)
    # Together from 2.5 until the first has its work of 4 at 6.5, the second until 8.5.
    assert rule.seen[-1].demand.total.busy_seconds == pytest.approx(6.0 + 6.0)
    assert rule.seen[-1].demand.total.arrivals == 2


@pytest.mark.parametrize("rule", [lambda _: Static(2), HorizontalPodAutoscaler, KnativePodAutoscaler, MovingAverage, Taskfleet])
@pytest.mark.parametrize("name", ["steps", "sparse"])
def test_every_request_is_answered_once_by_every_rule(rule: Callable[[Target], Rule], name: str) -> None:
    one = beginning_of(name, requests=150)
    target = Target(concurrency=2, most=5, tasks={number: f"task-{number}" for number in range(one.tasks)})
    outcome = replay(one, rule(target), timings())
    assert [flight.request for flight in outcome.flights] == list(one.requests)
    assert all(flight.request.at <= flight.started < flight.ended for flight in outcome.flights)
    assert 0 < outcome.replica_seconds <= target.most * one.seconds
    assert all(0 <= count <= target.most for _, count in outcome.scales)


def test_replay_is_the_same_every_time() -> None:
    steps = beginning_of("steps", requests=150)
    target = Target(concurrency=2, most=5, tasks={number: f"task-{number}" for number in range(steps.tasks)})
    first, second = (figures(replay(steps, Taskfleet(target), timings())) for _ in range(2))
    assert first == second


# Figures


def test_figures_of_a_replay() -> None:
    row = figures(replay(scenario((0.0, 4), (0.0, 4), (1.0, 3), seconds=3600.0), Static(1), HALVES))
    assert (row.replica_hours, row.wait_p50, row.wait_p95, row.long_waits, row.answer_p95, row.scales) == (1.0, 0.0, 7.0, 1, 10.0, 0)
    assert row.waited_percent == pytest.approx(33.33)


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (95, 10), (90, 9), (1, 1), (100, 10)])
def test_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: float, value: int) -> None:
    assert percentile(list(range(1, 11)), percent) == value


def test_busiest_minute_tells_how_many_replicas_the_peak_needs() -> None:
    # One request for two minutes, and two more throughout the second one: three at a time in it, and less after.
    three = Outcome(
        rule="",
        flights=tuple(Flight(Request(at, 0, 0, 1), at, end) for at, end in ((0, 120), (60, 120), (60, 120), (120, 150))),
        replica_seconds=0.0,
        scales=(),
    )
    assert peak_replicas(three, target=2) == 2
    assert peak_replicas(three, target=3) == 1


def row(rule: str, hours: float, wait: float) -> Figures:
    return Figures(
        rule=rule, replica_hours=hours, wait_p50=0, wait_p95=wait, wait_p99=wait, long_waits=0, waited_percent=0, answer_p95=0, scales=0
    )


def test_front_is_what_no_other_row_beats() -> None:
    rows = [row("dear", 9, 0), row("cheap", 3, 60), row("between", 5, 2), row("worse", 6, 2), row("same", 5, 2), row("slow", 9, 1)]
    assert [one.rule for one in rows if on_front(one, rows)] == ["dear", "cheap", "between", "same"]
    assert "| * | cheap | 3.00 | 0.0 / 60.0 / 60.0 s | 0 | 0.0 s | 0 |" in table(rows)


def test_window_is_the_mean_of_the_last_seconds() -> None:
    window = Window(10.0)
    assert window.mean(0.0, 0.0) == 0.0
    assert window.mean(5.0, 10.0) == 2.0
    assert window.mean(10.0, 10.0) == 1.0
    assert window.mean(20.0, 40.0) == 3.0
    assert window.mean(30.0, 40.0) == 0.0
