"""Of any snapshot, however torn: one summary holds, traffic is never dropped, and only what is proven gets it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.modelpool import MemberState
from taskfleet.api.revision import TaskModelRevision
from taskfleet.planning import taskmodel
from taskfleet.planning.conditions import holds
from taskfleet.planning.revisions import Phase
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

VERSIONS = ("v1", "v2", "v3")
REASONS = ("Loading", "NoReadyPods", "SourceUnavailable", "ArtifactNotFound", "Resolving", "Novelty")


@st.composite
def revisions(draw: st.DrawFn) -> list[TaskModelRevision]:
    result = []
    for number, version in enumerate(VERSIONS):
        if draw(st.booleans()):
            found = draw(st.sampled_from([None, digest(str(number))]))
            phase = draw(st.sampled_from([None, *Phase]))
            result.append(revision_of(task_model(version=version), digest=found, phase=phase))
    return result


@st.composite
def snapshots(draw: st.DrawFn) -> TaskSnapshot:
    found = draw(revisions())
    spec: dict[str, Any] = {"suspend": draw(st.booleans())}
    if draw(st.integers(0, 4)) == 0:
        spec["base"] = {**BASE, "source": "pvc://absent/Qwen3"}
    class_name = draw(st.sampled_from(["l4", "l4", "l4", "h100", None]))
    task = task_model(version=draw(st.sampled_from(VERSIONS)), **spec | {"servingClassName": class_name})
    pools = []
    for name in ("l4", "h100"):
        members = [revision for revision in found if draw(st.booleans())]
        statuses = [
            said(revision, draw(st.sampled_from(MemberState)), draw(st.sampled_from(REASONS)))
            for revision in members
            if draw(st.booleans())
        ]
        ready = draw(st.integers(0, 2))
        status = pool_status(*statuses, ready=ready, available=ready > 0, reason="Serving" if ready else draw(st.sampled_from(REASONS)))
        recorded = [member_of(revision, digest=draw(st.sampled_from([revision.status.digest, None]))) for revision in members]
        if members:
            pools.append(pool_of(*recorded, key=key_for(task_model(), name), status=status if draw(st.booleans()) else None))
    given_status: dict[str, Any] = {}
    if draw(st.booleans()):
        routed = draw(st.sampled_from(VERSIONS))
        old = revision_of(task_model(version=routed))
        pool = key_for(task_model(), draw(st.sampled_from(["l4", "h100"]))).pool_name(0)
        given_status["traffic"] = [{"revision": old.metadata.name, "uid": old.metadata.uid, "pool": pool, "weightPercent": 100}]
    if draw(st.booleans()):
        phase = draw(st.sampled_from(["Resolving", "Proving", "Draining", "Done", "Failed"]))
        given_status["rollout"] = {
            "revision": revision_of(task_model(version=draw(st.sampled_from(VERSIONS)))).metadata.name,
            "phase": phase,
        }
    task = with_status(task, **given_status)
    views = draw(
        st.sampled_from([None, (), (GatewayView(name="a", traffic=None),), (GatewayView(name="a", traffic=tuple(task.status.traffic)),)])
    )
    classes = (serving_class("l4", default=draw(st.booleans())), serving_class("h100"))
    return TaskSnapshot(
        task=task,
        serving_classes=classes,
        revisions=tuple(found),
        pools=tuple(pools),
        gateways=views,
        refusal=draw(st.sampled_from([None, None, None, Refusal(Reason.API_REFUSED, "forbidden")])),
    )


@settings(max_examples=400)
@given(snapshot=snapshots())
def test_exactly_one_summary_holds(snapshot: TaskSnapshot) -> None:
    status = taskmodel.plan(snapshot, now=NOW).status
    assert status is not None
    assert status.observed_generation == snapshot.task.metadata.generation
    summaries = [kind for kind in (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED) if holds(status.conditions, kind)]
    assert len(summaries) == 1
    assert len({condition.type for condition in status.conditions}) == len(status.conditions)
    assert all(condition.message for condition in status.conditions)


@settings(max_examples=400)
@given(snapshot=snapshots())
def test_traffic_is_replaced_only_by_what_is_proven_and_never_dropped(snapshot: TaskSnapshot) -> None:
    status = taskmodel.plan(snapshot, now=NOW).status
    assert status is not None
    before = [(target.revision, target.pool) for target in snapshot.task.status.traffic]
    after = [(target.revision, target.pool) for target in status.traffic]
    assert after or not before
    if before and after != before:
        ((revision, pool_name),) = after
        pool = next(pool for pool in snapshot.pools if pool.metadata.name == pool_name)
        assert revision in {member.revision for member in pool.status.members if member.state is MemberState.PROVEN}
        assert not snapshot.task.spec.suspend
    if status.traffic:
        assert [target.weight_percent for target in status.traffic] == [100]


@settings(max_examples=400)
@given(snapshot=snapshots())
def test_ready_means_that_it_can_answer(snapshot: TaskSnapshot) -> None:
    status = taskmodel.plan(snapshot, now=NOW).status
    assert status is not None
    if holds(status.conditions, ConditionType.READY):
        for kind in (ConditionType.ACCEPTED, ConditionType.ASSIGNED, ConditionType.ADAPTER_READY, ConditionType.AVAILABLE):
            assert holds(status.conditions, kind)
        assert status.traffic


@settings(max_examples=300)
@given(snapshot=snapshots())
def test_same_snapshot_comes_to_rest(snapshot: TaskSnapshot) -> None:
    """With nothing new observed, a few rounds of writing what was planned end in a status that is planned again."""
    task, found = snapshot.task, snapshot.revisions
    previous = None
    for number in range(6):
        current = TaskSnapshot(
            task=task,
            serving_classes=snapshot.serving_classes,
            revisions=found,
            pools=snapshot.pools,
            gateways=snapshot.gateways
            and tuple(GatewayView(name=view.name, traffic=tuple(task.status.traffic)) for view in snapshot.gateways),
            refusal=snapshot.refusal,
        )
        result = taskmodel.plan(current, now=later(60 * number))
        assert result.status is not None
        task = task.model_copy(update={"status": result.status})
        found = tuple(revision.model_copy(update={"status": result.revision_statuses[revision.metadata.name]}) for revision in found)
        if previous == (task.status, found):
            assert result.events == ()
            return
        previous = (task.status, found)
    raise AssertionError("never comes to rest")


@settings(max_examples=300)
@given(snapshot=snapshots())
def test_nothing_that_has_traffic_or_a_place_is_deleted(snapshot: TaskSnapshot) -> None:
    result = taskmodel.plan(snapshot, now=NOW)
    members = {member.revision for pool in snapshot.pools for member in pool.spec.members}
    routed = {target.revision for target in snapshot.task.status.traffic}
    assert not set(result.delete_revisions) & (members | routed)
