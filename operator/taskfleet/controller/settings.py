"""Settings of the operator: TASKFLEET_* environment variables, which the chart sets (docs/reference/settings.md)."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from taskfleet import names
from taskfleet.artifacts.addresses import parse_networks
from taskfleet.resources.settings import EvaluatorSettings, PoolSettings
from taskfleet.settings import Settings


class OperatorSettings(Settings):
    """All times in seconds."""

    namespace: Annotated[str, Field(min_length=1, description="Namespace of the operator and of the gateway.")]
    pod_name: Annotated[str, Field(min_length=1, description="Name of this replica, as the Lease shows it.")] = "operator"
    service_account: Annotated[str, Field(description="The operator's own ServiceAccount; tokens for pools are minted for it.")] = (
        "taskfleet-operator"
    )

    gateway_service_account: Annotated[str, Field(description="The only subject that agents take requests from.")] = "taskfleet-gateway"
    gateway_service: Annotated[str, Field(description="Service by whose EndpointSlices the gateway's replicas are found.")] = (
        "taskfleet-gateway"
    )
    gateway_internal_port: Annotated[int, Field(ge=1, le=65535, description="Where a gateway replica says which routes are in force.")] = (
        9090
    )
    gateway_url: Annotated[str, Field(description="Address of the gateway for people; goes into the status of TaskModels.")] = ""
    gateway_audience: Annotated[str, Field(min_length=1, description="What tokens of the gateway's clients must be issued for.")] = (
        names.GATEWAY_AUDIENCE
    )
    gateway_cluster_url: Annotated[
        str, Field(description="Address of the gateway for evaluations; the gateway's Service in the operator's namespace if empty.")
    ] = ""

    evaluator_image: Annotated[str, Field(description="Image of the Jobs that run golden sets; the agent's if empty.")] = ""
    agent_image: Annotated[str, Field(min_length=1, description="Image of the agent; the operator's own.")]
    agent_image_pull_policy: Annotated[Literal["Always", "IfNotPresent", "Never"], Field(description="When to pull it.")] = "IfNotPresent"
    insecure_registries: Annotated[str, Field(description="Comma-separated hosts of registries that agents ask over plain http.")] = ""
    allowed_networks: Annotated[
        str, Field(description="Comma-separated networks (CIDR), beside the public ones, from which agents may fetch artifacts.")
    ] = ""

    host: Annotated[str, Field(description="Address that probes and metrics listen on.")] = "0.0.0.0"
    probe_port: Annotated[int, Field(ge=0, le=65535, description="Liveness and readiness.")] = 8080
    metrics_port: Annotated[int, Field(ge=0, le=65535, description="Metrics.")] = 9090

    workers: Annotated[int, Field(ge=1, le=256, description="Keys that are reconciled at a time.")] = 16
    kube_qps: Annotated[float, Field(gt=0, description="Calls to the API server a second, over time.")] = 100.0
    kube_burst: Annotated[int, Field(ge=1, description="Calls to the API server at once.")] = 200
    relist_seconds: Annotated[
        float, Field(ge=5, description="How often the cache is compared with the API server: watches lose deletions, and can stand still.")
    ] = 300.0
    users_relist_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="The same for what users write: a new TaskModel is noticed within that time though its watch stands still.",
        ),
    ] = 60.0
    trust_refresh_seconds: Annotated[float, Field(ge=1, description="How often the issuer's keys are looked up.")] = 60.0
    refused_retry_seconds: Annotated[
        float,
        Field(
            ge=0.5,
            description="What the API server refused is tried again so often: nobody tells that a quota, a policy or a right has changed.",
        ),
    ] = 30.0
    stall_seconds: Annotated[float, Field(ge=5, description="Liveness fails when a key waits or is worked on for so long.")] = 120.0

    lease_name: Annotated[str, Field(description="Lease of the leader.")] = "taskfleet-operator"
    lease_seconds: Annotated[float, Field(ge=2, description="Without a renewal for so long, another replica takes over.")] = 22.0
    lease_renew_seconds: Annotated[
        float, Field(ge=0.2, description="How often the leader renews; it gives up after three quarters of `lease_seconds` without.")
    ] = 3.0

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        # Every pool's agents get it: better that the operator doesn't start.
        parse_networks(value)
        return value

    @property
    def operator_subject(self) -> str:
        """The operator's user name, as Kubernetes writes it."""
        return names.account_subject(self.namespace, self.service_account)

    @property
    def gateway_subject(self) -> str:
        """The gateway's user name, as Kubernetes writes it."""
        return names.account_subject(self.namespace, self.gateway_service_account)

    @property
    def internal_audience(self) -> str:
        """Audience of the tokens that gateways ask of the operator."""
        return names.INTERNAL_AUDIENCE

    @property
    def pool_settings(self) -> PoolSettings:
        """What shapes pool pods."""
        return PoolSettings(
            agent_image=self.agent_image,
            operator_namespace=self.namespace,
            agent_image_pull_policy=self.agent_image_pull_policy,
            insecure_registries=self.insecure_registries,
            allowed_networks=self.allowed_networks,
            log_level=self.log_level,
            log_style=self.log_style,
        )

    @property
    def evaluator_settings(self) -> EvaluatorSettings:
        """What shapes the Jobs of evaluations."""
        gateway = self.gateway_cluster_url or f"http://{self.gateway_service}.{self.namespace}.svc"
        return EvaluatorSettings(
            image=self.evaluator_image or self.agent_image,
            image_pull_policy=self.agent_image_pull_policy,
            gateway_url=f"{gateway.rstrip('/')}/v1",
            audience=self.gateway_audience,
            insecure_registries=self.insecure_registries,
            allowed_networks=self.allowed_networks,
            log_level=self.log_level,
            log_style=self.log_style,
        )
