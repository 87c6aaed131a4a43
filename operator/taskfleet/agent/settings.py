"""Settings of the agent, set by the pod template."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from taskfleet import names
from taskfleet.artifacts.addresses import Network, parse_networks
from taskfleet.settings import Settings


class AgentSettings(Settings):
    """What the agent reads. `await-base`, which starts without this model, reads `run` and how to log as well."""

    pod_name: Annotated[str, Field(description="The pod, as reported to the operator.")] = ""
    pod_ip: Annotated[str, Field(description="Address to listen on; nothing else in the pod does.")] = "0.0.0.0"
    listen_port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on.")] = names.AGENT_PORT
    engine_type: Annotated[str, Field(description="Which driver speaks to the engine: vLLM.")] = "vLLM"
    engine_port: Annotated[int, Field(ge=1, le=65535, description="The engine's port on the loopback interface.")] = names.ENGINE_PORT
    store: Annotated[Path, Field(description="Folder of staged artifacts, shared with the engine.")] = Path("/store")
    run: Annotated[Path, Field(description="Folder of the signs that agent and engine container leave for each other.")] = Path(
        "/run/taskfleet"
    )
    pool_dir: Annotated[Path, Field(description="The pool's mounted ConfigMap.")] = Path("/etc/taskfleet/pool")
    credentials_dir: Annotated[Path, Field(description="The namespace's mounted Secret; need not exist.")] = Path(
        "/etc/taskfleet/credentials"
    )
    claims_dir: Annotated[Path, Field(description="Folder in which PersistentVolumeClaims are mounted, by name; need not exist.")] = Path(
        "/claims"
    )
    base_image: Annotated[Path | None, Field(description="Where the kubelet has mounted the base as an image volume, if it did.")] = None
    drain_seconds: Annotated[float, Field(ge=0, le=86_400, description="How long requests in flight may take once the pod is to go.")] = 60
    insecure_registries: Annotated[
        str, Field(description="Comma-separated registry hosts (with ports) that are asked over plain http.")
    ] = ""
    peers: Annotated[
        str, Field(description="Comma-separated hosts with ports that are asked for copies of artifacts, instead of the pool's other pods.")
    ] = ""
    linger_seconds: Annotated[
        float,
        Field(ge=0, description="How long a terminating pod that may have the last copy of an artifact stays for the pod in its place."),
    ] = 10
    copy_bytes_per_second: Annotated[int, Field(ge=1, description="Bandwidth for all copies that are given to other pods together.")] = (
        128 * 1024 * 1024
    )
    allowed_networks: Annotated[
        str, Field(description="Comma-separated networks (CIDR), beside the public ones, from which artifacts may be fetched.")
    ] = ""
    max_body_bytes: Annotated[int, Field(ge=1024, description="Largest request body.")] = 32 * 1024 * 1024
    stage_seconds: Annotated[float, Field(gt=0, description="How long fetching one artifact may take.")] = 3600

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def networks(self) -> tuple[Network, ...]:
        """`allowed_networks`, read."""
        return parse_networks(self.allowed_networks)

    @property
    def peer_token(self) -> Path:
        """The pod's token for the pool's other pods."""
        return self.pool_dir / names.PEER_TOKEN_FILE

    @property
    def peer_addresses(self) -> tuple[tuple[str, int], ...]:
        """`peers` as pairs of host and port."""
        parts = (peer.strip().rpartition(":") for peer in self.peers.split(",") if peer.strip())
        return tuple((host, int(port)) for host, _, port in parts)

    @property
    def insecure_hosts(self) -> frozenset[str]:
        """`insecure_registries` as a set."""
        return frozenset(host.strip().lower() for host in self.insecure_registries.split(",") if host.strip())
