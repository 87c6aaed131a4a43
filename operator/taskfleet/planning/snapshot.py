"""What decisions are made from: frozen records that the controller gathers from its cache, its agents and the gateways.

No record here knows where it came from. Kubernetes JSON of pods and Deployments is turned into views by `resources.observed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from taskfleet.api.agent import AgentState, ArtifactKind
from taskfleet.api.conditions import Reason
from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.modelpool import ModelPool, StartStatus
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel, TrafficTarget
from taskfleet.planning.packing_key import PackingKey
from taskfleet.planning.scaling.autoscaling import ScalingDecision


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something of ours could not be written: ApiRefused with the API server's words, or NameTaken by somebody else's object."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """One container of a pod, init containers and sidecars among them."""

    name: str
    ready: bool = False
    restarts: int = 0
    waiting_reason: str = ""  # as kubelet writes it: CrashLoopBackOff, ImagePullBackOff, …
    waiting_message: str = ""
    last_exit_code: int | None = None  # of the run before this one, or of a run that ended for good
    last_run_seconds: float | None = None  # how long that run lasted
    started_at: datetime | None = None  # of the run that is under way


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod of a pool."""

    name: str
    uid: str = ""
    ip: str = ""
    phase: str = "Pending"  # Pending, Running, Succeeded, Failed, Unknown
    ready: bool = False
    deleting: bool = False
    # The scheduler's message while it finds no node (condition PodScheduled=False, reason Unschedulable); None otherwise.
    unschedulable: str | None = None
    reason: str = ""  # status.reason of a failed pod: Evicted, UnexpectedAdmissionError, …
    message: str = ""
    containers: tuple[ContainerView, ...] = ()
    claims: frozenset[str] = frozenset()  # PersistentVolumeClaims that its agent mounts
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    ready_at: datetime | None = None  # since when it is Ready; None: it is not
    deletion_cost: int = 0  # its annotation; 0 where it has none, as Kubernetes takes it

    @property
    def serving(self) -> bool:
        """Does the Service send requests here?"""
        return self.ready and not self.deleting

    @property
    def reachable(self) -> bool:
        """May its agent be spoken to? Also while the pod is Pending: the agent is a sidecar among the init containers, and the base is staged in that time."""
        return self.phase in {"Pending", "Running"} and bool(self.ip) and not self.deleting


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentView:
    """The pool's Deployment."""

    generation: int = 0
    observed_generation: int = 0
    replicas: int = 0  # wanted
    current_replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    # The message of condition ReplicaFailure: pods can't be created (quota, admission, Pod Security); None otherwise.
    refusal: str | None = None

    @property
    def rolled_out(self) -> bool:
        """Do all wanted pods run the current template, are they Ready, and is no older one left?"""
        return (
            self.observed_generation >= self.generation
            and self.updated_replicas == self.replicas
            and self.current_replicas == self.replicas
            and self.ready_replicas == self.replicas
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """The agent of one pod, as the operator last heard it; `state` is None until it has answered once."""

    pod: str
    state: AgentState | None = None
    error: str = ""  # why it can't be asked now


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionFailure:
    """The last failed attempt to resolve a digest. Kept by the operator in memory only: a restart tries again at once."""

    kind: ArtifactKind
    revision: str  # name of the TaskModelRevision; empty for the base
    reason: str  # one of conditions.Reason
    message: str
    permanent: bool
    attempts: int  # failed ones in a row
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """What one gateway replica does for one TaskModel; `traffic` is None where it doesn't know the task or could not be asked."""

    name: str
    traffic: tuple[TrafficTarget, ...] | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetView:
    """The golden set that a TaskModel names, as far as the operator can see it: in a ConfigMap. `error` says why not."""

    digest: str | None = None
    examples: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationView:
    """One Job that measures for a gate."""

    job: str
    revision: str
    compared_with: str | None
    attempt: int
    fingerprint: str = ""  # of the question that it answers (`gate.fingerprint`)
    finished: bool = False
    report: EvaluationReport | None = None  # of a finished one; None: it ended without one
    message: str = ""  # why it has not started, or how it ended
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One revision's live or mirrored answers over a window, all gateways together."""

    requests: int = 0
    errors: int = 0
    checked: int = 0
    invalid: int = 0
    good: int = 0
    bad: int = 0
    compared: int = 0  # of mirrored ones
    agreed: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)  # bucket of api.measurements.LATENCY_BOUNDS_SECONDS → answers without error


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What live traffic says of candidate and stable revision in the same window, which began at `since` or when this operator began to listen, if that was later."""

    since: datetime
    candidate: Window
    stable: Window
    shadow: Window  # the candidate's answers to mirrored requests
    complete: bool = True  # False: a gateway is not heard now


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSnapshot:
    """Everything that decides about one TaskModel."""

    task: TaskModel
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    serving_classes: tuple[ServingClass, ...] = ()  # all of the cluster
    revisions: tuple[TaskModelRevision, ...] = ()  # those of this TaskModel
    pools: tuple[ModelPool, ...] = ()  # those of the namespace; others than this task's are ignored
    # None: not asked. Needed only where the plan says `ask_gateways`; a gateway that exists and can't be asked is a view without traffic.
    gateways: tuple[GatewayView, ...] | None = None
    gateway_url: str = ""
    claims: frozenset[str] = frozenset()  # those that the namespace offers for artifacts
    # Why the last write of this task's TaskModelRevision, or of its pool, was not made.
    refusal: Refusal | None = None
    dataset: DatasetView | None = None  # None: not looked at, or not in a ConfigMap
    evaluations: tuple[EvaluationView, ...] = ()  # Jobs of this TaskModel
    evidence: Evidence | None = None  # None: nothing is on a step, or nobody has listened yet


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingTask:
    """One TaskModel, as packing sees it."""

    task: TaskModel
    revisions: tuple[TaskModelRevision, ...]  # those of this TaskModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingSnapshot:
    """Everything that decides about the pools of one packing key."""

    key: PackingKey
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    serving_classes: tuple[ServingClass, ...] = ()  # all of the cluster
    tasks: tuple[PackingTask, ...] = ()  # all TaskModels of the namespace; those of other keys are ignored
    pools: tuple[ModelPool, ...] = ()  # all of the namespace; those of other keys are ignored
    claims: frozenset[str] = frozenset()  # those that the namespace offers for artifacts
    # TaskModels that exist but can't be parsed: their members stay as they are.
    unreadable: frozenset[str] = frozenset()
    # Digests of the base that were just resolved, by name of the pool; recorded in the pool by this plan's apply.
    base_digests: Mapping[str, str] = field(default_factory=dict)
    base_versions: Mapping[str, str] = field(default_factory=dict)  # what their revisions stood for, where that has a name
    # Pods that the autoscaler has decided for, by name of the pool; without a decision a pool keeps what it has, within its bounds.
    replicas: Mapping[str, int] = field(default_factory=dict)
    # Pools whose spec.replicas belongs to somebody else's field manager.
    scaled_by_others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """Everything that decides about one ModelPool's pods and status."""

    pool: ModelPool
    serving_class: ServingClass | None
    deployment: DeploymentView | None = None
    pods: tuple[PodView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    revisions: tuple[TaskModelRevision, ...] = ()  # at least those that are members
    failures: tuple[ResolutionFailure, ...] = ()
    # Why a child of the pool could not be written.
    refusal: Refusal | None = None
    scaling: ScalingDecision | None = None  # what the status is to say of the pool's size; None: what it says
    last_start: StartStatus | None = None  # the last one that was watched; None: none was
