"""The product, installed once on the test cluster, and what users of it have: namespaces, tokens, artifacts, TaskModels."""

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taskfleet import names
from taskfleet.artifacts.push import push
from tests.cluster import adapters
from tests.cluster.adapters import Flaw
from tests.cluster.api import NAMESPACE, POD, SERVICE, SERVING_CLASS, TASK_MODEL, Api, Object
from tests.cluster.load import Target
from tests.cluster.openai_client import Answer, OpenAiClient
from tests.cluster.oracles import agents_healthy
from tests.cluster.own_metrics import MetricsSource
from tests.cluster.registry_upload import remove, upload

SYSTEM = "taskfleet-system"
MANIFESTS = Path(__file__).parent / "manifests"
METRICS_PORT = 9090
USER = "user-application"
STRANGER = "user-stranger"
PROMPT = "2024-03-07 ACME Corp 120.50 EUR"
# The simulator says in its answers which bytes answered: this many digits of the SHA-256 of the adapter's weights.
MARK_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something in the registry. `mark` occurs in the simulator's answers by these bytes."""

    source: str
    version: str
    digest: str
    mark: str = ""

    @property
    def reference(self) -> Object:
        return {"source": self.source, "version": self.version}


@dataclass(frozen=True, slots=True)
class Registries:
    """The local registry as programs of the machine know it, and as pods do. HOST:PORT, plain HTTP."""

    on_host: str
    in_pods: str


@dataclass
class Fleet:
    """An installed taskfleet."""

    api: Api
    registries: Registries
    base: Artifact
    _artifacts: dict[tuple[str, str], Artifact] = field(default_factory=dict)

    @property
    def gateway_url(self) -> str:
        """The gateway's Service, by its cluster address, which the machine reaches."""
        service = self.api.get(SERVICE, "taskfleet-gateway", SYSTEM)
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    def artifact(self, name: str, version: str = "v1", *, rank: int = 8) -> Artifact:
        """A good adapter in the registry; another name or version has other bytes, and a higher rank more of them."""
        if (name, version) not in self._artifacts:
            with tempfile.TemporaryDirectory() as folder:
                weights = adapters.write(Path(folder), seed=f"{name} {version}", rank=rank)
                self._artifacts[name, version] = self._push(Path(folder), name, version, mark=weights[:MARK_DIGITS])
        return self._artifacts[name, version]

    def move_tag(self, artifact: Artifact) -> Artifact:
        """Gives other bytes to the version of an artifact, as whoever pushes a tag again does."""
        name = artifact.source.rpartition("/")[2]
        with tempfile.TemporaryDirectory() as folder:
            weights = adapters.write(Path(folder), seed=f"{name} {artifact.version} moved")
            return self._push(Path(folder), name, artifact.version, mark=weights[:MARK_DIGITS])

    def unpush(self, artifact: Artifact) -> None:
        """Removes an artifact from the registry."""
        remove(self.registries.on_host, f"adapters/{artifact.source.rpartition('/')[2]}", artifact.digest)

    def flawed(self, flaw: Flaw) -> Artifact:
        """A bad adapter in the registry, put there by hand: the product's own push refuses some of them."""
        repository = f"adapters/{flaw}"
        with tempfile.TemporaryDirectory() as folder:
            adapters.write_flawed(Path(folder), flaw)
            digest = upload(self.registries.on_host, repository, "bad", Path(folder))
        return Artifact(f"oci://{self.registries.in_pods}/{repository}", "bad", digest)

    def tag_base(self, revision: str) -> None:
        """Gives the base in the registry another revision's name."""
        push(adapters.BASE, f"{self.registries.on_host}/{self.base.source.rpartition('/')[2]}:{revision}", insecure=True)

    def _push(self, folder: Path, name: str, version: str, *, mark: str = "") -> Artifact:
        digest = push(folder, f"{self.registries.on_host}/adapters/{name}:{version}", insecure=True)
        return Artifact(f"oci://{self.registries.in_pods}/adapters/{name}", version, digest, mark)

    def serving_class(self, name: str, *, default: bool = False, **changes: Mapping[str, Any] | object) -> Object:
        """Applies a ServingClass like `simulator`, with parts of its spec changed."""
        body = yaml.safe_load((MANIFESTS / "serving-class-simulator.yaml").read_text())
        body["metadata"] = {"name": name, "annotations": {names.ANNOTATION_DEFAULT_CLASS: "true"} if default else {}}
        body["spec"] = merged(body["spec"], changes)
        return self.api.apply(body)

    @contextmanager
    def tenant(self, stem: str, *, labels: Mapping[str, str] | None = None) -> Iterator["Tenant"]:
        """A namespace of its own under Pod Security `restricted`, with an application that may invoke its TaskModels; gone afterwards."""
        tenant = self.admit(f"{stem}-{secrets.token_hex(2)}", labels=labels)
        try:
            yield tenant
            agents_healthy(self.api, tenant.namespace)
        finally:
            self.api.delete(NAMESPACE, tenant.namespace)

    def admit(self, namespace: str, *, labels: Mapping[str, str] | None = None) -> "Tenant":
        restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self.api.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": restricted | dict(labels or {})}}
        )
        for account in (USER, STRANGER):
            self.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}})
        self.bind(namespace, USER, "taskfleet-invoker")
        return Tenant(self, namespace, self.api.token(USER, namespace, audiences=[names.GATEWAY_AUDIENCE]))

    def bind(self, namespace: str, account: str, cluster_role: str) -> None:
        """Gives a ServiceAccount of the namespace a ClusterRole there."""
        self.api.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"{account}-{cluster_role}", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            }
        )

    def operator_metrics(self) -> list[MetricsSource]:
        """The metrics of the operator's replicas."""
        pods = self.api.list(POD, SYSTEM, labels="app.kubernetes.io/component=operator")
        return [MetricsSource(self.api, SYSTEM, pod["metadata"]["name"], METRICS_PORT) for pod in pods]

    def remove_class(self, name: str) -> None:
        self.api.delete(SERVING_CLASS, name)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A namespace of a team and its application's token."""

    fleet: Fleet
    namespace: str
    token: str

    @property
    def client(self) -> OpenAiClient:
        return OpenAiClient(self.fleet.gateway_url, self.token)

    def task(self, name: str, artifact: Artifact | None, *, serving_class: str | None = "simulator", **spec: Any) -> Object:
        """A TaskModel of this namespace, not yet applied."""
        whole: Object = {"base": {"source": self.fleet.base.source, "revision": self.fleet.base.version}}
        if serving_class is not None:
            whole["servingClassName"] = serving_class
        if artifact is not None:
            whole["adapter"] = artifact.reference
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": names.API_VERSION, "kind": "TaskModel", "metadata": metadata, "spec": merged(whole, spec)}

    def apply(self, name: str, artifact: Artifact | None, *, serving_class: str | None = "simulator", **spec: Any) -> Object:
        return self.fleet.api.apply(self.task(name, artifact, serving_class=serving_class, **spec))

    def remove(self, name: str) -> None:
        self.fleet.api.delete(TASK_MODEL, name, self.namespace)

    def get(self, name: str) -> Object:
        return self.fleet.api.get(TASK_MODEL, name, self.namespace)

    def chat(self, name: str, prompt: str = PROMPT, **more: object) -> Answer:
        return self.client.chat(f"{self.namespace}/{name}", prompt, **more)

    def target(self, name: str, *artifacts: Artifact, stream: bool = False) -> Target:
        """The task as a constant load asks it; the answer must come from one of the artifacts' bytes."""
        return Target(f"{self.namespace}/{name}", PROMPT, tuple(artifact.mark for artifact in artifacts), self.token, stream)


def merged(whole: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch applied to a copy: mappings are merged, None removes, everything else replaces."""
    result = dict(whole)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result
