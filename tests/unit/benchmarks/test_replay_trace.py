"""The recorded trace, moved to other times, and the scenarios that are made of it."""

from pathlib import Path

import pytest

from tests.benchmarks.replay.scenarios import SPARSE_TASKS, all_of
from tests.benchmarks.replay.trace import COMMITTED, Recorded, Request, at_rate, is_ordered, levelled, read, thin

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:46.6805900,879,55
"""


def test_trace_is_read_with_seconds_since_its_first_request(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    assert read(tmp_path / "trace.csv") == [Recorded(0.0, 374, 44), Recorded(4.314579, 396, 109), Recorded(60.0, 879, 55)]


def test_cut_keeps_the_first_request_and_the_format(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    thin(tmp_path / "trace.csv", tmp_path / "cut.csv", every=2)
    assert [one.prompt_tokens for one in read(tmp_path / "cut.csv")] == [374, 879]


def test_as_many_requests_pass_in_each_minute_as_came_in_it() -> None:
    recorded = [Recorded(at, 1, 1) for at in (0.0, 30.0, 45.0, 60.0, 90.0)]
    assert levelled(recorded) == [0.0, 1.5, 2.25, 3.0, 4.0]


def test_requests_come_at_the_rate_that_is_asked_for() -> None:
    moved = at_rate(read(COMMITTED), lambda at: 1.0 if at < 600 else 10.0, 1200.0)
    assert sum(one.at < 600 for one in moved) == pytest.approx(600, abs=10)
    assert sum(one.at >= 600 for one in moved) == pytest.approx(6000, abs=10)


def test_trace_begins_again_where_it_is_too_short() -> None:
    recorded = [Recorded(0.0, 1, 1), Recorded(30.0, 2, 2)]
    assert [one.prompt_tokens for one in at_rate(recorded, lambda _: 1.0, 5.0)] == [1, 2, 1, 2, 1]


def test_scenarios_are_the_same_every_time_and_in_order() -> None:
    recorded = read(COMMITTED)
    scenarios = all_of(recorded, pod_rate=0.5)
    assert scenarios == all_of(recorded, pod_rate=0.5)
    for scenario in scenarios:
        assert is_ordered(scenario.requests), scenario.name
        assert 0 <= scenario.requests[0].at <= scenario.requests[-1].at <= scenario.seconds, scenario.name
        assert {request.task for request in scenario.requests} <= set(range(scenario.tasks)), scenario.name
    assert not is_ordered([Request(2.0, 0, 1, 1), Request(1.0, 0, 1, 1)])


def test_most_of_the_sparse_tasks_are_used_and_each_is_seldom() -> None:
    sparse = next(scenario for scenario in all_of(read(COMMITTED), pod_rate=0.5) if scenario.name == "sparse")
    used = {request.task for request in sparse.requests}
    assert SPARSE_TASKS / 2 < len(used) <= SPARSE_TASKS
    assert len(sparse.requests) / len(used) < 6
