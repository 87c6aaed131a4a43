"""How long pods took to be Ready: what is counted to which part, once, and never more than Kubernetes bears out."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.api.agent import StartReport
from taskfleet.api.modelpool import StartPhase, StartStatus
from taskfleet.planning import pool as planning
from taskfleet.planning.scaling.coldstart import StartWatch, later_start, latest, start_of
from taskfleet.planning.snapshot import AgentView, ContainerView, PodView, PoolSnapshot
from tests.unit.planning.builders import agent, deployment, key_for, later, pod, pool_of, serving_class, task_model

POOL = pool_of(key=key_for(task_model("total")))


def reported(*, runs: float = 2.4, base: float = 5.3, engine: float = 38.2, adapters: float = 39.1) -> StartReport:
    """Seconds since the pod's creation."""
    return StartReport(agent_at=later(runs), base_at=later(base), engine_at=later(engine), adapters_at=later(adapters))


def started(
    name: str = "pod-a", *, created: float = 0, scheduled: float = 1, container: float = 8, ready: float = 40, **fields: Any
) -> PodView:
    """A Ready pod, as Kubernetes tells of it: in whole seconds."""
    containers = (
        ContainerView(name="agent", ready=True, started_at=later(created + 2), restarts=fields.pop("agent_restarts", 0)),
        ContainerView(name="base", ready=True),
        ContainerView(name="engine", ready=True, started_at=later(container), restarts=fields.pop("engine_restarts", 0)),
    )
    moments: dict[str, Any] = {"created_at": later(created), "scheduled_at": later(scheduled), "ready_at": later(ready)}
    return pod(name, uid=f"uid-{name}", containers=containers, **moments | fields)


def starting(name: str = "pod-a") -> PodView:
    return replace(started(name), ready=False, ready_at=None)


def heard(name: str = "pod-a", report: StartReport | None = None) -> AgentView:
    return agent(POOL, name, start=report or reported())


def parts(start: StartStatus | None) -> list[float]:
    assert start is not None
    assert [part.phase for part in start.phases] == list(StartPhase)
    return [float(part.seconds) for part in start.phases]


def test_each_part_has_its_time_and_together_they_are_all_of_it() -> None:
    start = start_of(started(), heard())
    assert start is not None
    #                     Schedule  Pull (1.4 + 2.7)  Base  Engine  Adapters  Ready
    assert parts(start) == [1.0, 4.1, 2.9, 30.2, 0.9, 0.9]
    assert (start.pod, start.created_time, start.seconds, start.slowest) == ("pod-a", "2026-01-01T12:00:00Z", "40.0", "Engine")


@pytest.mark.parametrize(
    ("view", "report", "expected"),
    [
        pytest.param(
            started(container=5), reported(), [1.0, 1.4, 2.9, 32.9, 0.9, 0.9], id="cut to whole seconds it began before the base was there"
        ),
        pytest.param(
            started(ready=39), reported(), [1.0, 4.1, 2.9, 30.2, 0.9, 0.0], id="cut to whole seconds it was Ready before its adapters"
        ),
        pytest.param(started(scheduled=0), reported(adapters=38.2), [0.0, 5.1, 2.9, 30.2, 0.0, 1.8], id="no adapters, a node at once"),
        pytest.param(
            started(engine_restarts=1, container=30), reported(), [1.0, 1.4, 2.9, 32.9, 0.9, 0.9], id="an engine that was restarted"
        ),
        pytest.param(started(scheduled_at=None), reported(), [0.0, 5.1, 2.9, 30.2, 0.9, 0.9], id="nobody says when it was scheduled"),
        pytest.param(started(), reported(adapters=9_999_999), [1.0, 4.1, 2.9, 30.2, 2.8, 0.0], id="an agent that says too much"),
        pytest.param(
            started(), reported(runs=-9e8, base=-9e8, engine=-9e8), [1.0, 7.0, 0.0, 0.0, 31.1, 0.9], id="an agent from before the pod"
        ),
    ],
)
def test_moments_are_taken_in_their_order(view: PodView, report: StartReport, expected: list[float]) -> None:
    assert parts(start_of(view, heard(report=report))) == expected


@pytest.mark.parametrize(
    ("view", "beside"),
    [
        pytest.param(started(), None, id="its agent was never asked"),
        pytest.param(started(), AgentView(pod="pod-a", error="refused"), id="its agent was not heard"),
        pytest.param(started(), agent(POOL, "pod-a"), id="an agent of an earlier version"),
        pytest.param(started(agent_restarts=1), heard(), id="an agent that was restarted"),
        pytest.param(starting(), heard(), id="not Ready"),
        pytest.param(started(created_at=None), heard(), id="nobody says when it was created"),
    ],
)
def test_what_nobody_has_measured_is_not_told(view: PodView, beside: AgentView | None) -> None:
    assert start_of(view, beside) is None


MOMENTS = st.floats(-1e6, 1e6, allow_nan=False)


@given(numbers=st.lists(MOMENTS, min_size=6, max_size=6), ready=st.integers(0, 10_000))
def test_no_agent_and_no_clock_makes_a_start_other_than_it_was(numbers: list[float], ready: int) -> None:
    scheduled, container, runs, base, engine, adapters = numbers
    view = started(scheduled=scheduled, container=container, ready=ready)
    start = start_of(view, heard(report=reported(runs=runs, base=base, engine=engine, adapters=adapters)))
    found = parts(start)
    assert min(found) >= 0
    assert start is not None
    assert sum(round(10 * part) for part in found) == round(10 * float(start.seconds))
    assert ready <= float(start.seconds) <= ready + 1, "Kubernetes' own times, in whole seconds, are what counts"


class TestWatch:
    def test_a_start_is_told_once_when_the_pod_is_ready(self) -> None:
        watch, told = StartWatch().looked([starting()], [])
        assert told == ()
        watch, told = watch.looked([started()], [heard()])
        assert [start.pod for start in told] == ["pod-a"]
        watch, told = watch.looked([started()], [heard()])
        assert told == ()

    def test_a_pod_that_was_ready_before_anybody_looked_is_not_told(self) -> None:
        watch, told = StartWatch().looked([started()], [heard()])
        assert told == ()
        watch, told = watch.looked([starting()], [heard()])
        assert watch.looked([started(ready=400)], [heard()])[1] == (), "Ready again is not started again"

    def test_a_pod_that_is_ready_again_has_not_started_again(self) -> None:
        watch, _ = StartWatch().looked([starting()], [])
        watch, _ = watch.looked([started()], [heard()])
        watch, _ = watch.looked([starting()], [heard()])
        assert watch.looked([started(ready=400)], [heard()])[1] == ()

    def test_a_start_is_told_once_its_agent_is_heard(self) -> None:
        watch, _ = StartWatch().looked([starting()], [])
        watch, told = watch.looked([started()], [])
        assert told == ()
        assert len(watch.looked([started()], [heard()])[1]) == 1

    def test_pods_that_are_gone_are_forgotten(self) -> None:
        watch, _ = StartWatch().looked([starting("pod-a"), started("pod-b")], [])
        assert watch == StartWatch(frozenset({"uid-pod-a"}), frozenset({"uid-pod-b"}))
        assert watch.looked([], [])[0] == StartWatch()


class TestStatus:
    def start(self, name: str, created: float) -> StartStatus:
        found = start_of(started(name, created=created), heard(name))
        assert found is not None
        return found

    def test_it_tells_of_the_pod_that_was_created_last(self) -> None:
        first, second = self.start("pod-a", 0), self.start("pod-b", 5)
        assert latest([second, first]) == second
        assert later_start(first, second) == second
        assert later_start(second, first) == second

    def test_of_pods_of_the_same_second_the_recorded_one_stays(self) -> None:
        """Or two replicas of the operator would write them in turns."""
        first, second = self.start("pod-a", 0), self.start("pod-b", 0)
        assert (later_start(first, second), later_start(second, first)) == (first, second)

    def test_it_stays_when_its_pod_is_gone_and_when_nobody_watched(self) -> None:
        first = self.start("pod-a", 0)
        snapshot = PoolSnapshot(pool=POOL, serving_class=serving_class(), deployment=deployment(), pods=(started(),), last_start=first)
        status = planning.plan(snapshot, now=later(60)).status
        assert status is not None
        assert status.last_start == first
        slept = pool_of(key=key_for(task_model("total")), replicas=0, status=status)
        for found in (first, None):
            again = planning.plan(replace(snapshot, pool=slept, pods=(), last_start=found), now=later(60) + timedelta(days=1)).status
            assert again is not None
            assert again.last_start == first
