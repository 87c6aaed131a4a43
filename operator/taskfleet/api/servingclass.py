"""ServingClass: how and where task models are served. The administrator's object, like a StorageClass; tenants only name it."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from taskfleet.api.conditions import Conditions
from taskfleet.api.fields import (
    Decimal,
    DnsLabel,
    DnsSubdomain,
    LabelKey,
    Labels,
    LabelValue,
    Metadata,
    Model,
    PodApiObject,
    Quantity,
    rules,
)


class EngineType(StrEnum):
    """Inference engines that can be driven."""

    VLLM = "vLLM"


class ImagePullPolicy(StrEnum):
    """As in the pod API."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class EnvVar(Model):
    """One environment variable of the engine container; plain values only, secrets have no place in a cluster-wide object."""

    name: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable.")]
    value: Annotated[str, Field(max_length=4096, description="Its value.")] = ""


class ImageVolumeSource(Model):
    """Files of an OCI image, mounted read-only."""

    reference: Annotated[str, Field(min_length=1, max_length=512, description="Image reference.")]
    pull_policy: Annotated[ImagePullPolicy, Field(description="When to pull.")] = ImagePullPolicy.IF_NOT_PRESENT


# Volumes of a pool's pods, and the folders where the engine has them.
RESERVED_VOLUMES = ("store", "run", "pool", "credentials", "tmp", "agent-tmp", "shm")
RESERVED_PATHS = ("/store", "/run", "/tmp", "/dev", "/proc", "/sys")  # noqa: S108  names of folders in a container, nothing is written there


class EngineVolume(Model):
    """A volume of the engine container, always read-only."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.claimName) != has(self.image)", "exactly one of claimName and image must be set"),
            (f"!(self.name in {list(RESERVED_VOLUMES)})", f"name must not be one of the pod's own volumes: {', '.join(RESERVED_VOLUMES)}"),
            (
                f"{list(RESERVED_PATHS)}.all(taken, self.mountPath != taken && !self.mountPath.startsWith(taken + '/'))",
                f"mountPath must not be in {', '.join(RESERVED_PATHS)}",
            ),
            ("!self.mountPath.contains('..')", "mountPath must not contain .."),
        ),
    )

    name: Annotated[DnsLabel, Field(description="Name of the volume; those of the pod's own volumes are taken.")]
    mount_path: Annotated[
        str, Field(max_length=256, pattern=r"^/[^:\s]+$", description="Where the engine sees it; not where the pod has volumes of its own.")
    ]
    claim_name: Annotated[DnsSubdomain | None, Field(description="A PersistentVolumeClaim in the pool's namespace.")] = None
    image: Annotated[ImageVolumeSource | None, Field(description="An OCI image (Kubernetes image volume).")] = None


class Resources(Model):
    """Compute resources of a container; the accelerator is added from `accelerator`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                (
                    "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits)"
                    " || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)"
                ),
                "requests must not exceed limits",
            ),
        ),
    )

    requests: Annotated[dict[LabelKey, Quantity], Field(max_length=16, description="Requested, by resource name.")] = Field(
        default_factory=dict
    )
    limits: Annotated[dict[LabelKey, Quantity], Field(max_length=16, description="Limits, by resource name.")] = Field(default_factory=dict)


class Engine(Model):
    """The inference engine and its container."""

    type: Annotated[EngineType, Field(description="Which engine the image holds.")]
    image: Annotated[
        str,
        Field(min_length=1, max_length=512, pattern=r"^[^\s]+$", description="Container image. It needs /bin/sh for its termination hook."),
    ]
    image_pull_policy: Annotated[ImagePullPolicy, Field(description="When to pull the image.")] = ImagePullPolicy.IF_NOT_PRESENT
    image_pull_secrets: Annotated[list[DnsSubdomain], Field(max_length=8, description="Names of pull Secrets in the pool's namespace.")] = (
        Field(default_factory=list)
    )
    command: Annotated[
        list[Annotated[str, Field(max_length=1024)]],
        Field(max_length=16, description="Replaces the command that starts the engine's OpenAI server; the driver's arguments follow it."),
    ] = Field(default_factory=list)
    args: Annotated[
        list[Annotated[str, Field(max_length=1024)]],
        Field(
            max_length=64,
            description="Further arguments of the engine. Those that the operator sets itself (address, port, model, LoRA limits) are refused.",
        ),
    ] = Field(default_factory=list)
    env: Annotated[
        list[EnvVar],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            description="Further environment.",
        ),
    ] = Field(default_factory=list)
    resources: Annotated[Resources, Field(description="CPU and memory of the engine container.")] = Resources()
    shared_memory: Annotated[Quantity, Field(description="Size of /dev/shm. vLLM dies with the usual 64M.")] = "1Gi"
    volumes: Annotated[
        list[EngineVolume],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            description="Read-only volumes of the engine.",
        ),
    ] = Field(default_factory=list)
    max_model_length: Annotated[
        int | None,
        Field(ge=16, le=10_000_000, description="Longest prompt and answer together, in tokens; the model's own limit if unset."),
    ] = None
    startup_seconds: Annotated[int, Field(ge=10, le=7200, description="How long a start may take before the container is restarted.")] = 900
    drain_seconds: Annotated[int, Field(ge=5, le=3600, description="How long a terminating pod may finish what it serves.")] = 120


class Accelerator(Model):
    """The device that each pod gets."""

    resource_name: Annotated[LabelKey, Field(description="Extended resource: `nvidia.com/gpu`, a MIG slice, `amd.com/gpu`, …")]
    count: Annotated[int, Field(ge=1, le=16, description="How many of it a pod gets.")] = 1


class Scheduling(Model):
    """Where pods may run."""

    node_selector: Annotated[Labels, Field(description="Labels that a node must have.")] = Field(default_factory=dict)
    tolerations: Annotated[list[PodApiObject], Field(max_length=16, description="As in the pod API.")] = Field(default_factory=list)
    affinity: Annotated[PodApiObject | None, Field(description="As in the pod API.")] = None
    topology_spread_constraints: Annotated[
        list[PodApiObject], Field(max_length=8, description="As in the pod API; without labelSelector the pool's own pods are meant.")
    ] = Field(default_factory=list)
    priority_class_name: Annotated[DnsSubdomain | None, Field(description="PriorityClass of the pods.")] = None
    runtime_class_name: Annotated[DnsSubdomain | None, Field(description="RuntimeClass of the pods.")] = None
    scheduler_name: Annotated[DnsSubdomain | None, Field(description="Scheduler of the pods.")] = None


class AdapterLimits(Model):
    """How many adapters an engine holds, and how large they may be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.maxActive <= self.maxPerPool + self.candidateSlots", "maxActive must not exceed maxPerPool + candidateSlots"),
            ("!has(self.maxResident) || self.maxActive <= self.maxResident", "maxResident must not be below maxActive"),
        ),
    )

    max_per_pool: Annotated[int, Field(ge=1, le=500, description="Tasks that share one pool.")] = 32
    candidate_slots: Annotated[
        int, Field(ge=1, le=50, description="Adapters beyond maxPerPool that may be loaded while versions change.")
    ] = 2
    max_active: Annotated[
        int, Field(ge=1, le=64, description="Different adapters in one batch (vLLM's max_loras). Above it requests wait.")
    ] = 8
    max_resident: Annotated[
        int | None,
        Field(
            ge=1,
            le=500,
            description=(
                "Adapters that the engine of a pod has loaded at a time; all that are assigned if unset. Those beyond stay staged, and are loaded by their next request."
            ),
        ),
    ] = None
    max_rank: Annotated[
        int, Field(description="Highest LoRA rank.", json_schema_extra={"enum": [1, 8, 16, 32, 64, 128, 256, 320, 512]}, ge=1, le=512)
    ] = 64
    max_size: Annotated[Quantity, Field(description="Largest adapter, all files together.")] = "2Gi"


class OciBases(StrEnum):
    """How a base from a registry comes into a pod."""

    DOWNLOAD = "Download"  # the agent copies it into the pod's store
    IMAGE_VOLUME = "ImageVolume"  # the kubelet pulls it as an image, once for all pods of a node, and mounts it


class StoreLimits(Model):
    """The pod's local store of artifacts, and what comes into it."""

    size_limit: Annotated[Quantity | None, Field(description="Size of the volume that holds base and adapters; unbounded if unset.")] = None
    max_base_size: Annotated[Quantity, Field(description="Largest base model, all files together.")] = "200Gi"
    oci_bases: Annotated[
        OciBases,
        Field(
            description=("How an oci:// base comes into a pod. ImageVolume needs a cluster that has image volumes. Immutable."),
            # Both ways have digests of their own kind, which are recorded once.
            json_schema_extra=rules(("self == oldSelf", "ociBases is immutable; make another class")),
        ),
    ] = OciBases.DOWNLOAD


class Autoscaler(StrEnum):
    """Who writes the replicas of a class's pools."""

    BUILTIN = "Builtin"  # the operator
    EXTERNAL = "External"  # an HPA or KEDA, by the scale subresource of ModelPools


class ScalingDefaults(Model):
    """How pools of the class follow their demand, and what a TaskModel gets where it does not say."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"),
            (
                "self.autoscaler == 'Builtin' || self.spareReplicas == 0",
                "spareReplicas has an effect with autoscaler Builtin only; another autoscaler's own minimum is its spare",
            ),
        )
    )

    min_replicas: Annotated[int, Field(ge=0, le=256, description="Fewest replicas.")] = 1
    max_replicas: Annotated[int, Field(ge=1, le=256, description="Most replicas.")] = 1
    target_concurrency: Annotated[int, Field(ge=1, le=10_000, description="Requests in flight per replica that are aimed at.")] = 16
    idle_seconds: Annotated[int, Field(ge=10, le=604_800, description="How long without a request until a task counts as idle.")] = 300
    spare_replicas: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="Pods kept beyond what the demand of a pool needs, also at rest; maxReplicas still holds. Above 0 no pool sleeps.",
        ),
    ] = 0
    autoscaler: Annotated[
        Autoscaler,
        Field(description="Who writes the replicas of the class's pools: the operator, or an HPA or KEDA by the scale subresource."),
    ] = Autoscaler.BUILTIN
    stable_window_seconds: Annotated[
        int, Field(ge=10, le=3600, description="Over how long demand is averaged where it is no step; steps upwards are followed at once.")
    ] = 60
    scale_down_delay_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="How long less must have been needed before pods are taken away.")
    ] = 120
    tolerance_percent: Annotated[
        int, Field(ge=0, le=100, description="How far above targetConcurrency pods may be before one is added.")
    ] = 10
    max_scale_down_percent: Annotated[
        int, Field(ge=1, le=100, description="Most pods that are taken away in a minute, in percent; one always may be.")
    ] = 50


class NamespaceSelector(Model):
    """Which namespaces may use the class: those named and those whose labels match."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.names) && size(self.names) > 0) || (has(self.matchLabels) && size(self.matchLabels) > 0)",
                "names or matchLabels must be set",
            ),
        ),
    )

    names: Annotated[list[DnsLabel], Field(max_length=256, description="Names of namespaces.")] = Field(default_factory=list)
    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16, description="Labels that a namespace must all have.")] = Field(
        default_factory=dict
    )


class PodMetadata(Model):
    """Labels and annotations for pool pods, for meshes, billing and policies."""

    labels: Annotated[Labels, Field(description="Further labels.")] = Field(default_factory=dict)
    annotations: Annotated[
        dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32, description="Further annotations.")
    ] = Field(default_factory=dict)


class ServingClassSpec(Model):
    """How task models of this class are served."""

    engine: Annotated[Engine, Field(description="The inference engine.")]
    accelerator: Annotated[Accelerator | None, Field(description="The device of each pod; none: the engine runs on the CPU.")] = None
    scheduling: Annotated[Scheduling, Field(description="Where pods may run.")] = Scheduling()
    adapters: Annotated[AdapterLimits, Field(description="Limits of adapters.")] = AdapterLimits()
    store: Annotated[StoreLimits, Field(description="Limits of the local store.")] = StoreLimits()
    scaling: Annotated[ScalingDefaults, Field(description="How pools follow their demand, and defaults of spec.scaling of TaskModels.")] = (
        ScalingDefaults()
    )
    agent_resources: Annotated[Resources, Field(description="CPU and memory of the agent container.")] = Resources(
        requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "1Gi"}
    )
    pod_metadata: Annotated[PodMetadata, Field(description="Further labels and annotations of pods.")] = PodMetadata()
    allowed_namespaces: Annotated[NamespaceSelector | None, Field(description="Which namespaces may use the class; all if unset.")] = None
    price_per_hour: Annotated[Decimal | None, Field(description="Price of one pod for an hour, in the fleet's currency.")] = None


class ServingClassStatus(Model):
    """Written by the operator."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation that the conditions are about.")] = 0
    conditions: Annotated[Conditions, Field(description="Accepted, Ready.")] = Field(default_factory=list)


class ServingClass(Model):
    """How and where task models are served: engine, accelerator, limits, price."""

    metadata: Metadata
    spec: ServingClassSpec
    status: ServingClassStatus = ServingClassStatus()
