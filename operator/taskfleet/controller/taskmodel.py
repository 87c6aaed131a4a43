"""Carries out the plan of one TaskModel: its revision, its revisions' statuses, its own status."""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.fields import Metadata
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModel, TaskModelStatus
from taskfleet.controller import rollout_figures
from taskfleet.controller.cache import Json, Unreadable
from taskfleet.controller.evaluations import Evaluations
from taskfleet.controller.events import EventWriter
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.gateways import Gateways
from taskfleet.controller.keys import Key, TaskKey
from taskfleet.controller.measurements import Measurements
from taskfleet.controller.resolutions import Resolutions
from taskfleet.controller.writer import RefusedError, Writer
from taskfleet.kube.resources import TASK_MODEL_REVISIONS, TASK_MODELS
from taskfleet.logs import fields
from taskfleet.planning import taskmodel
from taskfleet.planning.packing_key import key_of_pool
from taskfleet.planning.plans import TaskPlan
from taskfleet.planning.revisionstatus import with_digest
from taskfleet.planning.snapshot import DatasetView, Evidence, GatewayView, Refusal, TaskSnapshot
from taskfleet.resources.custom_objects import task_model_revision

log = logging.getLogger(__name__)


class TaskModelReconciler:
    """One key is one TaskModel. `enqueue` asks for other keys."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        writer: Writer,
        events: EventWriter,
        gateways: Gateways,
        resolutions: Resolutions,
        evaluations: Evaluations,
        measurements: Measurements,
        enqueue: Callable[[Key], None],
        now: Callable[[], datetime],
        gateway_url: str,
    ) -> None:
        self._fleet = fleet
        self._writer = writer
        self._events = events
        self._gateways = gateways
        self._resolutions = resolutions
        self._evaluations = evaluations
        self._measurements = measurements
        self._enqueue = enqueue
        self._now = now
        self._gateway_url = gateway_url
        # Why packing could not write a task's pool.
        self._pool_refusals: dict[TaskKey, Refusal] = {}
        # What was told by an event alone, because the object takes no status.
        self._unreadable: dict[TaskKey, Unreadable] = {}

    def refuse_pool(self, key: TaskKey, refusal: Refusal | None) -> None:
        """Why the task's pool could not be written by packing; None: it was."""
        before = self._pool_refusals.get(key)
        if refusal is None:
            self._pool_refusals.pop(key, None)
        else:
            self._pool_refusals[key] = refusal
        if before != refusal:
            self._enqueue(key)

    async def reconcile(self, key: TaskKey) -> float | None:
        task = self._fleet.task(key)
        if self._fleet.is_ending(key.namespace):
            return None
        if task is None:
            self._pool_refusals.pop(key, None)
            self._unreadable.pop(key, None)
            self._evaluations.forget(key)
            self._measurements.forget(key)
            self._left_behind(key)
            return None
        if isinstance(task, Unreadable):
            await self._say_unreadable(key, task)
            return None
        self._unreadable.pop(key, None)
        return await self._carry_out(key)

    async def _carry_out(self, key: TaskKey) -> float | None:
        plan = self._plan(key)
        refusal, refused_again = None, 0.0
        if plan.revision is not None:
            try:
                if await self._writer.apply(TASK_MODEL_REVISIONS, task_model_revision(plan.revision), adopt=True):
                    plan = self._plan(key)
                    self._pack(plan)
            except RefusedError as error:
                refusal, refused_again = error.refusal, error.least_seconds
                plan = self._plan(key, refusal=refusal)
        dataset = None
        if plan.read_dataset:
            dataset = await self._dataset(key)
            plan = self._plan(key, refusal=refusal, dataset=dataset)
        if plan.ask_gateways:
            gateways = await self._gateways.traffic_of(key.namespace, key.name)
            plan = self._plan(key, refusal=refusal, dataset=dataset, gateways=gateways)
        decided = time.monotonic()
        if await self._write_revisions(key, plan):
            self._pack(plan)
        await self._write_status(key, plan, decided=decided)
        self._pack(plan)
        for name in plan.delete_revisions:
            await self._delete_revision(key, name)
        await self._evaluate(key, plan)
        if refusal is not None:
            return refused_again
        return plan.requeue_after

    def _plan(
        self,
        key: TaskKey,
        *,
        refusal: Refusal | None = None,
        dataset: DatasetView | None = None,
        gateways: tuple[GatewayView, ...] | None = None,
    ) -> TaskPlan:
        task = self._fleet.task(key)
        if not isinstance(task, TaskModel):
            return TaskPlan()
        snapshot = TaskSnapshot(
            task=task,
            namespace_labels=self._fleet.namespace_labels(key.namespace),
            serving_classes=self._fleet.serving_classes(),
            revisions=tuple(self._with_found_digest(key, revision) for revision in self._fleet.revisions(key)),
            pools=self._fleet.pools(key.namespace),
            claims=self._fleet.claims(key.namespace),
            gateways=gateways,
            gateway_url=self._gateway_url,
            refusal=refusal or self._pool_refusals.get(key),
            dataset=dataset,
            evaluations=self._evaluations.views(key),
            evidence=self._evidence(key, task.status),
        )
        return taskmodel.plan(snapshot, now=self._now())

    def _evidence(self, key: TaskKey, status: TaskModelStatus) -> Evidence | None:
        """Of the two revisions that share the traffic, in the present step."""
        rollout = status.rollout
        if rollout is None or rollout.step_started_at is None or len(status.traffic) < 2:
            self._measurements.forget(key)
            return None
        stable, candidate = status.traffic[:2]
        since = datetime.fromisoformat(rollout.step_started_at)
        return self._measurements.evidence(key, candidate_uid=candidate.uid, stable_uid=stable.uid, since=since)

    async def _evaluate(self, key: TaskKey, plan: TaskPlan) -> None:
        """Last, because the API server may refuse a Job. The status that names it is written already."""
        for job in plan.delete_jobs:
            await self._evaluations.delete(key.namespace, job)
        if plan.evaluate is not None:
            await self._evaluations.start(plan.evaluate)

    async def _dataset(self, key: TaskKey) -> DatasetView | None:
        task = self._fleet.task(key)
        return await self._evaluations.dataset(task) if isinstance(task, TaskModel) else None

    def _with_found_digest(self, key: TaskKey, revision: TaskModelRevision) -> TaskModelRevision:
        """The revision with a digest that was looked up meanwhile: this key is the only writer of its status."""
        if revision.status.digest is not None:
            return revision
        for pool in self._fleet.pools(key.namespace):
            found = self._resolutions.found(pool.metadata.uid, revision.metadata.name)
            if found is not None:
                return revision.model_copy(update={"status": with_digest(revision, found.digest, version=found.version)})
        return revision

    def _pack(self, plan: TaskPlan) -> None:
        """After each step: packing goes on with a new revision or a digest while the status that tells of it is still being written, and looks again afterwards."""
        for packing_key in plan.packing_keys:
            self._enqueue(packing_key)

    async def _write_revisions(self, key: TaskKey, plan: TaskPlan) -> bool:
        """The statuses of the revisions; True where one was written."""
        written = False
        for name, status in sorted(plan.revision_statuses.items()):
            revision = self._fleet.revision(key.namespace, name)
            if revision is not None:
                written |= await self._writer.write_status(TASK_MODEL_REVISIONS, revision.metadata, revision.status, status)
        return written

    async def _write_status(self, key: TaskKey, plan: TaskPlan, *, decided: float) -> None:
        task = self._fleet.task(key)
        if plan.status is None or not isinstance(task, TaskModel):
            return
        if await self._writer.write_status(TASK_MODELS, task.metadata, task.status, plan.status):
            rollout_figures.count(task.status, plan, now=self._now(), seconds=time.monotonic() - decided)
            for note in plan.notes:
                log.info(note, extra=fields(taskmodel=str(key)))
            await self._events.write(TASK_MODELS, task.metadata, plan.events)

    async def _delete_revision(self, key: TaskKey, name: str) -> None:
        revision = self._fleet.revision(key.namespace, name)
        if revision is not None:
            await self._writer.delete(TASK_MODEL_REVISIONS, name, key.namespace, uid=revision.metadata.uid)

    def _left_behind(self, key: TaskKey) -> None:
        """The TaskModel is gone: Kubernetes takes its revisions, and packing its places."""
        for pool in self._fleet.pools(key.namespace):
            if any(member.task_model == key.name for member in pool.spec.members):
                self._enqueue(key_of_pool(pool))

    async def _say_unreadable(self, key: TaskKey, fault: Unreadable) -> None:
        body = self._fleet.task_body(key)
        if body is None:
            return
        metadata = Metadata.model_validate(body["metadata"])
        before = _status_of(body)
        message = f"can't be read: {fault.message}"
        if _is_said(before, message, metadata.generation):
            return
        status, events = taskmodel.unreadable(before, message, generation=metadata.generation, now=self._now())
        try:
            written = await self._writer.write_status(TASK_MODELS, metadata, before, status)
        except RefusedError:
            # A rule of the definition can't be evaluated on what is stored; nobody can write to the object but who corrects it.
            if self._unreadable.get(key) != fault:
                self._unreadable[key] = fault
                await self._events.write(TASK_MODELS, metadata, events)
            raise
        if written:
            await self._events.write(TASK_MODELS, metadata, events)


def _status_of(body: Json) -> TaskModelStatus:
    """What can be read of the status of a TaskModel whose spec can't."""
    try:
        return TaskModelStatus.model_validate(body.get("status") or {})
    except ValueError:
        return TaskModelStatus()


def _is_said(status: TaskModelStatus, message: str, generation: int) -> bool:
    accepted = next((condition for condition in status.conditions if condition.type == ConditionType.ACCEPTED), None)
    return (
        accepted is not None
        and accepted.reason == Reason.INVALID_SPEC
        and accepted.message == message
        and accepted.observed_generation == generation
    )
