"""What operator and agent say to each other: the desired document, the reported state, and digest resolution.

The desired document reaches a pod twice: as the mounted ConfigMap (key `desired.json`) and as the same PUT by the operator, which takes effect in milliseconds.
An agent keeps the newest one that it accepted and never goes back within a pool's UID. The keys that it checks tokens against stand beside it (key `trust.json`).
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from taskfleet.api.fields import Model
from taskfleet.api.taskmodel import Adapter, Base

DESIRED_KEY = "desired.json"
TRUST_KEY = "trust.json"

# Routes of the agent's administration, for the operator's token only.
DESIRED_PATH = "/agent/v1/desired"  # PUT DesiredState; 200 AgentState, 409 where a newer one or another UID is in force
STATE_PATH = "/agent/v1/state"  # GET AgentState; ?after=VERSION&wait=SECONDS answers when version > after, or after the wait (at most 60)
DRAIN_PATH = "/agent/v1/drain"  # POST DrainRequest; DrainReply with 200 where it was accepted, with 409 where not
UNDRAIN_PATH = "/agent/v1/undrain"  # POST; 200 AgentState; ends an accepted drain, and no other
RESOLVE_PATH = "/agent/v1/resolve"  # POST ResolveRequest; 200 ResolveReply, 4xx/5xx AgentProblem
# For the tokens of the pool's own pods only: copies of what is in this pod's store. `shelf` is `base` or `adapters`.
MANIFEST_PATH = (
    "/agent/v1/artifacts/{shelf}/{digest}"  # GET; 200: the text whose SHA-256 is the digest; 404 where there is no copy to be given
)
FILE_PATH = "/agent/v1/artifacts/{shelf}/{digest}/{file}"  # GET, with `Range: bytes=N-` the rest; 503 where too many are being given
# Open routes, for the kubelet and for metrics.
ENGINE_HEALTH_PATH = "/engine/health"  # 200 while the engine answers its health route
READY_PATH = "/readyz"  # 200 when the engine is healthy and every desired adapter has had one settled attempt
LIVE_PATH = "/livez"
METRICS_PATH = "/metrics"

# 421 Misdirected Request carries this OpenAI-shaped error code: the pod has not proven (or no longer serves) the model; ask another pod.
NOT_HERE = "not-here"
NOT_HERE_STATUS = 421
# Answers to inference requests whose address the engine does not have: an embedding model can't chat.
NO_SUCH_ROUTE = 501


class PoolIdentity(Model):
    """The pool that a document is for."""

    namespace: str
    name: str
    uid: str


class DesiredAdapter(Model):
    """An adapter that the pod is to hold."""

    engine_name: str
    revision: str
    adapter: Adapter  # with its digest
    resolved_version: str | None = None  # what its version stood for when it was resolved, where that has a name of its own: a hub's commit


class Limits(Model):
    """Bounds that the agent enforces before an engine sees an artifact. Sizes in bytes."""

    max_rank: int
    max_adapter_bytes: int
    max_base_bytes: int
    # Size of the volume that holds base and adapters; None: unbounded. The kubelet evicts a pod whose volume grows beyond it, with all that serves there.
    store_bytes: int | None = None


class DesiredState(Model):
    """What a pod of the pool is to hold."""

    pool: PoolIdentity
    generation: int  # of the ModelPool; grows with every change of the pool
    # Stands for all that the document says. Limits come from the ServingClass, and change without a new generation.
    fingerprint: Annotated[str | None, Field(max_length=64)] = None
    base: Base
    base_digest: str | None = None  # None: not resolved yet; the agent waits for a newer document
    base_resolved_version: str | None = None  # as an adapter's
    served_base_name: str  # the base's name inside the engine
    serve_base: bool = False  # True where a member without adapter is assigned: then requests may name the base itself
    limits: Limits
    max_resident: int | None = None  # adapters that the engine is to have loaded at a time; None: all
    adapters: Annotated[tuple[DesiredAdapter, ...], Field(max_length=600)] = ()


class Trust(Model):
    """What the agent checks tokens against. The subject of the pool's own pods follows from `PoolIdentity`."""

    issuer: str
    jwks: dict[str, Any]
    operator_subject: str  # system:serviceaccount:<namespace>:<name>
    gateway_subject: str


class AdapterPhase(StrEnum):
    """How far an adapter is in one pod."""

    STAGING = "Staging"  # being fetched and verified, or waiting to be tried again
    LOADING = "Loading"  # staged; being loaded and proven
    PROVEN = "Proven"
    FAILED = "Failed"  # for good
    DRAINING = "Draining"  # no longer desired; finishing what is in flight
    UNLOADING = "Unloading"


class AdapterReport(Model):
    """One adapter in one pod. `reason` is one of `conditions.Reason`."""

    engine_name: str
    revision: str
    phase: AdapterPhase
    reason: str
    message: str = ""
    in_flight: int = 0
    cold: bool = False  # proven, and not loaded just now: its next request waits for the load
    upstream_digest: str | None = None  # what the version stands for at its source now, where that is not what is recorded


class BaseReport(Model):
    """The base in one pod."""

    staged: bool
    reason: str
    message: str = ""


class EngineReport(Model):
    """The engine in one pod."""

    healthy: bool
    starts: int = 0  # times that it was seen to become healthy


class StartReport(Model):
    """When the pod's start came how far, by the clock of its node. Of the agent's own first run only: a restarted agent finds what was there before it."""

    agent_at: AwareDatetime  # the agent runs
    base_at: AwareDatetime  # the base is fetched and verified
    engine_at: AwareDatetime  # the engine answers its health route
    adapters_at: AwareDatetime  # every adapter that was wanted then has had one settled attempt


class AgentState(Model):
    """What one pod reports. `version` grows with every change of anything but the counts in flight, the time without any, and which adapters are cold."""

    pod: str
    pool_uid: str
    generation: int  # of the desired document in force
    fingerprint: str | None = None  # of that document, as it was written in it; the agent does not compute it
    version: int
    draining: bool
    base: BaseReport
    engine: EngineReport
    adapters: tuple[AdapterReport, ...] = ()
    in_flight: int = 0
    # How long nothing has been in flight; at most the agent's own age. None: an agent of an earlier version, which does not measure it.
    idle_seconds: float | None = None
    # Once the pod has come up; None: it has not yet, or by an agent of an earlier version.
    start: StartReport | None = None


class DrainRequest(Model):
    """Let nothing in any more, if nothing is in flight and nothing has been for `idle_seconds`.

    An accepted drain ends by itself after `hold_seconds`: whoever asked may die before the pod's end is written. Asking again holds on for as long anew.
    """

    idle_seconds: Annotated[float, Field(ge=0, le=604_800)]
    hold_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0


class DrainReply(Model):
    """What the agent decided, and on which figures. Once it has accepted, inference requests are answered with 421."""

    accepted: bool
    in_flight: int
    idle_seconds: float  # as AgentState's


class ArtifactKind(StrEnum):
    """What an artifact is to be verified as."""

    BASE = "Base"
    ADAPTER = "Adapter"


class ResolveRequest(Model):
    """Which bytes stand behind a version now? Asked of one designated agent of the pool."""

    kind: ArtifactKind
    source: str
    version: str
    digest: str | None = None  # a pin: resolved by itself, and checked to exist
    credentials_key: str | None = None


class ResolveReply(Model):
    """The digest, and the name that never stands for anything else, where the source has such names."""

    digest: str
    version: str | None = None


class AgentProblem(Model):
    """An error of the administration. `reason` is one of `conditions.Reason`; permanent ones are not worth a retry."""

    reason: str
    message: str
    permanent: bool
