"""A pool that has nothing to do: it is settled, asleep, waking, or being deleted."""

from taskfleet.api.agent import AdapterPhase
from taskfleet.api.modelpool import MemberState, MemberStatus, ModelPool
from taskfleet.planning import pool
from taskfleet.planning.conditions import Outlook, outlook_of
from taskfleet.planning.plans import PoolPlan
from tests.unit.planning.builders import (
    agent,
    deployment,
    digest,
    key_for,
    later,
    member_of,
    pod,
    pool_of,
    pool_status,
    report,
    revision_of,
    said,
    serving_class,
    task_model,
)
from tests.unit.planning.one_pool import ENGINE_NAME, REVISION, member_status, planned, snapshot, status_of, the_pool


def test_settled_pool_is_ready_and_asks_nothing() -> None:
    plan = planned(the_pool())
    assert outlook_of(status_of(plan).conditions) is Outlook.READY
    assert member_status(plan).state is MemberState.PROVEN
    assert (plan.resolve, plan.put_to, plan.requeue_after) == ((), (), None)


def test_settled_pool_writes_the_same_status_again() -> None:
    first = status_of(planned(the_pool()))
    again = pool.plan(snapshot(the_pool(status=first)), now=later(600))
    assert again.status == first
    assert again.events == ()


def test_pool_that_is_being_deleted_is_left_alone() -> None:
    metadata = the_pool().metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    assert planned(the_pool().model_copy(update={"metadata": metadata})) == PoolPlan()


def asleep_pool(reason: str = "AtZero", *, replicas: int = 0) -> ModelPool:
    return the_pool(replicas=replicas, status=pool_status(said(REVISION), ready=0, reason=reason))


class TestSleeping:
    def test_sleeping_pool_is_ready_and_available(self) -> None:
        plan = planned(asleep_pool("Serving"), pods=(), agents=(), deployment=deployment(0))
        conditions = {found.type: (found.status, found.reason) for found in status_of(plan).conditions}
        assert conditions == {"Available": ("True", "AtZero"), "Ready": ("True", "AtZero")}

    def test_pool_at_zero_by_another_autoscaler_says_who_wakes_it(self) -> None:
        plan = planned(asleep_pool(), pods=(), agents=(), serving_class=serving_class(scaling={"autoscaler": "External"}))
        available = next(found for found in status_of(plan).conditions if found.type == "Available")
        assert (available.reason, available.message) == ("AtZero", "at zero, where another autoscaler put it; that one wakes it")

    def test_what_was_proven_stays_proven_while_the_pool_sleeps_and_wakes(self) -> None:
        for sleeping in (asleep_pool(), asleep_pool(replicas=1), asleep_pool("Waking", replicas=1)):
            plan = planned(sleeping, pods=(), agents=(), deployment=deployment(0))
            assert member_status(plan).state is MemberState.PROVEN

    def test_what_was_never_proven_is_not_by_sleeping(self) -> None:
        sleeping = the_pool(replicas=0, status=pool_status(said(REVISION, MemberState.PENDING, "Loading"), ready=0, reason="AtZero"))
        assert member_status(planned(sleeping, pods=(), agents=(), deployment=deployment(0))).state is MemberState.PENDING
        assert member_status(planned(the_pool(replicas=0), pods=(), agents=(), deployment=deployment(0))).state is MemberState.PENDING

    def test_waking_pool_is_available_until_something_goes_wrong(self) -> None:
        starting = (pod(ready=False),)
        waking = planned(asleep_pool(replicas=1), pods=starting, agents=(), deployment=deployment(1, ready=0))
        assert next((found.status, found.reason) for found in status_of(waking).conditions if found.type == "Available") == (
            "True",
            "Waking",
        )
        unschedulable = (pod(ready=False, unschedulable="0/1 nodes are available"),)
        stuck = planned(asleep_pool("Waking", replicas=1), pods=unschedulable, agents=(), deployment=deployment(1, ready=0))
        assert next((found.status, found.reason) for found in status_of(stuck).conditions if found.type == "Available") == (
            "False",
            "Unschedulable",
        )

    def test_pool_that_lost_its_pods_is_not_taken_for_a_waking_one(self) -> None:
        lost = the_pool(status=pool_status(said(REVISION), ready=1))
        plan = planned(lost, pods=(), agents=(), deployment=deployment(1, ready=0))
        assert next((found.status, found.reason) for found in status_of(plan).conditions if found.type == "Available") == (
            "False",
            "Starting",
        )
        assert member_status(plan).state is MemberState.PENDING

    def test_first_pod_of_the_next_life_proves_everything_anew(self) -> None:
        woken = asleep_pool("Waking", replicas=1)
        assert member_status(planned(woken)).state is MemberState.PROVEN
        loading = agent(woken, "pod-a", report(ENGINE_NAME, AdapterPhase.LOADING, "Loading"))
        assert member_status(planned(woken, agents=(loading,))).state is MemberState.PENDING

    def test_adapter_on_its_way_to_a_woken_pod_stays_proven_and_one_that_cannot_be_fetched_does_not(self) -> None:
        woken, starting = asleep_pool("Waking", replicas=1), (pod(ready=False),)

        def while_it_is(reason: str, message: str) -> MemberStatus:
            staging = agent(woken, "pod-a", report(ENGINE_NAME, AdapterPhase.STAGING, reason, message), staged=False)
            return member_status(planned(woken, pods=starting, agents=(staging,), deployment=deployment(1, ready=0)))

        assert while_it_is("Loading", "waiting for the base").state is MemberState.PROVEN
        broken = while_it_is("SourceUnavailable", "registry.example does not answer")
        assert (broken.state, broken.reason) == (MemberState.PENDING, "SourceUnavailable")
        assert "registry.example does not answer" in broken.message

    def test_base_that_serves_a_task_stays_proven_too(self) -> None:
        task = task_model("plain", version=None)
        revision = revision_of(task)
        sleeping = pool_of(
            member_of(revision),
            key=key_for(task),
            base_digest=digest("b"),
            replicas=0,
            status=pool_status(said(revision), ready=0, reason="AtZero"),
        )
        plan = planned(sleeping, pods=(), agents=(), deployment=deployment(0), revisions=(revision,))
        assert member_status(plan).state is MemberState.PROVEN

    def test_pods_that_are_too_many_are_said_to_go(self) -> None:
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), deployment=deployment(2))
        ready = next(found for found in status_of(plan).conditions if found.type == "Ready")
        assert (ready.status, ready.message) == ("False", "pods are being taken away; 2 serve, and 1 are wanted")
