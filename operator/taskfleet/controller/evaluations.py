"""Evaluations as the gate needs them: the Jobs of a TaskModel and what came of them, its golden set, a new Job, the end of an old one.

What is to be measured, and when, is decided in `planning.gate`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import Dataset, TaskModel
from taskfleet.controller.cache import Json
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import Key, TaskKey
from taskfleet.controller.queue import RetryError
from taskfleet.controller.writer import RefusedError, Writer
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import ForbiddenError, KubeError
from taskfleet.kube.resources import CONFIG_MAPS, JOBS, SERVICE_ACCOUNTS
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.planning.snapshot import DatasetView, EvaluationView
from taskfleet.resources.evaluation import evaluation_job, evaluator_account
from taskfleet.resources.observed_evaluation import evaluation_view
from taskfleet.resources.settings import EvaluatorSettings


class Evaluations(Protocol):
    """What the work on a TaskModel needs of its evaluations. Whatever waits raises RetryError."""

    def views(self, key: TaskKey) -> tuple[EvaluationView, ...]:
        """All of the task's that there are."""

    async def dataset(self, task: TaskModel) -> DatasetView | None:
        """The golden set; None where the operator can't see it."""

    async def start(self, draft: EvaluationDraft) -> None:
        """Begins to measure; does nothing where that has begun."""

    async def delete(self, namespace: str, job: str) -> None:
        """Stops and forgets."""

    def forget(self, key: TaskKey) -> None:
        """The TaskModel is gone."""


@dataclass(frozen=True, slots=True)
class _Refused:
    draft: EvaluationDraft
    message: str


class JobEvaluations:
    """Evaluations as Jobs in the tenants' namespaces. `enqueue` asks for a TaskModel to be looked at again."""

    def __init__(self, *, fleet: Fleet, writer: Writer, kube: Kube, settings: EvaluatorSettings, enqueue: Callable[[Key], None]) -> None:
        self._fleet = fleet
        self._writer = writer
        self._kube = kube
        self._settings = settings
        self._enqueue = enqueue
        # Jobs that the API server did not take; they are tried again by whoever asked for them.
        self._refused: dict[TaskKey, _Refused] = {}

    def views(self, key: TaskKey) -> tuple[EvaluationView, ...]:
        """The Jobs that measure revisions of the task, and one that could not be made."""
        pods = self._fleet.evaluation_pods(key)
        found = [view for job in self._fleet.evaluation_jobs(key) if (view := evaluation_view(job, pods)) is not None]
        refused = self._refused.get(key)
        if refused is not None and all(view.job != refused.draft.name for view in found):
            found.append(_not_made(refused))
        return tuple(found)

    async def dataset(self, task: TaskModel) -> DatasetView | None:
        """The golden set of the task's evaluation, as far as it is in a ConfigMap; None where it is not. Raises RetryError where the API server does not answer."""
        evaluation = task.spec.evaluation
        if evaluation is None or evaluation.dataset.config_map_name is None:
            return None
        name, namespace = evaluation.dataset.config_map_name, task.metadata.namespace
        try:
            # By list, which the operator may do anyway: one right less.
            found = (await self._kube.list(CONFIG_MAPS, namespace=namespace, field_selector=f"metadata.name={name}")).items
        except ForbiddenError as error:
            return DatasetView(error=f"ConfigMap {name} can't be read: {error.message}")
        except KubeError as error:
            raise RetryError(error.message) from error
        return _golden_set(evaluation.dataset, found[0]) if found else DatasetView(error=f"namespace {namespace} has no ConfigMap {name}")

    async def start(self, draft: EvaluationDraft) -> None:
        """Makes the Job, and the account that it runs under, unless it is there. Raises RetryError where that failed; what the API server refused is told by `views`, too."""
        key = TaskKey(draft.namespace, draft.task_model)
        if self._fleet.evaluation_job(draft.namespace, draft.name) is not None:
            return
        owners = [task.metadata for task in self._fleet.tasks(draft.namespace) if task.spec.evaluation is not None]
        job = evaluation_job(draft, self._settings, image_pull_secrets=self._image_pull_secrets(key))
        try:
            await self._writer.apply(SERVICE_ACCOUNTS, evaluator_account(draft.namespace, owners))
            await self._writer.apply(JOBS, job)
        except RefusedError as error:
            self._remember(key, _Refused(draft, str(error)))
            raise
        self._refused.pop(key, None)

    async def delete(self, namespace: str, job: str) -> None:
        """Deletes a Job with its pod; one that could not be made is not tried again. Raises RetryError."""
        self._refused = {key: one for key, one in self._refused.items() if (one.draft.namespace, one.draft.name) != (namespace, job)}
        found = self._fleet.evaluation_job(namespace, job)
        if found is not None:
            await self._writer.delete(JOBS, job, namespace, uid=found["metadata"]["uid"])

    def forget(self, key: TaskKey) -> None:
        """Jobs go with their TaskModel by themselves."""
        self._refused.pop(key, None)

    def _remember(self, key: TaskKey, refused: _Refused) -> None:
        before = self._refused.get(key)
        self._refused[key] = refused
        # Once, so that the status tells it; words that differ each time must not be a reason to try without a pause.
        if before is None or before.draft.name != refused.draft.name:
            self._enqueue(key)

    def _image_pull_secrets(self, key: TaskKey) -> tuple[str, ...]:
        """Those with which the task's pool pulls the same image."""
        task = self._fleet.task(key)
        name = task.status.serving_class_name if isinstance(task, TaskModel) else None
        found = self._fleet.serving_class(name) if name is not None else None
        return tuple(found.spec.engine.image_pull_secrets) if isinstance(found, ServingClass) else ()


def _golden_set(dataset: Dataset, config_map: Json) -> DatasetView:
    """JSON Lines: one example a line."""
    text = (config_map.get("data") or {}).get(dataset.key)
    if not isinstance(text, str):
        return DatasetView(error=f"ConfigMap {dataset.config_map_name} has no text under the key {dataset.key}")
    examples = sum(1 for line in text.split("\n") if line.strip())
    return DatasetView(digest=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", examples=examples)


def _not_made(refused: _Refused) -> EvaluationView:
    draft = refused.draft
    return EvaluationView(
        job=draft.name,
        revision=draft.revision,
        compared_with=draft.compared_with,
        attempt=draft.attempt,
        fingerprint=draft.fingerprint,
        message=refused.message,
    )
