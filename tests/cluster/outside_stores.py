"""An S3 server and a hub on the machine, as Services that pods know by name: the stores of other people, beside the cluster."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import adapters
from tests.cluster.api import NAMESPACE, SECRET, Api, Object
from tests.cluster.fleet import MARK_DIGITS, Artifact
from tests.cluster.local.cluster import Cluster
from tests.sources.hub_server import TOKEN, HubServer, running_hub
from tests.sources.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server, running_s3_server

# Named in the chart's values as hosts that are asked over plain http.
WHERE = "taskfleet-stores"
PORT = 9000
BUCKET = "models"


def address(service: str) -> str:
    """HOST:PORT as pods know it."""
    return f"{service}.{WHERE}.svc.cluster.local:{PORT}"


@dataclass(frozen=True, slots=True)
class Stores:
    """The servers, filled by `in_bucket` and `in_hub`."""

    s3: S3Server
    hub: HubServer

    def in_bucket(self, name: str, version: str) -> Artifact:
        """A good adapter in the bucket."""
        with tempfile.TemporaryDirectory() as folder:
            mark = adapters.write(Path(folder), seed=f"s3 {name} {version}")[:MARK_DIGITS]
            self.s3.upload(Path(folder), BUCKET, f"adapters/{name}/{version}")
        return Artifact(f"s3://{BUCKET}/adapters/{name}", version, "", mark)

    def base_in_bucket(self, version: str) -> Object:
        self.s3.upload(adapters.BASE, BUCKET, f"tiny/{version}")
        return {"source": f"s3://{BUCKET}/tiny", "revision": version, "credentialsKey": "bucket"}

    def in_hub(self, name: str) -> Artifact:
        """A good adapter in a gated repository, on its main branch."""
        with tempfile.TemporaryDirectory() as folder:
            mark = adapters.write(Path(folder), seed=f"hub {name}")[:MARK_DIGITS]
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        self.hub.repository(f"acme/{name}", gated=True).commit(files)
        return Artifact(f"hf://acme/{name}", "main", "", mark)


@contextmanager
def outside_stores(cluster: Cluster, api: Api, folder: Path) -> Iterator[Stores]:
    """Both servers, reachable from pods until the end of the context."""
    machine = cluster.machine_in_pods
    with running_s3_server(folder, BUCKET, address=machine) as s3, running_hub(machine, names=(address("hub"), address("content"))) as hub:
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WHERE}})
        ports = {"s3": int(s3.host.rpartition(":")[2]), "hub": hub.ports[0], "content": hub.ports[1]}
        for service, port in ports.items():
            for body in _service(service, machine, port):
                api.apply(body)
        yield Stores(s3, hub)
        api.delete(NAMESPACE, WHERE)


def entries(*, s3_secret: str = SECRET_KEY) -> dict[str, dict[str, Any]]:
    """The entries of a namespace's Secret: keys of the bucket, and a token of the hub."""
    bucket = {"endpoint": f"http://{address('s3')}", "region": REGION, "accessKeyId": ACCESS_KEY, "secretAccessKey": s3_secret}
    return {"bucket": bucket, "hub": {"endpoint": f"http://{address('hub')}", "token": TOKEN}}


def give_credentials(api: Api, namespace: str, content: dict[str, dict[str, Any]]) -> None:
    """The Secret of the namespace, anew."""
    data = {name: json.dumps(entry) for name, entry in content.items()}
    metadata = {"name": "taskfleet-credentials", "namespace": namespace}
    api.apply({"apiVersion": SECRET.api_version, "kind": SECRET.kind, "metadata": metadata, "stringData": data})


def offered_claim(cluster: Cluster, namespace: str, folder: Path, *, name: str, version: str) -> Artifact:
    """A good adapter in a claim of the namespace that its owner has offered."""
    claim = "models"
    place = folder / "adapters" / name / version
    place.mkdir(parents=True)
    mark = adapters.write(place, seed=f"pvc {name} {version}")[:MARK_DIGITS]
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    cluster.provide_read_only_claim(folder=folder, namespace=namespace, claim=claim)
    cluster.kubectl("label", "pvc", claim, f"--namespace={namespace}", "taskfleet.dev/artifacts=true")
    return Artifact(f"pvc://{claim}/adapters/{name}", version, "", mark)


def _service(name: str, machine: str, port: int) -> list[Object]:
    metadata = {"name": name, "namespace": WHERE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [machine], "conditions": {"ready": True}}],
        },
    ]
