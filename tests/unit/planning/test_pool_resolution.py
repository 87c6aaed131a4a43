"""Who is asked which bytes a version stands for, and when anew."""

from dataclasses import replace
from typing import Any

import pytest

from taskfleet.api.agent import ArtifactKind
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import MemberState
from taskfleet.planning.plans import PoolPlan
from taskfleet.planning.resolution import retry_seconds
from taskfleet.planning.snapshot import ResolutionFailure
from tests.unit.planning.builders import (
    NOW,
    agent,
    digest,
    key_for,
    later,
    member_of,
    pod,
    pool_of,
    revision_of,
    task_model,
)
from tests.unit.planning.one_pool import REVISION, TASK, member_status, planned, reason_of, status_of


class TestResolution:
    def unresolved(self, **fields: Any) -> PoolPlan:
        revision = revision_of(TASK)
        the_pool = pool_of(member_of(revision), key=key_for(TASK))
        plain: dict[str, Any] = {
            "revisions": (revision,),
            "pods": (pod("pod-b", ready=False), pod("pod-a", ready=False, phase="Pending")),
            "agents": (agent(the_pool, "pod-b", staged=False), agent(the_pool, "pod-a", staged=False)),
        }
        return planned(the_pool, **plain | fields)

    def test_first_pod_is_asked_for_base_and_adapter_while_it_is_still_pending(self) -> None:
        plan = self.unresolved()
        assert [(ask.pod, ask.request.kind, ask.request.version) for ask in plan.resolve] == [
            ("pod-a", ArtifactKind.BASE, "v1"),
            ("pod-a", ArtifactKind.ADAPTER, "v1"),
        ]

    def test_agent_that_can_not_be_asked_is_passed_over(self) -> None:
        revision = revision_of(TASK)
        the_pool = pool_of(member_of(revision), key=key_for(TASK))
        plan = self.unresolved(agents=(agent(the_pool, "pod-a", error="refused"), agent(the_pool, "pod-b")))
        assert {ask.pod for ask in plan.resolve} == {"pod-b"}

    def test_nobody_is_asked_while_no_agent_answers(self) -> None:
        assert self.unresolved(agents=()).resolve == ()

    def test_pod_that_mounts_the_claim_is_asked_for_what_is_in_it(self) -> None:
        revision = revision_of(task_model(version=None, adapter={"source": "pvc://models/total", "version": "v1"}))
        the_pool = pool_of(member_of(revision), key=key_for(TASK), base_digest=digest("b"))
        agents = (agent(the_pool, "pod-a"), agent(the_pool, "pod-b"))
        old, new = pod("pod-a"), replace(pod("pod-b", ready=False), claims=frozenset({"models"}))
        (ask,) = planned(the_pool, revisions=(revision,), pods=(old, new), agents=agents).resolve
        assert ask.pod == "pod-b"
        before = planned(the_pool, revisions=(revision,), pods=(old,), agents=agents)
        assert before.resolve == ()
        assert "no pod mounts PersistentVolumeClaim models yet" in member_status(before).message

    def test_pin_is_handed_over(self) -> None:
        pinned = revision_of(task_model(version=None, adapter={"source": "oci://r.example/a", "version": "v1", "digest": digest("c")}))
        the_pool = pool_of(member_of(pinned), key=key_for(TASK), base_digest=digest("b"))
        (ask,) = planned(the_pool, revisions=(pinned,)).resolve
        assert ask.request.digest == digest("c")

    def test_recorded_digest_is_not_asked_again(self) -> None:
        the_pool = pool_of(member_of(REVISION), key=key_for(TASK), base_digest=digest("b"))
        plan = planned(the_pool)
        assert plan.resolve == ()
        assert member_status(plan).reason == Reason.LOADING

    def test_failure_is_retried_later_and_shown_until_then(self) -> None:
        failure = ResolutionFailure(
            kind=ArtifactKind.ADAPTER,
            revision=REVISION.metadata.name,
            reason="ArtifactNotFound",
            message="no tag v1",
            permanent=False,
            attempts=2,
            at=later(-4),
        )
        plan = self.unresolved(failures=(failure,))
        assert [ask.request.kind for ask in plan.resolve] == [ArtifactKind.BASE]
        assert plan.requeue_after == pytest.approx(6)
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.PENDING, "ArtifactNotFound")

        due = self.unresolved(failures=(replace(failure, at=later(-11)),))
        assert ArtifactKind.ADAPTER in {ask.request.kind for ask in due.resolve}

    def test_permanent_failure_of_a_member_is_its_state(self) -> None:
        failure = ResolutionFailure(
            kind=ArtifactKind.ADAPTER,
            revision=REVISION.metadata.name,
            reason="DigestMismatch",
            message="other bytes",
            permanent=True,
            attempts=1,
            at=NOW,
        )
        assert member_status(self.unresolved(failures=(failure,))).state is MemberState.FAILED

    def test_base_that_cannot_be_resolved_explains_the_pool(self) -> None:
        failure = ResolutionFailure(
            kind=ArtifactKind.BASE, revision="", reason="ArtifactNotFound", message="no tag v1", permanent=False, attempts=1, at=NOW
        )
        plan = self.unresolved(failures=(failure,))
        assert reason_of(plan) == "ArtifactNotFound"
        assert "oci://registry.example/tiny-invoices v1" in status_of(plan).conditions[0].message

    def test_credentials_that_were_put_right_are_tried_within_half_a_minute(self) -> None:
        """Nobody tells of a changed Secret; the kubelet takes up to a minute to bring it into the pod."""
        waits = {retry_seconds(attempts, reason="CredentialsMissing") for attempts in range(1, 40)}
        assert max(waits) == 30
        failure = ResolutionFailure(
            kind=ArtifactKind.ADAPTER,
            revision=REVISION.metadata.name,
            reason="CredentialsMissing",
            message="no entry",
            permanent=False,
            attempts=20,
            at=NOW,
        )
        assert self.unresolved(failures=(failure,)).requeue_after == pytest.approx(30)

    def test_waits_grow_and_are_bounded(self) -> None:
        waits = [retry_seconds(attempts) for attempts in range(1, 40)]
        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (5, 300)
