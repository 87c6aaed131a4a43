"""Reads the view of a TaskModel from the cluster. What the user may not list is left out, and said so; the TaskModel itself must be readable."""

import asyncio
from typing import Any

from pydantic import ValidationError

from taskfleet import names
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModel
from taskfleet.cli.cluster import UnusableError
from taskfleet.cli.rollout.view import JobSeen, PodSeen, View
from taskfleet.kube.client import Json, Kube
from taskfleet.kube.errors import ForbiddenError
from taskfleet.kube.resources import JOBS, MODEL_POOLS, PODS, TASK_MODEL_REVISIONS, TASK_MODELS, Resource


async def read(kube: Kube, namespace: str, name: str) -> View:
    """Raises UnusableError where there is no such TaskModel, KubeError where it can't be read."""
    found = await kube.get(TASK_MODELS, name, namespace)
    if found is None:
        raise UnusableError(f"there is no TaskModel {name} in namespace {namespace}")
    of_task = f"{names.LABEL_TASK_MODEL}={name}"
    revisions, pools, pods, jobs = await asyncio.gather(
        kube.list(TASK_MODEL_REVISIONS, namespace=namespace, label_selector=of_task),
        kube.list(MODEL_POOLS, namespace=namespace),
        _allowed(kube, PODS, namespace, names.LABEL_POOL),
        _allowed(kube, JOBS, namespace, names.LABEL_EVALUATION),
    )
    try:
        return _view(found, revisions.items, pools.items, pods, jobs)
    except ValidationError as error:
        raise UnusableError(
            f"this version can't read TaskModel {namespace}/{name}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        ) from None


async def _allowed(kube: Kube, resource: Resource, namespace: str, label_selector: str) -> tuple[Json, ...] | None:
    try:
        return (await kube.list(resource, namespace=namespace, label_selector=label_selector)).items
    except ForbiddenError:
        return None


def _view(
    task: Json, revisions: tuple[Json, ...], pools: tuple[Json, ...], pods: tuple[Json, ...] | None, jobs: tuple[Json, ...] | None
) -> View:
    model = TaskModel.model_validate(task)
    name = model.metadata.name
    own = tuple(pool for pool in map(ModelPool.model_validate, pools) if any(member.task_model == name for member in pool.spec.members))
    of_task = tuple(map(TaskModelRevision.model_validate, revisions))
    known, pool_names = {revision.metadata.name for revision in of_task}, {pool.metadata.name for pool in own}
    return View(
        task=model,
        revisions=of_task,
        pools=own,
        pods=None if pods is None else tuple(pod for pod in map(_pod, pods) if pod.pool in pool_names),
        jobs=None if jobs is None else tuple(job for job in map(_job, jobs) if job.revision in known),
    )


def _pod(pod: Json) -> PodSeen:
    metadata, status = pod["metadata"], pod.get("status", {})
    ending = "deletionTimestamp" in metadata
    return PodSeen(
        name=metadata["name"],
        pool=metadata["labels"][names.LABEL_POOL],
        phase="Terminating" if ending else status.get("phase", "Pending"),
        ready=_is_true(status, "Ready") and not ending,
    )


def _job(job: Json) -> JobSeen:
    status = job.get("status", {})
    state = next((state for state in ("Complete", "Failed") if _is_true(status, state)), "Running")
    return JobSeen(name=job["metadata"]["name"], revision=job["metadata"]["labels"][names.LABEL_EVALUATION], state=state)


def _is_true(status: dict[str, Any], condition: str) -> bool:
    return any(one["type"] == condition and one["status"] == "True" for one in status.get("conditions") or ())
