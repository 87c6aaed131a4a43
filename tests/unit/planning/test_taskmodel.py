"""What is decided for one TaskModel: the rollout's steps, and what its status says at each."""

from typing import Any

import pytest

from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import MemberState, ModelPoolStatus, Role
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModel, TaskModelStatus, TrafficTarget
from taskfleet.planning import taskmodel
from taskfleet.planning.conditions import Outlook, outlook_of
from taskfleet.planning.plans import TaskPlan
from taskfleet.planning.revisions import Phase
from taskfleet.planning.revisionstatus import with_digest
from taskfleet.planning.snapshot import GatewayView, Refusal, TaskSnapshot
from tests.unit.planning.builders import (
    BASE,
    NOW,
    digest,
    key_for,
    later,
    member_of,
    pool_of,
    pool_status,
    revision_of,
    said,
    serving_class,
    task_model,
    with_status,
)

V1 = revision_of(task_model(version="v1"), digest=digest("1"), phase=Phase.STABLE)
V2 = revision_of(task_model(version="v2"), digest=digest("2"), phase=Phase.PENDING)
KEY = key_for(task_model())
POOL = KEY.pool_name(0)


def route(revision: TaskModelRevision, pool: str = POOL) -> TrafficTarget:
    return TrafficTarget(revision=revision.metadata.name, uid=revision.metadata.uid, pool=pool, weight_percent=100)


def serving(task: TaskModel, revision: TaskModelRevision, phase: str = "Done") -> TaskModel:
    reference = {"revision": revision.metadata.name, "version": "v1", "digest": revision.status.digest}
    rollout = {"revision": revision.metadata.name, "phase": phase, "startedAt": "2026-01-01T00:00:00Z"}
    return with_status(
        task, traffic=[route(revision).to_json()], rollout=rollout, stable=reference, servingClassName="l4", url="http://gateway.example/v1"
    )


def plan(
    task: TaskModel,
    *members: tuple[TaskModelRevision, MemberState, str],
    gateways: tuple[GatewayView, ...] | None = None,
    status: ModelPoolStatus | None = None,
    **fields: Any,
) -> TaskPlan:
    pool = pool_of(
        *(member_of(revision, role=Role.STABLE, digest=revision.status.digest) for revision, _, _ in members),
        key=KEY,
        status=status or pool_status(*(said(revision, state, reason) for revision, state, reason in members)),
    )
    plain: dict[str, Any] = {
        "serving_classes": (serving_class(),),
        "revisions": tuple(revision for revision, _, _ in members),
        "pools": (pool,),
    }
    return taskmodel.plan(TaskSnapshot(task=task, gateways=gateways, gateway_url="http://gateway.example", **plain | fields), now=NOW)


def status_of(result: TaskPlan) -> TaskModelStatus:
    assert result.status is not None
    return result.status


def outlook(result: TaskPlan) -> tuple[Outlook | None, str]:
    conditions = status_of(result).conditions
    return outlook_of(conditions), next(condition.reason for condition in conditions if condition.type == "Ready")


def condition(result: TaskPlan, kind: str) -> tuple[str, str, str]:
    found = next(condition for condition in status_of(result).conditions if condition.type == kind)
    return found.status, found.reason, found.message


PROVEN = (MemberState.PROVEN, "Proven")
LOADING = (MemberState.PENDING, "Loading")


class TestImmediateRollout:
    def test_proven_target_gets_all_traffic_at_once(self) -> None:
        result = plan(serving(task_model(version="v2"), V1), (V1, *PROVEN), (V2, *PROVEN))
        assert status_of(result).traffic == [route(V2)]
        assert status_of(result).rollout is not None
        assert status_of(result).rollout.phase == "Draining"  # type: ignore[union-attr]
        assert result.ask_gateways
        assert next(event.reason for event in result.events) == "Promoted"

    def test_target_that_is_not_proven_gets_none(self) -> None:
        result = plan(serving(task_model(version="v2"), V1), (V1, *PROVEN), (V2, *LOADING))
        assert status_of(result).traffic == [route(V1)]
        assert outlook(result) == (Outlook.RECONCILING, "Loading")

    def test_proof_of_other_bytes_is_no_proof(self) -> None:
        # The pool speaks of the digest in its members; the revision's record, by which gateways name the adapter, has another one.
        pool = pool_of(
            member_of(V1, digest=digest("1")), member_of(V2, digest=digest("9")), key=KEY, status=pool_status(said(V1), said(V2))
        )
        result = plan(serving(task_model(version="v2"), V1), revisions=(V1, V2), pools=(pool,))
        assert status_of(result).traffic == [route(V1)]

    def test_new_stable_is_named_when_every_gateway_follows(self) -> None:
        task = serving(task_model(version="v2"), V2, phase="Draining")
        task = with_status(task, **task.status.to_json() | {"stable": {"revision": V1.metadata.name}})
        deaf = GatewayView(name="a", traffic=(route(V1),))
        follows = GatewayView(name="b", traffic=(route(V2),))
        not_all: tuple[tuple[GatewayView, ...] | None, ...] = (None, (deaf, follows), (GatewayView(name="a", traffic=None), follows))
        for views in not_all:
            waiting = plan(task, (V1, *PROVEN), (V2, *PROVEN), gateways=views)
            assert status_of(waiting).rollout.phase == "Draining"  # type: ignore[union-attr]
            assert status_of(waiting).stable.revision == V1.metadata.name  # type: ignore[union-attr]
            assert waiting.ask_gateways
            assert waiting.requeue_after is not None
        everybody: tuple[tuple[GatewayView, ...], ...] = ((follows,), ())
        for views in everybody:
            done = plan(task, (V1, *PROVEN), (V2, *PROVEN), gateways=views)
            assert status_of(done).rollout.phase == "Done"  # type: ignore[union-attr]
            assert status_of(done).stable.revision == V2.metadata.name  # type: ignore[union-attr]
            assert not done.ask_gateways

    def test_gateway_that_starts_after_the_end_changes_nothing(self) -> None:
        result = plan(serving(task_model(), V1), (V1, *PROVEN), gateways=(GatewayView(name="new", traffic=None),))
        assert status_of(result).rollout.phase == "Done"  # type: ignore[union-attr]

    def test_next_version_waits_for_the_gateways_only_until_it_is_proven(self) -> None:
        v3 = revision_of(task_model(version="v3"), digest=digest("3"))
        task = serving(task_model(version="v3"), V2, phase="Draining")
        waiting = plan(task, (V1, *PROVEN), (V2, *PROVEN), (v3, *LOADING))
        assert status_of(waiting).rollout.phase == "Draining"  # type: ignore[union-attr]
        assert status_of(waiting).rollout.revision == V2.metadata.name  # type: ignore[union-attr]
        switched = plan(task, (V1, *PROVEN), (V2, *PROVEN), (v3, *PROVEN))
        assert status_of(switched).traffic == [route(v3)]

    def test_failed_target_leaves_the_stable_one_alone_and_says_why(self) -> None:
        result = plan(serving(task_model(version="v2"), V1), (V1, *PROVEN), (V2, MemberState.FAILED, "ArtifactInvalid"))
        assert status_of(result).traffic == [route(V1)]
        assert outlook(result) == (Outlook.STALLED, "CandidateFailed")
        assert condition(result, "Available")[0] == "True"
        assert condition(result, "RolloutHealthy")[:2] == ("False", "CandidateFailed")
        assert result.revision_statuses[V2.metadata.name].phase == Phase.FAILED
        assert [event.type for event in result.events] == ["Warning"]

    def test_failed_first_version_says_its_own_reason(self) -> None:
        result = plan(task_model(version="v2"), (V2, MemberState.FAILED, "ArtifactInvalid"))
        assert status_of(result).traffic == []
        assert outlook(result) == (Outlook.STALLED, "ArtifactInvalid")

    def test_back_to_the_version_that_serves_ends_the_rollout_at_once(self) -> None:
        task = serving(task_model(version="v1"), V1, phase="Done")
        task = with_status(task, **task.status.to_json() | {"rollout": {"revision": V2.metadata.name, "phase": "Failed"}})
        result = plan(task, (V1, *PROVEN), gateways=(GatewayView(name="a", traffic=(route(V1),)),))
        assert status_of(result).rollout.phase == "Done"  # type: ignore[union-attr]
        assert outlook(result)[0] is Outlook.READY

    def test_move_to_another_pool_is_a_rollout_of_the_same_revision(self) -> None:
        other = key_for(task_model(), "h100")
        new_pool = pool_of(member_of(V1, digest=digest("1")), key=other, status=pool_status(said(V1)))
        old_pool = pool_of(member_of(V1, digest=digest("1")), key=KEY, status=pool_status(said(V1)))
        task = serving(task_model(servingClassName="h100"), V1)
        result = plan(task, revisions=(V1,), pools=(old_pool, new_pool), serving_classes=(serving_class(), serving_class("h100")))
        assert status_of(result).traffic == [route(V1, other.pool_name(0))]
        assert status_of(result).rollout.phase == "Draining"  # type: ignore[union-attr]
        assert set(result.packing_keys) == {KEY, other}

    def test_task_without_adapter_goes_the_same_way(self) -> None:
        bare = revision_of(task_model(version=None))
        result = plan(task_model(version=None), (bare, *PROVEN))
        assert status_of(result).traffic == [route(bare)]


class TestLostStatus:
    def test_known_route_is_restored_from_the_revision_that_was_stable(self) -> None:
        result = plan(task_model(version="v2"), (V1, *PROVEN), (V2, *LOADING))
        assert status_of(result).traffic == [route(V1)]
        assert status_of(result).stable.revision == V1.metadata.name  # type: ignore[union-attr]

    def test_route_is_restored_for_a_suspended_task_too(self) -> None:
        result = plan(task_model(version="v2", suspend=True), (V1, *PROVEN))
        assert status_of(result).traffic == [route(V1)]

    def test_route_of_a_revision_that_is_gone_stays(self) -> None:
        result = plan(serving(task_model(version="v2"), V1), (V2, *LOADING))
        assert status_of(result).traffic == [route(V1)]

    def test_revision_that_was_made_again_keeps_its_route_under_its_new_uid(self) -> None:
        again = V1.model_copy(update={"metadata": V1.metadata.model_copy(update={"uid": "another"})})
        result = plan(serving(task_model(), V1), (again, *PROVEN))
        assert [target.uid for target in status_of(result).traffic] == ["another"]
        assert result.ask_gateways

    def test_digest_is_restored_from_the_pool(self) -> None:
        wiped = V1.model_copy(update={"status": type(V1.status)()})
        pool = pool_of(member_of(V1, digest=digest("1")), key=KEY, status=pool_status(said(V1)))
        result = plan(serving(task_model(), V1), revisions=(wiped,), pools=(pool,))
        assert result.revision_statuses[V1.metadata.name].digest == digest("1")


class TestStatus:
    def test_settled_task_is_ready_and_plans_the_same_again(self) -> None:
        first = plan(serving(task_model(), V1), (V1, *PROVEN))
        assert outlook(first) == (Outlook.READY, "Serving")
        again = task_model().model_copy(update={"status": status_of(first)})
        snapshot = TaskSnapshot(
            task=again,
            serving_classes=(serving_class(),),
            revisions=(V1.model_copy(update={"status": first.revision_statuses[V1.metadata.name]}),),
            pools=(pool_of(member_of(V1, digest=digest("1")), key=KEY, status=pool_status(said(V1))),),
            gateway_url="http://gateway.example",
        )
        second = taskmodel.plan(snapshot, now=later(3600))
        assert second.status == first.status
        assert second.revision_statuses == first.revision_statuses
        assert (second.events, second.requeue_after, second.delete_revisions) == ((), None, ())

    def test_url_and_class_are_recorded(self) -> None:
        result = plan(task_model(servingClassName=None), serving_classes=(serving_class(default=True),))
        assert status_of(result).url == "http://gateway.example/v1"
        assert status_of(result).serving_class_name == "l4"

    def test_missing_class_is_not_recorded(self) -> None:
        assert status_of(plan(task_model(servingClassName="h100"))).serving_class_name is None

    @pytest.mark.parametrize("reason", ["Unschedulable", "ImageUnavailable", "EngineCrashing", "PodRefused", "ApiRefused"])
    def test_trouble_of_the_pool_is_copied_to_the_task(self, reason: str) -> None:
        status = pool_status(said(V1, MemberState.PENDING, "NoReadyPods"), ready=0, available=False, reason=reason, message="0/3 nodes")
        result = plan(task_model(), (V1, MemberState.PENDING, "NoReadyPods"), status=status)
        assert outlook(result) == (Outlook.STALLED, reason)
        assert condition(result, "Available")[:2] == ("False", reason)
        assert "0/3 nodes" in condition(result, "Ready")[2]

    def test_version_with_other_bytes_upstream_is_told_once_and_serves_on(self) -> None:
        moved = said(V1).model_copy(update={"upstream_digest": digest("f")})
        first = plan(serving(task_model(), V1), (V1, *PROVEN), status=pool_status(moved))
        assert outlook(first) == (Outlook.READY, "Serving")
        status, reason, message = condition(first, "VersionMoved")
        assert (status, reason) == ("True", "NewBytesUpstream")
        assert digest("f") in message
        assert digest("1") in message
        assert [(event.type, event.reason) for event in first.events if event.reason != "Serving"] == [("Warning", "NewBytesUpstream")]
        again = plan(task_model().model_copy(update={"status": status_of(first)}), (V1, *PROVEN), status=pool_status(moved))
        assert again.events == ()
        back = plan(task_model().model_copy(update={"status": status_of(first)}), (V1, *PROVEN))
        assert "VersionMoved" not in {condition.type for condition in status_of(back).conditions}

    def test_only_pod_without_the_adapter_makes_the_task_unavailable(self) -> None:
        one = plan(serving(task_model(), V1), (V1, *LOADING))
        assert condition(one, "Available")[:2] == ("False", "Loading")
        status = pool_status(said(V1, *LOADING), ready=2)
        two = plan(serving(task_model(), V1), (V1, *LOADING), status=status)
        assert condition(two, "Available")[0] == "True"
        assert outlook(two) == (Outlook.RECONCILING, "Loading")

    def test_fields_without_effect_are_named_and_the_task_is_accepted(self) -> None:
        result = plan(task_model(savings={"reference": {"name": "big", "inputPricePerMillion": "3", "outputPricePerMillion": "15"}}))
        assert condition(result, "Accepted")[0] == "True"
        assert "spec.savings" in condition(result, "FieldsWithoutEffect")[2]

    @pytest.mark.parametrize(
        "wish", [{"minReplicas": 0}, {"minReplicas": 3}, {"maxReplicas": 2, "targetConcurrency": 4, "idleSeconds": 60}]
    )
    def test_wishes_of_scaling_have_their_effect(self, wish: dict[str, int]) -> None:
        assert "FieldsWithoutEffect" not in {found.type for found in status_of(plan(task_model(scaling=wish))).conditions}

    @pytest.mark.parametrize("reason", ["AtZero", "Waking"])
    def test_sleeping_task_is_ready_and_keeps_its_traffic(self, reason: str) -> None:
        asleep = pool_status(said(V1), ready=0, reason=reason, message="the next request wakes it")
        result = plan(serving(task_model(), V1), (V1, *PROVEN), status=asleep)
        assert condition(result, "Available")[:2] == ("True", reason)
        assert condition(result, "AdapterReady")[0] == "True"
        assert outlook(result) == (Outlook.READY, reason)
        assert [(target.revision, target.weight_percent) for target in status_of(result).traffic] == [(V1.metadata.name, 100)]

    def test_new_version_waits_for_pods_of_a_sleeping_pool_while_the_old_one_keeps_its_traffic(self) -> None:
        v2 = revision_of(task_model(version="v2"), digest=digest("2"))
        asleep = pool_status(said(V1), said(v2, MemberState.PENDING, "NoReadyPods", "no pod is Ready"), ready=0, reason="AtZero")
        result = plan(serving(task_model(version="v2"), V1), (V1, *PROVEN), (v2, MemberState.PENDING, "NoReadyPods"), status=asleep)
        assert condition(result, "Available")[:2] == ("True", "AtZero")
        assert outlook(result) == (Outlook.RECONCILING, "NoReadyPods")
        assert [target.revision for target in status_of(result).traffic] == [V1.metadata.name]

    def test_sleeping_pool_without_its_adapter_is_no_place_to_wake_for(self) -> None:
        asleep = pool_status(said(V1, *LOADING), ready=0, reason="AtZero")
        result = plan(serving(task_model(), V1), (V1, *LOADING), status=asleep)
        assert condition(result, "Available")[0] == "False"

    def test_refused_write_is_shown(self) -> None:
        result = plan(task_model(), (V1, *PROVEN), refusal=Refusal(Reason.API_REFUSED, "quota exceeded"))
        assert outlook(result) == (Outlook.STALLED, "ApiRefused")

    def test_invalid_spec_leaves_everything_that_serves(self) -> None:
        result = plan(serving(task_model(base={**BASE, "source": "pvc://absent/Qwen3"}), V1), (V1, *PROVEN))
        assert outlook(result) == (Outlook.STALLED, "ClaimNotOffered")
        assert (result.revision, result.delete_revisions) == (None, ())
        assert status_of(result).traffic == [route(V1)]
        assert condition(result, "Available")[0] == "True"

    def test_unreadable_task_keeps_its_routes_and_says_so_once(self) -> None:
        before = status_of(plan(serving(task_model(), V1), (V1, *PROVEN)))
        status, events = taskmodel.unreadable(before, "spec.base: Field required", generation=2, now=NOW)
        assert status.traffic == before.traffic
        assert status.observed_generation == 2
        assert outlook_of(status.conditions) is Outlook.STALLED
        assert [event.type for event in events] == ["Warning"]
        assert taskmodel.unreadable(status, "spec.base: Field required", generation=2, now=later(60)) == (status, ())


class TestSuspension:
    def test_nothing_of_the_task_is_changed(self) -> None:
        task = serving(task_model(version="v2", suspend=True), V1)
        result = plan(task, (V1, *PROVEN), (V2, *PROVEN))
        assert (result.revision, result.delete_revisions) == (None, ())
        assert status_of(result).traffic == [route(V1)]
        assert outlook(result) == (Outlook.STALLED, "Suspended")

    def test_task_that_serves_its_spec_is_ready_all_the_same(self) -> None:
        result = plan(serving(task_model(suspend=True), V1), (V1, *PROVEN))
        assert outlook(result) == (Outlook.READY, "Serving")
        assert "suspend" in condition(result, "Ready")[2]


class TestRevisions:
    def test_target_is_drafted_with_its_task_as_owner(self) -> None:
        draft = plan(task_model(version="v2")).revision
        assert draft is not None
        assert (draft.name, draft.task_model_uid) == (V2.metadata.name, "task-total")

    def test_members_of_pools_are_never_deleted(self) -> None:
        result = plan(serving(task_model(version="v1"), V1), (V1, *PROVEN), (V2, *LOADING))
        assert result.delete_revisions == ()

    def test_revision_that_nobody_needs_is_deleted(self) -> None:
        result = plan(serving(task_model(), V1), (V1, *PROVEN), revisions=(V1, V2))
        assert result.delete_revisions == (V2.metadata.name,)

    def test_digest_is_recorded_once(self) -> None:
        fresh = revision_of(task_model())
        assert with_digest(fresh, digest("1")).digest == digest("1")
        assert with_digest(V1, digest("1")) == V1.status
        with pytest.raises(ValueError, match="has the digest"):
            with_digest(V1, digest("2"))

    def test_deleted_task_only_leaves_its_pools(self) -> None:
        task = serving(task_model(), V1)
        metadata = task.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
        result = plan(task.model_copy(update={"metadata": metadata}), (V1, *PROVEN))
        assert result == TaskPlan(packing_keys=(KEY,))
