"""Settings of a gateway replica: TASKFLEET_* environment variables, which the chart sets (docs/reference/settings.md)."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from taskfleet.gateway.places import CALLER_SHARE
from taskfleet.names import FEEDBACK_SECRET, GATEWAY_AUDIENCE, INTERNAL_AUDIENCE, account_subject
from taskfleet.settings import Settings


class AuthMode(StrEnum):
    """How clients are known."""

    KUBERNETES = "Kubernetes"  # TokenReview and SubjectAccessReview
    NONE = "None"  # everybody may call everything: for closed networks


class GatewaySettings(Settings):
    """All times in seconds, all sizes in bytes."""

    namespace: Annotated[str, Field(description="Namespace of the gateway.")]
    service_account: Annotated[str, Field(description="The gateway's own ServiceAccount; tokens for pools are minted for it.")] = (
        "taskfleet-gateway"
    )
    operator_namespace: Annotated[str | None, Field(description="Namespace of the operator; the gateway's own if unset.")] = None
    operator_service_account: Annotated[
        str, Field(description="The only subject that may ask for the routes in force and the measurements.")
    ] = "taskfleet-operator"

    host: Annotated[str, Field(description="Address that both ports listen on.")] = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535, description="The public API.")] = 8080
    internal_port: Annotated[
        int, Field(ge=0, le=65535, description="Metrics and probes; for the operator the routes in force and the measurements.")
    ] = 9090

    auth_mode: Annotated[AuthMode, Field(description="Kubernetes, or None for closed networks.")] = AuthMode.KUBERNETES
    audience: Annotated[str, Field(description="A client's token must have it: a token for the API server is refused.")] = GATEWAY_AUDIENCE
    internal_audience: Annotated[str, Field(description="The operator's token must have it.")] = INTERNAL_AUDIENCE
    review_timeout_seconds: Annotated[
        float, Field(gt=0, le=30, description="After this an API server that does not answer counts as out of reach.")
    ] = 3.0

    cors_origins: Annotated[
        str, Field(description="Comma-separated origins whose web pages may call, or *; none if empty.", pattern=r"^(\*|[^*\s]*)$")
    ] = ""

    feedback_secret: Annotated[
        str, Field(description="Secret in the gateway's namespace with the keys of answers' ids; no verdicts are taken if empty.")
    ] = FEEDBACK_SECRET
    feedback_lifetime_seconds: Annotated[float, Field(gt=0, description="How long an answer can be judged.")] = 86_400.0
    feedback_per_minute: Annotated[
        int, Field(ge=1, description="Verdicts of one caller in a minute at this replica, refused ones included; 429 above it.")
    ] = 600
    feedback_remembered: Annotated[
        int, Field(ge=1, description="Verdicts that this replica remembers, 150 bytes each: one answer is counted once as long as it does.")
    ] = 100_000

    max_connections: Annotated[int, Field(ge=1, description="Clients' connections at once in this replica; 503 above it.")] = 10_000
    max_body_bytes: Annotated[int, Field(ge=1024, description="Longest request body; 413 above it.")] = 8 * 1024 * 1024
    max_buffered_body_bytes: Annotated[
        int, Field(ge=4096, description="Bodies of all requests in work together, a quarter of it for one caller; 429 above it.")
    ] = 256 * 1024 * 1024
    header_timeout_seconds: Annotated[float, Field(gt=0, description="Until a request's head has come; 408 after it.")] = 10.0
    idle_timeout_seconds: Annotated[float, Field(gt=0, description="Of a client's connection between two requests.")] = 75.0
    stall_timeout_seconds: Annotated[
        float, Field(gt=0, description="A client that takes nothing of what it is sent for so long is cut off.")
    ] = 30.0
    body_timeout_seconds: Annotated[float, Field(gt=0, description="Until a request's body has come; 408 after it.")] = 60.0
    max_open_requests: Annotated[int, Field(ge=1, description="Requests in work at once in this replica; 429 above it.")] = 4000
    max_open_per_tenant: Annotated[
        int, Field(ge=1, description="The same for one caller, and for the models of one namespace: nobody can use up the room of all.")
    ] = 1000
    max_held_requests: Annotated[int, Field(ge=0, description="Requests that wait for a pod at once in this replica; 429 above it.")] = 1000
    max_held_per_namespace: Annotated[int, Field(ge=0, description="The same for one namespace, with all its cold and broken tasks.")] = 400
    max_held_per_task: Annotated[int, Field(ge=0, description="The same for one task: a cold one can't use up the room of all.")] = 200
    hold_seconds: Annotated[
        float,
        Field(ge=0, description="How long a request waits for a pod to become able to answer; then 503. Covers an engine that starts."),
    ] = 120.0

    comment_seconds: Annotated[
        float, Field(gt=0, description="Between two comments to a waiting client that asks for them (x-taskfleet-keep-alive: comments).")
    ] = 5.0

    connect_timeout_seconds: Annotated[float, Field(gt=0, description="To a pod; in a cluster it takes a millisecond.")] = 2.0
    first_byte_timeout_seconds: Annotated[
        float, Field(gt=0, description="Until a stream begins: queueing and the prompt; 504 after it.")
    ] = 120.0
    request_timeout_seconds: Annotated[
        float, Field(gt=0, description="For a whole answer, all attempts and waiting included; 504 after it. Clients may ask for less.")
    ] = 600.0

    otlp_endpoint: Annotated[
        str, Field(description="Where spans are sent over OTLP/HTTP, without the path; no spans if empty.", pattern=r"^(https?://\S+)?$")
    ] = ""
    trace_sample_percent: Annotated[float, Field(ge=0, le=100, description="Of requests that bring no decision of their own.")] = 100.0

    shutdown_delay_seconds: Annotated[
        float, Field(ge=0, description="New requests are still taken so long after SIGTERM: endpoints need that long to go everywhere.")
    ] = 5.0
    drain_seconds: Annotated[float, Field(ge=0, description="How long answers under way may take after that.")] = 300.0

    @model_validator(mode="after")
    def _room_for_one_body(self) -> Self:
        if self.max_buffered_body_bytes < CALLER_SHARE * self.max_body_bytes:
            raise ValueError(
                f"max_buffered_body_bytes must be at least {CALLER_SHARE} times max_body_bytes: one caller may have so much of it"
            )
        return self

    @property
    def origins(self) -> frozenset[str]:
        """`cors_origins` as a set."""
        return frozenset(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def operator_subject(self) -> str:
        """The operator's user name, as Kubernetes writes it."""
        return account_subject(self.operator_namespace or self.namespace, self.operator_service_account)
