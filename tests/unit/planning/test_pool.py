"""What a pool's agents are told and asked, and what its status says of pods and members."""

from dataclasses import replace
from typing import Any

import pytest

from taskfleet.api.agent import AdapterPhase, ArtifactKind
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import MemberState, MemberStatus, ModelPool, ModelPoolStatus, Role
from taskfleet.api.revision import TaskModelRevision
from taskfleet.planning import pool
from taskfleet.planning.conditions import Outlook, outlook_of
from taskfleet.planning.plans import PoolPlan
from taskfleet.planning.resolution import retry_seconds
from taskfleet.planning.snapshot import AgentView, ContainerView, PodView, PoolSnapshot, Refusal, ResolutionFailure
from tests.unit.planning.builders import (
    NOW,
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

TASK = task_model("total")
REVISION = revision_of(TASK, digest=digest("a"))
ENGINE_NAME = f"finance.total.{'a' * 32}"


def the_pool(**fields: Any) -> ModelPool:
    return pool_of(member_of(REVISION, digest=digest("a")), key=key_for(TASK), generation=3, base_digest=digest("b"), **fields)


def snapshot(the_pool: ModelPool, **fields: Any) -> PoolSnapshot:
    plain: dict[str, Any] = {
        "serving_class": serving_class(),
        "deployment": deployment(),
        "pods": (pod(),),
        "agents": (agent(the_pool, "pod-a", report(ENGINE_NAME)),),
        "revisions": (REVISION,),
    }
    return PoolSnapshot(pool=the_pool, **plain | fields)


def planned(the_pool: ModelPool, **fields: Any) -> PoolPlan:
    return pool.plan(snapshot(the_pool, **fields), now=NOW)


def status_of(plan: PoolPlan) -> ModelPoolStatus:
    assert plan.status is not None
    return plan.status


def member_status(plan: PoolPlan) -> MemberStatus:
    (member,) = status_of(plan).members
    return member


def reason_of(plan: PoolPlan) -> str:
    return next(condition.reason for condition in status_of(plan).conditions if condition.type == "Ready")


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


class TestDesiredDocument:
    def test_says_what_the_pods_hold(self) -> None:
        desired = planned(the_pool()).desired
        assert desired is not None
        assert desired.generation == 3
        assert desired.base_digest == digest("b")
        assert desired.served_base_name == the_pool().metadata.name
        assert not desired.serve_base
        assert [(adapter.engine_name, adapter.adapter.digest) for adapter in desired.adapters] == [(ENGINE_NAME, digest("a"))]
        assert (desired.limits.max_rank, desired.limits.max_adapter_bytes) == (64, 2 * 2**30)

    def test_leaves_out_members_without_digest(self) -> None:
        unresolved = pool_of(member_of(revision_of(TASK)), key=key_for(TASK))
        desired = planned(unresolved, revisions=(revision_of(TASK),), agents=()).desired
        assert desired is not None
        assert desired.adapters == ()

    def test_lists_equal_bytes_once_in_the_name_of_the_stable_revision(self) -> None:
        other = revision_of(task_model("total", task={"systemPrompt": "Be brief."}), digest=digest("a"))
        members = (member_of(other, role=Role.CANDIDATE, digest=digest("a")), member_of(REVISION, digest=digest("a")))
        desired = planned(pool_of(*members, key=key_for(TASK))).desired
        assert desired is not None
        assert [adapter.revision for adapter in desired.adapters] == [REVISION.metadata.name]

    def test_serves_the_base_only_where_a_member_has_no_adapter(self) -> None:
        bare = revision_of(task_model("chat", version=None))
        desired = planned(pool_of(member_of(bare), key=key_for(TASK))).desired
        assert desired is not None
        assert desired.serve_base

    @pytest.mark.parametrize("broken", [None, serving_class(engine={"type": "vLLM", "image": "i", "args": ["--port=1"]})])
    def test_cannot_be_said_without_a_usable_class(self, broken: Any) -> None:
        plan = planned(the_pool(), serving_class=broken)
        assert plan.desired is None
        assert outlook_of(status_of(plan).conditions) is Outlook.STALLED
        # What runs goes on, and is still seen.
        assert status_of(plan).ready_replicas == 1

    def test_is_put_to_agents_that_are_behind(self) -> None:
        agents = (
            agent(the_pool(), "pod-a", generation=3),
            agent(the_pool(), "pod-b", generation=2),
            agent(pool_of(key=key_for(TASK), index=1), "pod-c", generation=9),
            AgentView(pod="pod-d"),
            agent(the_pool(), "pod-gone", generation=1),
        )
        plan = planned(the_pool(), pods=tuple(pod(f"pod-{letter}") for letter in "abcd"), agents=agents)
        assert plan.put_to == ("pod-b", "pod-c")

    def test_is_put_to_agents_with_limits_that_the_class_no_longer_has(self) -> None:
        """A changed class gives the pool no new generation, and the kubelet brings the ConfigMap within a minute only."""
        before = planned(the_pool(), serving_class=serving_class(adapters={"maxRank": 16})).desired
        now = planned(the_pool()).desired
        assert before is not None
        assert now is not None
        assert before.generation == now.generation
        agents = (
            agent(the_pool(), "pod-a", fingerprint=now.fingerprint),
            agent(the_pool(), "pod-b", fingerprint=before.fingerprint),
            agent(the_pool(), "pod-c", fingerprint=before.fingerprint, generation=4),
        )
        plan = planned(the_pool(), pods=tuple(pod(f"pod-{letter}") for letter in "abc"), agents=agents)
        assert plan.put_to == ("pod-b",)

    def test_is_not_put_again_and_again_to_an_agent_that_names_no_fingerprint(self) -> None:
        assert planned(the_pool(), agents=(agent(the_pool(), "pod-a", fingerprint=None),)).put_to == ()

    def test_has_the_same_fingerprint_as_long_as_it_says_the_same(self) -> None:
        def fingerprint(**fields: Any) -> str | None:
            desired = planned(the_pool(), **fields).desired
            return desired.fingerprint if desired is not None else None

        assert fingerprint() == fingerprint()
        others: list[dict[str, Any]] = [{"adapters": {"maxRank": 16}}, {"adapters": {"maxSize": "1Mi"}}, {"store": {"maxBaseSize": "1Gi"}}]
        assert len({fingerprint(), *(fingerprint(serving_class=serving_class(**other)) for other in others)}) == 4


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


class TestMembers:
    def test_every_ready_pod_must_have_proven_it(self) -> None:
        agents = (
            agent(the_pool(), "pod-a", report(ENGINE_NAME)),
            agent(the_pool(), "pod-b", report(ENGINE_NAME, AdapterPhase.LOADING, "Loading", "the engine is busy")),
        )
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), agents=agents)
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.PENDING, "Loading")
        assert member_status(plan).message == "pod pod-b: the engine is busy"

    def test_steps_that_go_well_are_told_in_the_same_words_in_whatever_pod(self) -> None:
        staging, loading = (report(ENGINE_NAME, phase, "Loading") for phase in (AdapterPhase.STAGING, AdapterPhase.LOADING))
        said = set()
        for first, second in ((staging, staging), (loading, staging), (report(ENGINE_NAME), loading)):
            agents = (agent(the_pool(), "pod-a", first), agent(the_pool(), "pod-b", second))
            said.add(member_status(planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), agents=agents)))
        assert [one.state for one in said] == [MemberState.PENDING]

    def test_pods_that_serve_nobody_do_not_count(self) -> None:
        agents = (
            agent(the_pool(), "pod-a", report(ENGINE_NAME)),
            agent(the_pool(), "pod-b", report(ENGINE_NAME, AdapterPhase.STAGING, "Loading")),
        )
        for other in (pod("pod-b", ready=False), pod("pod-b", deleting=True)):
            assert member_status(planned(the_pool(), pods=(pod("pod-a"), other), agents=agents)).state is MemberState.PROVEN

    def test_no_ready_pod_proves_nothing(self) -> None:
        plan = planned(the_pool(), pods=(pod(ready=False),))
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.PENDING, "NoReadyPods")

    def test_one_pod_that_refuses_it_for_good_fails_it(self) -> None:
        refused = report(ENGINE_NAME, AdapterPhase.FAILED, "ArtifactInvalid", "rank 128 is above 64")
        agents = (agent(the_pool(), "pod-a", report(ENGINE_NAME)), agent(the_pool(), "pod-b", refused))
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b", ready=False)), agents=agents)
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.FAILED, "ArtifactInvalid")

    def test_reason_of_another_version_of_the_agent_is_translated(self) -> None:
        plan = planned(the_pool(), agents=(agent(the_pool(), "pod-a", report(ENGINE_NAME, AdapterPhase.FAILED, "Novelty")),))
        assert member_status(plan).reason == Reason.ENGINE_REJECTED

    def test_unheard_agent_changes_nothing_that_was_said(self) -> None:
        proven = status_of(planned(the_pool()))
        plan = planned(the_pool(status=proven), agents=(AgentView(pod="pod-a"),))
        assert plan.status == proven

    def test_unheard_agent_proves_nothing_new(self) -> None:
        assert member_status(planned(the_pool(), agents=())).state is MemberState.PENDING

    def test_agent_with_an_older_document_proves_nothing_new(self) -> None:
        """It may have let the adapter go between that document and this one, and not have said so yet."""
        generation = the_pool().metadata.generation - 1
        behind = (agent(the_pool(), "pod-a", report(ENGINE_NAME), generation=generation),)
        assert member_status(planned(the_pool(), agents=behind)).state is MemberState.PENDING
        proven = status_of(planned(the_pool()))
        assert planned(the_pool(status=proven), agents=behind).status == proven, "a neighbour that joins unsettles nobody"

    def test_report_for_another_pool_of_the_same_name_does_not_count(self) -> None:
        earlier = pool_of(key=key_for(TASK), index=1)
        plan = planned(the_pool(), agents=(agent(earlier, "pod-a", report(ENGINE_NAME)),))
        assert member_status(plan).state is MemberState.PENDING

    def test_version_that_moved_is_told_by_one_agent_and_kept_while_none_is_heard(self) -> None:
        moved = report(ENGINE_NAME).model_copy(update={"upstream_digest": digest("f")})
        agents = (agent(the_pool(), "pod-a", report(ENGINE_NAME)), agent(the_pool(), "pod-b", moved))
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), agents=agents)
        assert (member_status(plan).state, member_status(plan).upstream_digest) == (MemberState.PROVEN, digest("f"))
        unheard = planned(the_pool(status=status_of(plan)), agents=(AgentView(pod="pod-a"),))
        assert member_status(unheard).upstream_digest == digest("f")
        back = planned(the_pool(status=status_of(plan)))
        assert member_status(back).upstream_digest is None

    def test_version_does_not_matter_where_the_digest_is_pinned(self) -> None:
        adapter = {"source": "oci://registry.example/total", "version": "v1", "digest": digest("a")}
        pinned = revision_of(task_model(adapter=adapter), digest=digest("a"))
        held = pool_of(member_of(pinned, digest=digest("a")), key=key_for(TASK), generation=3, base_digest=digest("b"))
        moved = report(ENGINE_NAME).model_copy(update={"upstream_digest": digest("f")})
        plan = planned(held, revisions=(pinned,), agents=(agent(held, "pod-a", moved),))
        assert (member_status(plan).state, member_status(plan).upstream_digest) == (MemberState.PROVEN, None)

    def test_lost_adapter_is_pending_again(self) -> None:
        proven = status_of(planned(the_pool()))
        plan = planned(the_pool(status=proven), agents=(agent(the_pool(), "pod-a", report(ENGINE_NAME, AdapterPhase.LOADING, "Loading")),))
        assert member_status(plan).state is MemberState.PENDING

    def test_task_without_adapter_is_proven_when_the_pods_know_that_the_base_is_served(self) -> None:
        bare: TaskModelRevision = revision_of(task_model("chat", version=None))
        the_pool = pool_of(member_of(bare), key=key_for(TASK), generation=2, base_digest=digest("b"))
        behind = planned(the_pool, revisions=(bare,), agents=(agent(the_pool, "pod-a", generation=1),))
        assert member_status(behind).state is MemberState.PENDING
        level = planned(the_pool, revisions=(bare,), agents=(agent(the_pool, "pod-a", generation=2),))
        assert member_status(level).state is MemberState.PROVEN


def engine(**fields: Any) -> PodView:
    return pod(ready=False, containers=(ContainerView(name="engine", **fields),))


TROUBLES: list[tuple[dict[str, Any], str, str]] = [
    ({"refusal": Refusal(Reason.API_REFUSED, "Deployment is invalid: spec.template")}, "ApiRefused", "spec.template"),
    ({"deployment": deployment(refusal="exceeded quota: gpus"), "pods": ()}, "PodRefused", "exceeded quota"),
    (
        {"pods": (pod(ready=False, unschedulable="0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),)},
        "Unschedulable",
        "nvidia.com/gpu",
    ),
    ({"pods": (engine(waiting_reason="ImagePullBackOff", waiting_message="not found"),)}, "ImageUnavailable", "not found"),
    ({"pods": (engine(waiting_reason="InvalidImageName"),)}, "ImageUnavailable", "InvalidImageName"),
    ({"pods": (engine(waiting_reason="CreateContainerConfigError", waiting_message="no such key"),)}, "ContainerFailing", "no such key"),
    ({"pods": (engine(waiting_reason="CrashLoopBackOff", last_exit_code=1, restarts=4),)}, "EngineCrashing", "exit code 1"),
    ({"pods": (engine(restarts=2, last_run_seconds=20.0),)}, "EngineCrashing", "container engine"),
    (
        {"pods": (pod(ready=False, containers=(ContainerView(name="agent", waiting_reason="CrashLoopBackOff"),)),)},
        "ContainerFailing",
        "agent",
    ),
    (
        {"pods": (pod(ready=False, phase="Failed", reason="UnexpectedAdmissionError", message="no device"),)},
        "PodRefused",
        "UnexpectedAdmissionError",
    ),
]


class TestPodTrouble:
    @pytest.mark.parametrize(("fields", "reason", "words"), TROUBLES)
    def test_has_a_reason_and_words_and_stalls_the_pool(self, fields: dict[str, Any], reason: str, words: str) -> None:
        plan = planned(the_pool(), **{"deployment": deployment(ready=0)} | fields)
        ready = next(condition for condition in status_of(plan).conditions if condition.type == "Ready")
        assert (ready.reason, outlook_of(status_of(plan).conditions)) == (reason, Outlook.STALLED)
        assert words in ready.message
        assert [event.type for event in plan.events] == ["Warning"]

    def test_base_that_cannot_be_staged_is_shown_before_the_engine_that_waits_for_it(self) -> None:
        agents = (agent(the_pool(), "pod-a", staged=False, reason="SourceUnavailable", message="registry answers 503"),)
        plan = planned(the_pool(), pods=(pod(ready=False),), agents=agents, deployment=deployment(ready=0))
        assert (reason_of(plan), outlook_of(status_of(plan).conditions)) == ("SourceUnavailable", Outlook.RECONCILING)

    def test_words_about_an_image_are_the_same_with_and_without_the_kubelets_backoff(self) -> None:
        why = 'failed to pull and unpack image "x": not found'
        messages = [(why, "ErrImagePull"), (f'Back-off pulling image "x": ErrImagePull: {why}', "ImagePullBackOff")]
        statuses = [
            status_of(planned(the_pool(), pods=(engine(waiting_reason=reason, waiting_message=message),))) for message, reason in messages
        ]
        assert statuses[0] == statuses[1]

    def test_crash_after_a_long_run_is_no_trouble_yet(self) -> None:
        pods = (engine(restarts=5, last_exit_code=137, last_run_seconds=86_400.0),)
        assert reason_of(planned(the_pool(), pods=pods, deployment=deployment(ready=0))) == "Starting"

    def test_one_restart_is_no_trouble(self) -> None:
        plan = planned(the_pool(), pods=(engine(restarts=1),), deployment=deployment(ready=0))
        assert reason_of(plan) == "Starting"

    def test_bad_new_pod_leaves_the_pool_available(self) -> None:
        new = replace(engine(waiting_reason="ErrImagePull", waiting_message="no such image"), name="pod-b")
        half = replace(deployment(), current_replicas=2, updated_replicas=1)
        plan = planned(the_pool(), pods=(pod("pod-a"), new), deployment=half)
        available = next(condition for condition in status_of(plan).conditions if condition.type == "Available")
        assert available.status == "True"
        assert "no such image" in available.message
        assert reason_of(plan) == "ImageUnavailable"

    def test_pod_that_goes_away_is_no_trouble(self) -> None:
        leaving = replace(engine(waiting_reason="CrashLoopBackOff"), name="pod-b", deleting=True)
        assert reason_of(planned(the_pool(), pods=(pod(), leaving))) == "Serving"

    def test_growing_pool_is_progressing(self) -> None:
        grown = the_pool(replicas=2)
        assert reason_of(planned(grown, deployment=deployment(2, ready=1), pods=(pod(), pod("pod-b", ready=False)))) == "Progressing"

    def test_old_failed_pod_says_nothing_while_the_pool_is_whole(self) -> None:
        evicted = pod("pod-0", ready=False, phase="Failed", reason="Evicted")
        assert reason_of(planned(the_pool(), pods=(evicted, pod()))) == "Serving"


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
