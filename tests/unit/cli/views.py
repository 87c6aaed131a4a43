"""Views of one TaskModel `finance/total`, in the states that a rollout can be in."""

from typing import Any

from taskfleet import names
from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.modelpool import Role
from taskfleet.api.revision import TaskModelRevision, TaskModelRevisionStatus
from taskfleet.api.taskmodel import TaskModel
from taskfleet.cli.rollout.view import JobSeen, PodSeen, View
from tests.unit.planning.builders import digest, key_for, member_of, pool_of, pool_status, revision_of, said, task_model

CANARY = {"strategy": "Canary", "steps": [{"weightPercent": 10}, {"weightPercent": 50, "shadowPercent": 20}]}
PROMOTED = {"outcome": "Promoted", "reason": "UpToDate", "message": "score 96 %", "at": "2026-01-01T09:00:00Z"}
REJECTED = {"outcome": "Rejected", "reason": "GateFailed", "message": "score 71.5 % is below 95 %", "at": "2026-01-01T11:59:18Z"}


def measured(candidate: str, stable: str | None, *, score: float = 97.5) -> EvaluationReport:
    fields: dict[str, Any] = {
        "outcome": "Measured",
        "metric": "ExactMatch",
        "samples": 200,
        "errors": 1,
        "candidate": {"revision": candidate, "scorePercent": score},
        "datasetDigest": digest("d"),
    }
    if stable is not None:
        fields |= {"stable": {"revision": stable, "scorePercent": 96}, "differencePercent": score - 96}
        fields |= {"differenceLowerPercent": score - 98, "differenceUpperPercent": score - 94}
    return EvaluationReport.model_validate(fields)


def version(number: int, **status: Any) -> TaskModelRevision:
    """Revision of version v`number`; v7 is older than v8."""
    created = f"2026-01-01T{number:02}:00:00Z"
    revision = revision_of(task_model(version=f"v{number}"), created=created)
    return revision.model_copy(
        update={"status": TaskModelRevisionStatus.model_validate({"phase": "Pending", "digest": digest(str(number))} | status)}
    )


def view(
    *,
    phase: str | None = "Stepping",
    weights: tuple[int, int] = (90, 10),
    candidate: TaskModelRevision | None = None,
    rollout: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    jobs: tuple[JobSeen, ...] | None = (),
    pods: tuple[PodSeen, ...] | None = None,
    **spec: Any,
) -> View:
    """v7 serves, v8 is rolled; v6 served before. `weights`: of v7 and v8."""
    stable = version(7, phase="Stable" if weights[1] < 100 else "Superseded", verdict=PROMOTED, promotedAt="2026-01-01T09:00:00Z")
    rolled = candidate or version(8)
    earlier = version(6, phase="Superseded", verdict=PROMOTED, promotedAt="2026-01-01T07:00:00Z")
    task = task_model(version="v8", **({"rollout": CANARY} | spec))
    pool = pool_of(
        member_of(stable), member_of(rolled, role=Role.CANDIDATE), key=key_for(task), status=pool_status(said(stable), said(rolled))
    )
    name = pool.metadata.name
    traffic = [
        {"revision": one.metadata.name, "uid": one.metadata.uid, "pool": name, "weightPercent": weight}
        for one, weight in zip((stable, rolled), weights, strict=True)
        if weight
    ]
    rolling = {"revision": rolled.metadata.name, "phase": phase, "startedAt": "2026-01-01T11:55:00Z"} | (rollout or {})
    written = {
        "observedGeneration": 1,
        "stable": {"revision": stable.metadata.name},
        "candidate": {"revision": rolled.metadata.name},
        "traffic": traffic,
        **({"rollout": rolling} if phase else {}),
        **(status or {}),
    }
    return View(
        task=_task(task, written, annotations or {}),
        revisions=(earlier, stable, rolled),
        pools=(pool,),
        pods=pods if pods is not None else (PodSeen(name=f"{name}-5d9c7-x2x4k", pool=name, phase="Running", ready=True),),
        jobs=jobs,
    )


def stepping(**fields: Any) -> View:
    """On the first of two steps."""
    rollout = {"step": 1, "steps": 2, "stepStartedAt": "2026-01-01T11:59:18Z", "message": "step 1 of 2: 14 of 20 requests seen"}
    return view(**({"rollout": rollout | fields.pop("rollout", {})} | fields))


def rejected(**status: Any) -> View:
    """v8 was stopped by its gate."""
    name = version(8).metadata.name
    candidate = version(8, phase="Rejected", verdict=REJECTED, evaluation=measured(name, version(7).metadata.name, score=71.5), **status)
    return view(phase="Rejected", weights=(100, 0), candidate=candidate, rollout={"message": "score 71.5 % is below 95 %"})


def with_annotation(found: View, annotation: str, value: str) -> View:
    """The same, with an annotation on the TaskModel."""
    return View(
        task=_task(found.task, found.task.status.to_json(), {**found.task.metadata.annotations, annotation: value}),
        revisions=found.revisions,
        pools=found.pools,
        pods=found.pods,
        jobs=found.jobs,
    )


def paused(**fields: Any) -> View:
    """On its first step, and held there by a person."""
    name = version(8).metadata.name
    return stepping(rollout={"hold": "Paused"}, annotations={names.ANNOTATION_PAUSE: name}, **fields)


def _task(task: TaskModel, status: dict[str, Any], annotations: dict[str, str]) -> TaskModel:
    body = task.to_json() | {"status": status}
    body["metadata"] |= {"annotations": annotations, "resourceVersion": "41"}
    return TaskModel.model_validate(body)
