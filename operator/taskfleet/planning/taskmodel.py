"""What is to be done for one TaskModel: its revision, its traffic, its status. Pools are `packing`'s, pods are `pool`'s."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from taskfleet.api.conditions import Condition, ConditionType, Reason
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import RevisionReference, TaskModel, TaskModelStatus
from taskfleet.planning import revisions
from taskfleet.planning.admission import Admission, admit
from taskfleet.planning.conditions import Finding, events_between, find, known, merged, shortened, summary_of
from taskfleet.planning.packing_key import PackingKey, key_of, key_of_pool
from taskfleet.planning.placement import Placement, placement_in, placement_on, placements
from taskfleet.planning.plans import Event, TaskPlan
from taskfleet.planning.revisionstatus import revision_statuses
from taskfleet.planning.rollout.events import rollout_events
from taskfleet.planning.rollout.gate import unneeded_jobs
from taskfleet.planning.rollout.machine import rollout_status, step
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.situation import Rejection, Situation, Step
from taskfleet.planning.rollout.verbs import Verbs, verbs_for
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
    situation = _situation(snapshot, key, places, moving=moving, now=now)
    next_step = step(situation)
    standing = _standing(snapshot, admission, situation, next_step, places)
    status = _status(snapshot, standing, situation)
    statuses = revision_statuses(
        revisions.living(snapshot.revisions),
        places,
        target=draft.name if draft is not None else None,
        step=next_step,
        now=now,
    )
    return TaskPlan(
        revision=draft,
        revision_statuses=statuses,
        status=status,
        packing_keys=tuple(sorted(left | ({key} if key is not None and moving else set()))),
        delete_revisions=_unneeded(snapshot, status, places, draft.name if draft is not None else None),
        read_dataset=next_step.read_dataset,
        ask_gateways=next_step.ask_gateways,
        evaluate=next_step.evaluate,
        delete_jobs=_unneeded_jobs(situation, next_step),
        events=(
            *_moved_event(task.status.conditions, status.conditions),
            *rollout_events(situation, next_step, status, living=revisions.living(snapshot.revisions)),
        ),
        notes=(next_step.message,) if next_step.switched or next_step.begins or next_step.rejection is not None else (),
        requeue_after=DRAIN_POLL_SECONDS if next_step.ask_gateways else next_step.requeue_after,
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


def _situation(snapshot: TaskSnapshot, key: PackingKey | None, places: Sequence[Placement], *, moving: bool, now: datetime) -> Situation:
    task = snapshot.task
    living = revisions.living(snapshot.revisions)
    asked = revisions.target_name(task)
    goal = living.get(revisions.goal_name(task, living) or "") if key is not None else None
    return Situation(
        task=task,
        traffic=present_traffic(task.status, living, places),
        target=living.get(asked) if moving else None,
        goal=goal,
        place=_place_of(goal, key, task, places),
        gateways=snapshot.gateways,
        verbs=_verbs(task, asked, living),
        dataset=snapshot.dataset,
        evaluations=snapshot.evaluations,
        evidence=snapshot.evidence,
        revisions=tuple(living.values()),
        now=now,
    )


def _verbs(task: TaskModel, asked: str, living: Mapping[str, TaskModelRevision]) -> Verbs:
    """What is asked of the spec's revision; of an undo that can't be done, why not."""
    verbs = verbs_for(task, asked)
    serves = asked in living and bool(task.status.traffic) and task.status.traffic[0].revision == asked
    why = revisions.why_nothing_before(living[asked], living) if verbs.undone and serves else None
    if why is None or living[asked].status.phase == revisions.Phase.REJECTED:
        return verbs
    return replace(verbs, mistake="; ".join(filter(None, (verbs.mistake, f"{asked} can't be undone: {why}"))))


def _place_of(goal: TaskModelRevision | None, key: PackingKey | None, task: TaskModel, places: Sequence[Placement]) -> Placement | None:
    """Its place on a pool of the right key; of a revision that serves instead of the spec's, the place where it does."""
    if goal is None or key is None:
        return None
    if goal.metadata.name != revisions.target_name(task) and task.status.traffic and task.status.traffic[0].revision == goal.metadata.name:
        return placement_in(task.status.traffic[0].pool, goal.metadata.name, places)
    return placement_on(key, goal.metadata.name, places)


def _standing(snapshot: TaskSnapshot, admission: Admission, situation: Situation, next_step: Step, places: Sequence[Placement]) -> Standing:
    route = next_step.traffic[0] if next_step.traffic else None
    serving = placement_in(route.pool, route.revision, places) if route is not None else None
    return Standing(
        task=snapshot.task,
        admission=admission,
        step=next_step,
        target=situation.place,
        serving=serving,
        is_target_served=situation.place is not None and serving is situation.place and len(next_step.traffic) == 1,
        refusal=snapshot.refusal,
        rejection=_rejection(situation, next_step),
    )


def _rejection(situation: Situation, next_step: Step) -> Rejection | None:
    """Why the spec's revision is not to serve: decided just now, or remembered."""
    if next_step.rejection is not None or next_step.retried is not None or situation.target is None:
        return next_step.rejection
    verdict = situation.target.status.verdict
    if not situation.target_is_rejected or verdict is None:
        return None
    return Rejection(known(verdict.reason, Reason.ABORTED), verdict.message)


def _status(snapshot: TaskSnapshot, standing: Standing, situation: Situation) -> TaskModelStatus:
    task, before = snapshot.task, snapshot.task.status
    generation = task.metadata.generation
    next_step = standing.step
    settled = not task.spec.suspend and standing.admission.violation is None
    return TaskModelStatus(
        observed_generation=generation,
        conditions=merged(before.conditions, findings(standing), generation=generation, now=situation.now),
        serving_class_name=standing.admission.class_name if settled else before.serving_class_name,
        base=task.spec.base.short_name,
        stable=_stable(snapshot, next_step),
        candidate=_candidate(snapshot, standing),
        traffic=list(next_step.traffic),
        rollout=rollout_status(before.rollout, next_step, situation),
        url=f"{snapshot.gateway_url.rstrip('/')}/v1" if snapshot.gateway_url else before.url,
    )


def _stable(snapshot: TaskSnapshot, next_step: Step) -> RevisionReference | None:
    """The revision that answers; the one before until every gateway acts on the switch. After a lost status, the one with the traffic."""
    before = snapshot.task.status.stable
    if next_step.phase in {RolloutPhase.DONE, RolloutPhase.REJECTED} and next_step.traffic:
        return _reference(snapshot, next_step.traffic[0].revision) or before
    if before is None and next_step.traffic and next_step.phase is not RolloutPhase.DRAINING:
        return _reference(snapshot, next_step.traffic[0].revision)
    return before


def _candidate(snapshot: TaskSnapshot, standing: Standing) -> RevisionReference | None:
    if standing.task.spec.suspend:
        return snapshot.task.status.candidate
    if (
        standing.step.phase in {RolloutPhase.DONE, RolloutPhase.FAILED, RolloutPhase.REJECTED, None}
        or standing.admission.violation is not None
    ):
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


def _unneeded_jobs(situation: Situation, next_step: Step) -> tuple[str, ...]:
    """None while nothing of the task is changed."""
    if situation.target is None:
        return ()
    measuring = next_step.phase is RolloutPhase.EVALUATING
    return unneeded_jobs(situation.evaluations, situation.gate(situation.target) if measuring else None)


def _moved_event(before: Sequence[Condition], after: Sequence[Condition]) -> tuple[Event, ...]:
    found = find(after, ConditionType.VERSION_MOVED)
    if found is None or find(before, ConditionType.VERSION_MOVED) is not None:
        return ()
    return (Event(type="Warning", reason=found.reason, message=shortened(found.message, 1024)),)


def _ordered(conditions: Sequence[Condition]) -> list[Condition]:
    order = [kind.value for kind in ConditionType]
    return [found for kind in order if (found := find(conditions, ConditionType(kind))) is not None]
