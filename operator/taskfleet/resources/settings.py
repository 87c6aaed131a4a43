"""What the operator's settings say about pool pods."""

from dataclasses import dataclass


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
