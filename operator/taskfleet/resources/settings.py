"""What the operator's settings say about the pods that it has made."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The same for all pools. Everything but `operator_namespace` shapes the pod template: a change rolls every pod."""

    agent_image: str
    operator_namespace: str
    agent_image_pull_policy: str = "IfNotPresent"
    # Comma-separated hosts of registries that are asked over plain http.
    insecure_registries: str = ""
    # Comma-separated networks, beside the public ones, from which artifacts may be fetched.
    allowed_networks: str = ""
    log_level: str = "INFO"
    log_style: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorSettings:
    """The same for all evaluations; a change is for the next ones."""

    image: str
    gateway_url: str  # inside the cluster, up to and with /v1
    audience: str  # of the token that the gateway asks for
    image_pull_policy: str = "IfNotPresent"
    insecure_registries: str = ""
    allowed_networks: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_style: Literal["text", "json"] = "text"
