"""Which pods go when a pool gets smaller, and who is asked before."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.planning.scaling.scaledown import GOES, STAYS, PodLoad, ScaleDownPlan, plan
from taskfleet.planning.snapshot import PodView
from tests.unit.planning.builders import later, pod


def load(name: str, in_flight: int | None = 0, *, age: float = 0, **fields: Any) -> PodLoad:
    """`age` in seconds."""
    return PodLoad(pod=pod(name, created_at=later(-age), **fields), in_flight=in_flight)


PENDING: dict[str, Any] = {"ready": False, "phase": "Pending", "ip": ""}


@pytest.mark.parametrize("wanted", [2, 3])
def test_nothing_is_done_for_a_pool_that_does_not_get_smaller(wanted: int) -> None:
    assert plan([load("a"), load("b")], current=2, wanted=wanted) == ScaleDownPlan()


def test_emptiest_goes_first_and_only_its_cost_is_written() -> None:
    found = plan([load("a", 5), load("b", 1), load("c", 9)], current=3, wanted=2)
    assert found == ScaleDownPlan(leaving=("b",), costs={"b": GOES})


def test_of_equally_busy_pods_the_youngest_goes() -> None:
    assert plan([load("a", 2, age=50), load("b", 2, age=10), load("c", 2, age=90)], current=3, wanted=1).leaving == ("b", "a")


def test_pods_that_serve_nobody_go_before_any_that_does() -> None:
    loads = [load("idle", 0), load("starting", None, **PENDING), load("broken", None, ready=False), load("busy", 7)]
    assert plan(loads, current=4, wanted=1).leaving == ("starting", "broken", "idle")


def test_pod_without_a_node_goes_before_one_that_has_one() -> None:
    loads = [load("placed", None, **PENDING), load("waiting", None, unschedulable="no node", **PENDING)]
    assert plan(loads, current=2, wanted=1).leaving == ("waiting",)


def test_agent_that_cant_be_asked_may_have_more_than_any_other() -> None:
    assert plan([load("silent", None), load("busy", 200)], current=2, wanted=1).leaving == ("busy",)


def test_pods_that_are_going_or_have_ended_are_no_replicas() -> None:
    loads = [load("a", 1), load("gone", 0, deleting=True), load("evicted", 0, ready=False, phase="Failed"), load("b", 3)]
    assert plan(loads, current=2, wanted=1).leaving == ("a",)


def test_pods_that_do_not_exist_yet_are_the_first_not_to_come() -> None:
    found = plan([load("a"), load("b")], current=4, wanted=2)
    assert found == ScaleDownPlan()


def test_pod_that_was_to_go_and_stays_gets_its_cost_back() -> None:
    """An earlier, bigger step was taken back before Kubernetes had deleted it."""
    loads = [load("a", 5, deletion_cost=GOES), load("b", 0), load("c", 2, deletion_cost=GOES)]
    assert plan(loads, current=3, wanted=2).costs == {"a": STAYS, "b": GOES, "c": STAYS}


def test_costs_that_are_right_are_not_written_again() -> None:
    loads = [load("a", 5), load("b", 0, deletion_cost=GOES)]
    assert plan(loads, current=2, wanted=1).costs == {}


def test_costs_of_others_are_respected() -> None:
    loads = [load("kept", 0, deletion_cost=100), load("given-up", 9, deletion_cost=-50), load("a", 1), load("b", 2)]
    found = plan(loads, current=4, wanted=2)
    assert found.leaving == ("given-up", "a")
    assert found.costs == {"a": GOES}


def test_all_agents_are_asked_before_the_last_pod_goes() -> None:
    loads = [load("a"), load("b", ready=False), load("lost", None, ready=False, ip=""), load("gone", deleting=True)]
    found = plan(loads, current=3, wanted=0)
    assert set(found.ask) == {"a", "b"}
    assert found.must_answer == {"a"}, "what is not Ready gets no requests"
    assert found.costs == {}, "all go"


def test_ready_pod_whose_agent_has_no_address_is_asked_too_and_so_refuses() -> None:
    found = plan([load("a", None, ip="")], current=1, wanted=0)
    assert found.ask == ("a",)
    assert found.must_answer == {"a"}


def test_nobody_is_asked_while_a_pod_stays() -> None:
    assert plan([load("a", 5), load("b", 5)], current=2, wanted=1).ask == ()


def test_pool_without_pods_can_go_to_zero_unasked() -> None:
    assert plan([], current=1, wanted=0) == ScaleDownPlan()


@st.composite
def loads(draw: st.DrawFn) -> list[PodLoad]:
    found = []
    for number in range(draw(st.integers(0, 8))):
        ready = draw(st.booleans())
        pending = not ready and draw(st.booleans())
        found.append(
            load(
                f"pod-{number}",
                draw(st.one_of(st.none(), st.integers(0, 3))),
                age=draw(st.integers(0, 3)),
                ready=ready,
                phase="Pending" if pending else "Running",
                unschedulable="no node" if pending and draw(st.booleans()) else None,
                deletion_cost=draw(st.sampled_from([GOES, STAYS, -7, 9])),
            )
        )
    return found


@given(loads(), st.integers(1, 8), st.integers(0, 8))
def test_kubernetes_makes_the_same_choice_once_the_costs_are_written(found: list[PodLoad], wanted: int, more: int) -> None:
    made = plan(found, current=wanted + more, wanted=wanted)
    after = {one.pod.name: kubernetes_rank(one.pod, made.costs.get(one.pod.name, one.pod.deletion_cost)) for one in found}
    leaving = {after[name] for name in made.leaving}
    staying = {rank for name, rank in after.items() if name not in made.leaving}
    if more:
        assert len(made.leaving) == max(0, len(found) - wanted)
        assert not leaving or not staying or max(leaving) <= min(staying)
    # Asked again, nothing is to be written any more.
    written = [PodLoad(pod=with_cost(one.pod, made.costs), in_flight=one.in_flight) for one in found]
    again = plan(written, current=wanted + more, wanted=wanted)
    assert (again.leaving, again.costs) == (made.leaving, {})


def kubernetes_rank(view: PodView, cost: int) -> tuple[bool, bool, bool, int]:
    """The order in which a ReplicaSet's controller deletes (ActivePodsWithRanks): without a node, Pending, not Ready, lowest cost."""
    return view.unschedulable is None, view.phase != "Pending", view.ready, cost


def with_cost(view: PodView, costs: Any) -> PodView:
    return pod(
        view.name,
        ready=view.ready,
        phase=view.phase,
        unschedulable=view.unschedulable,
        created_at=view.created_at,
        deletion_cost=costs.get(view.name, view.deletion_cost),
    )
