"""Conditions and their reasons. Reasons are stable: people alert on them, and the troubleshooting page is generated from here."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from taskfleet.api.fields import Model


class ConditionType(StrEnum):
    """What a condition is about. All but the last five are True when things are well."""

    ACCEPTED = "Accepted"  # the spec is valid and its ServingClass may be used
    ASSIGNED = "Assigned"  # the task has a pool
    ADAPTER_READY = "AdapterReady"  # the current revision is proven on every Ready pod, at least one
    AVAILABLE = "Available"  # it can answer now, or is at zero and can wake
    ROLLOUT_HEALTHY = "RolloutHealthy"  # no revision was rejected or rolled back
    READY = "Ready"  # the summary
    RECONCILING = "Reconciling"  # abnormal-true (kstatus): work is under way
    STALLED = "Stalled"  # abnormal-true (kstatus): nothing happens before somebody acts
    VERSION_MOVED = "VersionMoved"  # abnormal-true: the version stands for other bytes at its source than those that serve
    DEMAND_UNKNOWN = "DemandUnknown"  # abnormal-true, of pools: not all gateways are heard, and no pod is taken away
    FIELDS_WITHOUT_EFFECT = "FieldsWithoutEffect"  # abnormal-true: names fields of the spec that this version does not act on


class Reason(StrEnum):
    """Why a condition is as it is. Each value's comment is what the reader should know."""

    # Accepted
    VALID = "Valid"  # the spec is valid
    INVALID_SPEC = "InvalidSpec"  # a field is invalid; the message names it
    INVALID_SCHEMA = "InvalidSchema"  # a JSON Schema text of the task is not a JSON Schema
    UNSUPPORTED_SOURCE = "UnsupportedSource"  # the source's scheme is not supported by this version
    CLAIM_NOT_OFFERED = "ClaimNotOffered"  # a pvc:// source names a claim that is not there or lacks the label that offers it
    NO_DEFAULT_CLASS = "NoDefaultClass"  # no servingClassName, and no ServingClass is marked as the default
    CLASS_NOT_FOUND = "ServingClassNotFound"  # the named ServingClass does not exist
    CLASS_NOT_ALLOWED = "ServingClassNotAllowed"  # the ServingClass may not be used from this namespace
    CLASS_INVALID = "ServingClassInvalid"  # the ServingClass itself is not accepted
    # Assigned
    MEMBER_OF_POOL = "MemberOfPool"  # assigned to the pool that the message names
    WAITING_FOR_POOL = "WaitingForPool"  # packing has not placed the task yet
    SUSPENDED = "Suspended"  # spec.suspend: nothing of this task is changed
    # AdapterReady
    PROVEN = "Proven"  # the engine lists it, and it answered a probe
    RESOLVING = "Resolving"  # the digest of the version is being looked up
    LOADING = "Loading"  # being fetched, verified or loaded
    SOURCE_UNAVAILABLE = "SourceUnavailable"  # the source can't be read now; retried with backoff
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"  # the source is at a network address that the administrator has not allowed
    ARTIFACT_NOT_FOUND = "ArtifactNotFound"  # the source answers, but has no such version; retried with backoff
    ARTIFACT_INVALID = "ArtifactInvalid"  # the artifact can't be served: wrong files, base, rank or bytes
    ENGINE_REJECTED = "EngineRejected"  # the engine refused the adapter for good
    DIGEST_MISMATCH = "DigestMismatch"  # the bytes at the source are not those that were pinned or recorded
    CREDENTIALS_MISSING = "CredentialsMissing"  # the entry that credentialsKey names is not in the Secret taskfleet-credentials
    STORE_FULL = "StoreFull"  # the pod's store has no room for the artifact; what serves goes on, and it is tried again
    # Available, and pools
    SERVING = "Serving"  # answers
    AT_ZERO = "AtZero"  # asleep with no pods; the next request wakes it, and is answered
    WAKING = "Waking"  # comes from zero; requests wait at the gateway until a pod is Ready
    NO_READY_PODS = "NoReadyPods"  # no pod of the pool is Ready
    UNSCHEDULABLE = "Unschedulable"  # the scheduler finds no node; its message is copied
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # an image of the pod can't be pulled
    ENGINE_CRASHING = "EngineCrashing"  # the engine container keeps failing
    CONTAINER_FAILING = "ContainerFailing"  # another container than the engine keeps failing, or one can't be created
    POD_REFUSED = "PodRefused"  # pods can't be created: quota, admission policy, Pod Security
    STARTING = "Starting"  # pods are starting
    PROGRESSING = "Progressing"  # a new version is being brought up; what served before goes on serving
    # Rollout
    UP_TO_DATE = "UpToDate"  # the spec's revision serves
    ROLLING = "Rolling"  # the spec's revision is on its way
    CANDIDATE_FAILED = "CandidateFailed"  # the new revision can't be served; the stable one goes on
    GATE_FAILED = "GateFailed"  # the new revision's score on the golden set is too low; it got no traffic
    ANALYSIS_BREACHED = "AnalysisBreached"  # the new revision did worse on live traffic than allowed; all traffic went back
    ABORTED = "Aborted"  # somebody aborted or undid the revision
    GATE_UNMEASURABLE = "GateUnmeasurable"  # the gate could not be measured; nothing is promoted before it is
    NO_TRAFFIC = "NoTraffic"  # the step saw too few requests to be judged, and holds
    INCONCLUSIVE = "Inconclusive"  # the step's evidence allows neither a promotion nor a rollback, and it holds
    PAUSED = "Paused"  # somebody paused the rollout
    # VersionMoved
    NEW_BYTES_UPSTREAM = "NewBytesUpstream"  # the version stands for other bytes at its source now, which are not served
    # DemandUnknown
    GATEWAY_NOT_HEARD = "GatewayNotHeard"  # what a gateway is asked for is not known; the pool keeps its pods until it is
    # FieldsWithoutEffect
    NOT_IN_THIS_VERSION = "NotInThisVersion"  # the fields are valid and kept; this version does not act on them
    # Operator's own trouble
    API_REFUSED = "ApiRefused"  # the API server refused a write; its message is copied
    NAME_TAKEN = "NameTaken"  # an object that is not the operator's has the name that one of its own needs; the message names it


# Nothing comes right before somebody acts, though the operator goes on trying. Everything else is work under way.
STALLING = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.INVALID_SCHEMA,
        Reason.UNSUPPORTED_SOURCE,
        Reason.CLAIM_NOT_OFFERED,
        Reason.NO_DEFAULT_CLASS,
        Reason.CLASS_NOT_FOUND,
        Reason.CLASS_NOT_ALLOWED,
        Reason.CLASS_INVALID,
        Reason.SUSPENDED,
        Reason.SOURCE_NOT_ALLOWED,
        Reason.ARTIFACT_NOT_FOUND,
        Reason.ARTIFACT_INVALID,
        Reason.ENGINE_REJECTED,
        Reason.DIGEST_MISMATCH,
        Reason.CREDENTIALS_MISSING,
        Reason.STORE_FULL,
        Reason.UNSCHEDULABLE,
        Reason.IMAGE_UNAVAILABLE,
        Reason.ENGINE_CRASHING,
        Reason.CONTAINER_FAILING,
        Reason.POD_REFUSED,
        Reason.CANDIDATE_FAILED,
        Reason.GATE_FAILED,
        Reason.ANALYSIS_BREACHED,
        Reason.ABORTED,
        Reason.GATE_UNMEASURABLE,
        Reason.INCONCLUSIVE,
        Reason.API_REFUSED,
        Reason.NAME_TAKEN,
    }
)

# With these, Available=False does not pass by itself: no request waits for it, each is told at once (gateway). Containers that keep failing are not among them, because the next
# start may be the good one.
CANNOT_START = STALLING - {Reason.ENGINE_CRASHING, Reason.CONTAINER_FAILING}


class Condition(Model):
    """As metav1.Condition, with its own observedGeneration."""

    type: Annotated[str, Field(max_length=64, description="What the condition is about.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=64, description="Stable CamelCase word; alert on this.")]
    message: Annotated[str, Field(max_length=4096, description="One sentence for people.")]
    observed_generation: Annotated[int, Field(ge=0, description="metadata.generation that this was said of.")]
    last_transition_time: Annotated[
        str, Field(max_length=32, json_schema_extra={"format": "date-time"}, description="When status changed last.")
    ]


Conditions = Annotated[
    list[Condition],
    Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]
