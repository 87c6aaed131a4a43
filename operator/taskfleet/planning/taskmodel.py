"""What is to be done for one TaskModel: its revision, its traffic, its status. Pools are `packing`'s, pods are `pool`'s."""

from collections.abc import Sequence
from datetime import datetime

from taskfleet.api.conditions import Condition, ConditionType, Reason
from taskfleet.api.taskmodel import RevisionReference, TaskModelStatus
from taskfleet.planning import revisions
from taskfleet.planning.admission import Admission, admit
from taskfleet.planning.conditions import Finding, events_between, find, merged, shortened, summary_of, timestamp
from taskfleet.planning.packing_key import PackingKey, key_of, key_of_pool
from taskfleet.planning.placement import Placement, placement_in, placement_on, placements
from taskfleet.planning.plans import Event, TaskPlan
from taskfleet.planning.revisionstatus import revision_statuses
from taskfleet.planning.rollout_immediate import Situation, Step, rollout_status, step
from taskfleet.planning.rollout_phase import RolloutPhase
from taskfleet.planning.snapshot import TaskSnapshot
from taskfleet.planning.taskconditions import Standing, findings
from taskfleet.planning.traffic import present_traffic

# How often gateways are asked while a switch is not known to all of them.
DRAIN_POLL_SECONDS = 0.5


def plan(snapshot: TaskSnapshot, *, now: datetime) -> TaskPlan:
    """The plan of one TaskModel."""
    task = snapshot.task
    places = placements(task.metadata.name, snapshot.revisions, snapshot.pools)
    left = {key_of_pool(place.pool) for place in places}
    if task.metadata.deletion_timestamp is not None:
        return TaskPlan(packing_keys=tuple(sorted(left)))
    admission = admit(
        task,
        namespace_labels=snapshot.namespace_labels,
        serving_classes=snapshot.serving_classes,
        pools=snapshot.pools,
        claims=snapshot.claims,
    )
    key = _key(snapshot, admission)
    moving = key is not None and not task.spec.suspend
    draft = revisions.draft(task) if moving else None
    next_step, standing = _decide(snapshot, admission, key, places, moving=moving)
    status = _status(snapshot, standing, now=now)
    statuses = revision_statuses(
        revisions.living(snapshot.revisions),
        places,
        target=draft.name if draft is not None else None,
        traffic=next_step.traffic,
        now=now,
    )
    return TaskPlan(
        revision=draft,
        revision_statuses=statuses,
        status=status,
        packing_keys=tuple(sorted(left | ({key} if key is not None and moving else set()))),
        delete_revisions=_unneeded(snapshot, status, places, draft.name if draft is not None else None),
        ask_gateways=next_step.ask_gateways,
        events=(
            *_switch_event(next_step),
            *_moved_event(task.status.conditions, status.conditions),
            *events_between(task.status.conditions, status.conditions),
        ),
        notes=(next_step.message,) if next_step.switched else (),
        requeue_after=DRAIN_POLL_SECONDS if next_step.ask_gateways else None,
    )


def unreadable(previous: TaskModelStatus, message: str, *, generation: int, now: datetime) -> tuple[TaskModelStatus, tuple[Event, ...]]:
    """The status of a TaskModel that can't be parsed, and the event. All that it said of routes stays: what served goes on serving."""
    kept = [
        condition
        for condition in previous.conditions
        if condition.type in {ConditionType.ASSIGNED, ConditionType.ADAPTER_READY, ConditionType.AVAILABLE, ConditionType.ROLLOUT_HEALTHY}
    ]
    refused = merged(
        previous.conditions,
        (Finding(ConditionType.ACCEPTED, False, Reason.INVALID_SPEC, message), *summary_of(Reason.INVALID_SPEC, message).findings),
        generation=generation,
        now=now,
    )
    conditions = _ordered([*kept, *refused])
    status = previous.model_copy(update={"observed_generation": generation, "conditions": conditions})
    return status, events_between(previous.conditions, conditions)


def _key(snapshot: TaskSnapshot, admission: Admission) -> PackingKey | None:
    if admission.violation is not None or admission.class_name is None:
        return None
    task = snapshot.task
    return key_of(
        namespace=task.metadata.namespace,
        task_model=task.metadata.name,
        base=task.spec.base,
        serving_class=admission.class_name,
        isolation=task.spec.isolation,
    )


def _decide(
    snapshot: TaskSnapshot, admission: Admission, key: PackingKey | None, places: Sequence[Placement], *, moving: bool
) -> tuple[Step, Standing]:
    task = snapshot.task
    living = revisions.living(snapshot.revisions)
    target = living.get(revisions.target_name(task)) if key is not None else None
    target_place = placement_on(key, target.metadata.name, places) if key is not None and target is not None else None
    next_step = step(
        Situation(
            status=task.status,
            traffic=present_traffic(task.status, living, places),
            target=target if moving else None,
            place=target_place,
            gateways=snapshot.gateways,
        )
    )
    route = next_step.traffic[0] if next_step.traffic else None
    serving = placement_in(route.pool, route.revision, places) if route is not None else None
    standing = Standing(
        task=task,
        admission=admission,
        step=next_step,
        target=target_place,
        serving=serving,
        is_target_served=target_place is not None and serving is target_place,
        refusal=snapshot.refusal,
    )
    return next_step, standing


def _status(snapshot: TaskSnapshot, standing: Standing, *, now: datetime) -> TaskModelStatus:
    task, before = snapshot.task, snapshot.task.status
    generation = task.metadata.generation
    next_step = standing.step
    settled = not task.spec.suspend and standing.admission.violation is None
    return TaskModelStatus(
        observed_generation=generation,
        conditions=merged(before.conditions, findings(standing), generation=generation, now=now),
        serving_class_name=standing.admission.class_name if settled else before.serving_class_name,
        base=task.spec.base.short_name,
        stable=_stable(snapshot, next_step),
        candidate=_candidate(snapshot, standing),
        traffic=list(next_step.traffic),
        rollout=rollout_status(before.rollout, next_step, at=timestamp(now)),
        url=f"{snapshot.gateway_url.rstrip('/')}/v1" if snapshot.gateway_url else before.url,
    )


def _stable(snapshot: TaskSnapshot, next_step: Step) -> RevisionReference | None:
    """The revision that answers; the one before until every gateway acts on the switch. After a lost status, the one with the traffic."""
    before = snapshot.task.status.stable
    if next_step.phase is RolloutPhase.DONE and next_step.traffic:
        return _reference(snapshot, next_step.traffic[0].revision) or before
    if before is None and next_step.traffic and next_step.phase is not RolloutPhase.DRAINING:
        return _reference(snapshot, next_step.traffic[0].revision)
    return before


def _candidate(snapshot: TaskSnapshot, standing: Standing) -> RevisionReference | None:
    if standing.task.spec.suspend:
        return snapshot.task.status.candidate
    if standing.step.phase in {RolloutPhase.DONE, RolloutPhase.FAILED, None} or standing.admission.violation is not None:
        return None
    return _reference(snapshot, revisions.target_name(snapshot.task))


def _reference(snapshot: TaskSnapshot, name: str) -> RevisionReference | None:
    revision = revisions.living(snapshot.revisions).get(name)
    if revision is None:
        return None
    adapter = revision.spec.adapter
    return RevisionReference(revision=name, version=adapter.version if adapter else None, digest=revision.status.digest)


def _unneeded(snapshot: TaskSnapshot, status: TaskModelStatus, places: Sequence[Placement], target: str | None) -> tuple[str, ...]:
    if target is None:
        return ()
    needed = {target} | {route.revision for route in status.traffic}
    needed |= {reference.revision for reference in (status.stable, status.candidate) if reference is not None}
    needed |= {place.revision.metadata.name for place in places}
    return revisions.unneeded(snapshot.task, snapshot.revisions, needed=frozenset(needed))


def _switch_event(next_step: Step) -> tuple[Event, ...]:
    return (Event(type="Normal", reason="TrafficSwitched", message=next_step.message),) if next_step.switched else ()


def _moved_event(before: Sequence[Condition], after: Sequence[Condition]) -> tuple[Event, ...]:
    found = find(after, ConditionType.VERSION_MOVED)
    if found is None or find(before, ConditionType.VERSION_MOVED) is not None:
        return ()
    return (Event(type="Warning", reason=found.reason, message=shortened(found.message, 1024)),)


def _ordered(conditions: Sequence[Condition]) -> list[Condition]:
    order = [kind.value for kind in ConditionType]
    return [found for kind in order if (found := find(conditions, ConditionType(kind))) is not None]
