"""What decisions come to: frozen records that the controller carries out, in the order of their fields.

Functions that make them: `taskmodel.plan`, `packing.pack`, `pool.plan`, `servingclass.plan`. `resources` turns drafts into Kubernetes JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from taskfleet.api.agent import DesiredState, ResolveRequest
from taskfleet.api.modelpool import ModelPoolSpec, ModelPoolStatus
from taskfleet.api.revision import TaskModelRevisionSpec, TaskModelRevisionStatus
from taskfleet.api.servingclass import ServingClassStatus
from taskfleet.api.taskmodel import Evaluation, TaskModelStatus
from taskfleet.planning.packing_key import PackingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A transition that people should see once, on the object that the plan is for."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionDraft:
    """A TaskModelRevision to be applied, with a controller owner reference to its TaskModel."""

    name: str
    namespace: str
    task_model: str
    task_model_uid: str
    labels: Mapping[str, str]
    spec: TaskModelRevisionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationDraft:
    """A Job that measures a revision for its gate, owned by that revision."""

    name: str
    namespace: str
    task_model: str
    revision: str
    revision_uid: str
    compared_with: str | None  # the stable revision, on the same examples
    attempt: int
    evaluation: Evaluation
    dataset_digest: str | None  # what is expected, where it is known
    fingerprint: str  # stands for the question that the Job answers (`gate.fingerprint`)
    output_schema: str | None = None  # the candidate's


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What is to be done for one TaskModel."""

    # None: nothing to apply (not accepted, suspended, or being deleted).
    revision: RevisionDraft | None = None
    # Statuses of this task's TaskModelRevisions, by name; all that exist, changed or not.
    revision_statuses: Mapping[str, TaskModelRevisionStatus] = field(default_factory=dict)
    # The task's new status; equal to the old one where nothing changed. None: write nothing.
    status: TaskModelStatus | None = None
    # Packing domains that this task belongs to now or is leaving; each is to be packed after the revision was applied, and again after the status was written.
    packing_keys: tuple[PackingKey, ...] = ()
    # TaskModelRevisions that are no longer needed; deleted last.
    delete_revisions: tuple[str, ...] = ()
    # True: look at the golden set (`DatasetView`) and plan again.
    read_dataset: bool = False
    # True: ask the gateways (`GatewayView`) and plan again.
    ask_gateways: bool = False
    # The Job that has to run now; applied once the status that names it is written.
    evaluate: EvaluationDraft | None = None
    # Jobs of this task that are not needed any more: of revisions that are no candidates now.
    delete_jobs: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()
    # Seconds until it has to be looked at again without anything having changed; None: never.
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A TaskModelRevision that a pool goes with, once all its owners are gone."""

    revision: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDraft:
    """A ModelPool to be applied whole: packing is the only writer of its spec."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    spec: ModelPoolSpec
    owners: tuple[Owner, ...]
    # True: spec.replicas is somebody else's, and no part of the apply.
    scaled_by_other: bool = False
    # What the object must still be when it is written, where another autoscaler may have written it meanwhile; empty: whatever it is.
    resource_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDeletion:
    """A ModelPool without members; its UID guards against deleting a newer one of the same name."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingPlan:
    """What is to be done for the pools of one packing key."""

    apply: tuple[PoolDraft, ...] = ()
    delete: tuple[PoolDeletion, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Ask the agent of `pod` what stands behind a version.

    A digest of the base (empty `revision`) goes to `PackingSnapshot.base_digests`, one of a revision into its status by `taskmodel.with_digest`; a failure becomes a
    `snapshot.ResolutionFailure`.
    """

    pod: str
    revision: str
    request: ResolveRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What is to be done for one ModelPool. Its children are applied first, unless `desired` is None."""

    # None: can't be said, because the ServingClass is gone or invalid; the children stay as they are.
    desired: DesiredState | None = None
    # Pods whose agents have an older document (or another pool's) in force; the document is PUT to each.
    put_to: tuple[str, ...] = ()
    resolve: tuple[Resolution, ...] = ()
    # Equal to the old one where nothing changed.
    status: ModelPoolStatus | None = None
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingClassPlan:
    """What is to be done for one ServingClass."""

    status: ServingClassStatus
    events: tuple[Event, ...] = ()
