"""The rollout of one TaskModel as `-o json` prints it; the tree and the history are drawn from the same record."""

from typing import Annotated

from pydantic import Field

from taskfleet import names
from taskfleet.api.conditions import Condition, ConditionType
from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.fields import Model
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.revision import TaskModelRevision, Verdict
from taskfleet.api.taskmodel import RolloutStatus
from taskfleet.cli.rollout.state import State, standing
from taskfleet.cli.rollout.view import View

_ORDERS = (names.ANNOTATION_PAUSE, names.ANNOTATION_PROMOTE, names.ANNOTATION_ABORT, names.ANNOTATION_RETRY, names.ANNOTATION_UNDO)


class RevisionReport(Model):
    """One revision, its share of the traffic, and what is known of it."""

    name: str
    version: str | None = None
    digest: str | None = None
    stable: bool = False
    candidate: bool = False
    phase: str | None = None
    weight_percent: int = 0
    shadow_percent: int = 0
    pool: str | None = None
    created_at: str = ""
    promoted_at: str | None = None
    verdict: Verdict | None = None
    evaluation: EvaluationReport | None = None


class PodReport(Model):
    """A pod of a pool."""

    name: str
    phase: str
    ready: bool


class PoolReport(Model):
    """A pool that has revisions of the task. `pods` is missing where the user may not list them."""

    name: str
    replicas: int
    ready_replicas: int
    pods: list[PodReport] | None = None


class JobReport(Model):
    """A measurement for the gate."""

    name: str
    revision: str
    state: str


class RolloutReport(Model):
    """All of it."""

    name: str
    namespace: str
    state: State
    exit_code: Annotated[int, Field(description="What `taskfleet rollout status` ends with.")]
    message: str = ""
    ready: Condition | None = None
    rollout: RolloutStatus | None = None
    orders: dict[str, str] = Field(default_factory=dict)  # annotations of the verbs, without their prefix
    revisions: list[RevisionReport] = Field(default_factory=list)  # the newest first
    pools: list[PoolReport] = Field(default_factory=list)
    evaluation_jobs: list[JobReport] | None = None


def report(view: View) -> RolloutReport:
    """What can be said of a TaskModel's rollout."""
    task, found = view.task, standing(view)
    newest_first = sorted(view.revisions, key=lambda one: (one.metadata.creation_timestamp, one.metadata.name), reverse=True)
    return RolloutReport(
        name=task.metadata.name,
        namespace=task.metadata.namespace,
        state=found.state,
        exit_code=found.state.exit_code,
        message=found.message,
        ready=next((condition for condition in task.status.conditions if condition.type == ConditionType.READY), None),
        rollout=task.status.rollout,
        orders={
            annotation.removeprefix(f"{names.GROUP}/"): task.metadata.annotations[annotation]
            for annotation in _ORDERS
            if annotation in task.metadata.annotations
        },
        revisions=[_revision(view, revision) for revision in newest_first],
        pools=[_pool(view, pool) for pool in view.pools],
        evaluation_jobs=None
        if view.jobs is None
        else [JobReport(name=job.name, revision=job.revision, state=job.state) for job in view.jobs],
    )


def _revision(view: View, revision: TaskModelRevision) -> RevisionReport:
    name, status = revision.metadata.name, revision.status
    stable, candidate = view.task.status.stable, view.task.status.candidate
    target = next((target for target in view.task.status.traffic if target.revision == name), None)
    return RevisionReport(
        name=name,
        version=revision.spec.adapter.version if revision.spec.adapter else None,
        digest=status.digest,
        stable=stable is not None and stable.revision == name,
        candidate=candidate is not None and candidate.revision == name,
        phase=status.phase,
        weight_percent=target.weight_percent if target else 0,
        shadow_percent=(target.shadow_percent or 0) if target else 0,
        pool=target.pool if target else _pool_with(view, name),
        created_at=revision.metadata.creation_timestamp,
        promoted_at=status.promoted_at,
        verdict=status.verdict,
        evaluation=status.evaluation,
    )


def _pool_with(view: View, revision: str) -> str | None:
    return next((pool.metadata.name for pool in view.pools if any(member.revision == revision for member in pool.spec.members)), None)


def _pool(view: View, pool: ModelPool) -> PoolReport:
    name = pool.metadata.name
    return PoolReport(
        name=name,
        replicas=pool.status.replicas,
        ready_replicas=pool.status.ready_replicas,
        pods=None
        if view.pods is None
        else [PodReport(name=pod.name, phase=pod.phase, ready=pod.ready) for pod in view.pods if pod.pool == name],
    )
