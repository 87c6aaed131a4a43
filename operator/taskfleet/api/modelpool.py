"""ModelPool: pods of one base model on one ServingClass, and the revisions that they serve. The operator's object."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from taskfleet.api.conditions import Conditions
from taskfleet.api.fields import Decimal, Digest, DnsLabel, DnsSubdomain, Metadata, Model, Uid, VersionName, rules
from taskfleet.api.taskmodel import Adapter, Base, Isolation, Time


class Role(StrEnum):
    """What a member is to its task."""

    STABLE = "Stable"
    CANDIDATE = "Candidate"


class Member(Model):
    """A revision that the pool serves."""

    revision: Annotated[DnsLabel, Field(description="Name of the TaskModelRevision.")]
    uid: Annotated[Uid, Field(description="Its UID.")]
    task_model: Annotated[DnsLabel, Field(description="The TaskModel.")]
    role: Annotated[Role, Field(description="What it is to its task.")]
    adapter: Annotated[
        Adapter | None, Field(description="The adapter; its digest is set once it is resolved. None: the base serves the task.")
    ] = None
    resolved_version: Annotated[
        VersionName | None, Field(description="What the adapter's version stood for when it was resolved: a hub's commit.")
    ] = None
    waits_behind: Annotated[
        int | None,
        Field(
            ge=0,
            le=10,
            description="The digest is known, and no candidate slot is free: so many candidates get one before it, 10 standing for 10 or more.",
        ),
    ] = None
    slot_wanted: Annotated[
        Literal[True] | None,
        Field(
            description="It is held on a step of its canary, and one that can go on waits for its candidate slot: it gives its share back."
        ),
    ] = None


class ModelPoolSpec(Model):
    """What the pool serves."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.base == oldSelf.base", "base is immutable"),
            ("self.servingClassName == oldSelf.servingClassName", "servingClassName is immutable"),
            ("self.isolation == oldSelf.isolation", "isolation is immutable"),
            ("!has(oldSelf.baseDigest) || (has(self.baseDigest) && self.baseDigest == oldSelf.baseDigest)", "baseDigest is set once"),
        ),
    )

    serving_class_name: Annotated[DnsLabel, Field(description="The ServingClass.")]
    base: Annotated[Base, Field(description="The base model.")]
    base_digest: Annotated[Digest | None, Field(description="Digest of the base model, resolved once.")] = None
    base_resolved_revision: Annotated[
        VersionName | None, Field(description="What the base's revision stood for when it was resolved: a hub's commit.")
    ] = None
    isolation: Annotated[Isolation, Field(description="With whom the pool is shared.")] = Isolation.SHARED
    replicas: Annotated[int, Field(ge=0, le=256, description="Pods.")] = 1
    members: Annotated[
        list[Member],
        Field(
            max_length=600,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["revision"]},
            description="The one record of which revisions are assigned here.",
        ),
    ] = Field(default_factory=list)


class MemberState(StrEnum):
    """How far a member is on the pool's pods."""

    PENDING = "Pending"
    PROVEN = "Proven"  # on every Ready pod, at least one; while the pool sleeps: when it went to sleep
    FAILED = "Failed"  # for good, on at least one pod


class MemberStatus(Model):
    """A member, as the pool's agents report it."""

    revision: Annotated[DnsLabel, Field(description="Name of the TaskModelRevision.")]
    state: Annotated[MemberState, Field(description="How far it is.")]
    reason: Annotated[str, Field(max_length=64, description="Stable CamelCase word.")]
    message: Annotated[str, Field(max_length=1024, description="One sentence for people.")] = ""
    upstream_digest: Annotated[
        Digest | None, Field(description="What the version stands for at its source now, where that is not the recorded digest.")
    ] = None


class ScalingReason(StrEnum):
    """Why a pool has the replicas that it has. Stable: people alert on these."""

    STEADY = "Steady"  # what is needed, within the tolerance
    STEP = "Step"  # raised at once: the last seconds need far more than there is
    RAISED = "Raised"  # raised: the stable window needs more
    LOWERED = "Lowered"  # lowered: less was needed throughout the delay
    STARTING = "Starting"  # more waits than there are pods for, and all that are needed are starting; or the first is not Ready yet
    AT_MINIMUM = "AtMinimum"  # no more is needed than minReplicas
    SCHEDULED = "Scheduled"  # no more is needed than a schedule of a task asks for
    FORECAST = "Forecast"  # no more is needed now than is usual at this time of day
    AT_MAXIMUM = "AtMaximum"  # more is needed than maxReplicas
    DOWN_DELAYED = "DownDelayed"  # less is needed, but not for scaleDownDelaySeconds yet
    DOWN_LIMITED = "DownLimited"  # less is needed, but no more pods may go this minute
    NOT_IDLE = "NotIdle"  # the last pod stays: a task has not been idle for its idleSeconds yet
    AT_ZERO = "AtZero"  # asleep: every task is idle; the next request wakes it
    WOKEN = "Woken"  # from zero: requests wait at the gateway
    SPARE = "Spare"  # fewer are needed; the others are the class's spareReplicas
    KEPT_AWAKE = "KeptAwake"  # no request needs it, but a rollout does
    DEMAND_UNKNOWN = "DemandUnknown"  # a gateway is not heard: nothing is taken away
    FROZEN = "Frozen"  # a suspended or unreadable task keeps what there is
    EXTERNAL = "External"  # another autoscaler writes the replicas


class FloorSource(StrEnum):
    """What raises the fewest pods for a while."""

    SCHEDULE = "Schedule"
    FORECAST = "Forecast"


class ScalingFloor(Model):
    """More pods than `minReplicas`, for a while, whatever is needed."""

    replicas: Annotated[int, Field(ge=1, le=256, description="Fewest pods meanwhile.")]
    source: Annotated[str, Field(max_length=64, description="Schedule or Forecast.")]
    task_model: Annotated[DnsLabel, Field(description="The TaskModel that asks for it, or for most of it.")]
    schedule: Annotated[DnsLabel | None, Field(description="Name of its schedule.")] = None
    until: Annotated[Time | None, Field(description="When it ends.")] = None


class ScalingStatus(Model):
    """Why the pool has the replicas that it has."""

    desired_replicas: Annotated[int, Field(ge=0, le=256, description="Pods that are wanted.")] = 0
    reason: Annotated[str, Field(max_length=64, description="Stable CamelCase word.")] = ""
    message: Annotated[str, Field(max_length=1024, description="One sentence for people.")] = ""
    last_scale_time: Annotated[Time | None, Field(description="When spec.replicas was changed last.")] = None
    floor: Annotated[ScalingFloor | None, Field(description="What raises the fewest pods now, where something does.")] = None


class StartPhase(StrEnum):
    """Parts of a pod's start, in their order. Together they are all of it."""

    SCHEDULE = "Schedule"  # from its creation until it has a node
    PULL = "Pull"  # images are pulled and containers started: until the agent runs, and from the base's arrival until the engine's container runs
    BASE = "Base"  # the base is fetched and verified
    ENGINE = "Engine"  # from the start of the engine's container until it answers its health route
    ADAPTERS = "Adapters"  # until every adapter has had one settled attempt
    READY = "Ready"  # until Kubernetes has found that and the Service sends requests


class PhaseSeconds(Model):
    """How long one part took."""

    phase: Annotated[str, Field(max_length=64, description="Schedule, Pull, Base, Engine, Adapters or Ready.")]
    seconds: Annotated[Decimal, Field(description="How long it took, to a tenth; times that Kubernetes tells are whole seconds.")]


class StartStatus(Model):
    """One pod's start, from its creation until it was Ready."""

    pod: Annotated[DnsSubdomain, Field(description="The pod.")]
    created_time: Annotated[Time, Field(description="When it was created.")]
    seconds: Annotated[Decimal, Field(description="From its creation until it was Ready.")]
    slowest: Annotated[str, Field(max_length=64, description="The phase that took longest.")]
    phases: Annotated[
        list[PhaseSeconds],
        Field(
            max_length=8,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["phase"]},
            description="Its parts, in their order; together they are all of it.",
        ),
    ] = Field(default_factory=list)


class ModelPoolStatus(Model):
    """Written by the operator, on transitions only."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation that this is about.")] = 0
    conditions: Annotated[Conditions, Field(description="Available, Ready, Reconciling, Stalled.")] = Field(default_factory=list)
    replicas: Annotated[int, Field(ge=0, description="Pods that exist.")] = 0
    ready_replicas: Annotated[int, Field(ge=0, description="Pods that are Ready.")] = 0
    selector: Annotated[str | None, Field(max_length=512, description="Label selector of the pods, for the scale subresource.")] = None
    scaling: Annotated[ScalingStatus | None, Field(description="Why the pool has the replicas that it has.")] = None
    last_start: Annotated[StartStatus | None, Field(description="How long the pod that was created last took to be Ready.")] = None
    members: Annotated[
        list[MemberStatus],
        Field(
            max_length=600,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["revision"]},
            description="State of the members.",
        ),
    ] = Field(default_factory=list)


class ModelPool(Model):
    """Pods of one base model on one ServingClass in one namespace, and the revisions that they serve."""

    metadata: Metadata
    spec: ModelPoolSpec
    status: ModelPoolStatus = ModelPoolStatus()
