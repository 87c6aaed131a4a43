"""The OCI registry of an instance: a process beside the cluster, and a Service by which pods know it."""

import json
import urllib.error
import urllib.request

from .instance import Instance
from .kubectl import apply
from .namespaces import start_inside
from .processes import ProcessRecord

NAMESPACE = "taskfleet-registry"
PORT = 5000
ADDRESS_IN_PODS = f"registry.{NAMESPACE}.svc.cluster.local:{PORT}"


def address_on_host(instance: Instance) -> str:
    """HOST:PORT by which programs of the machine reach the registry, over plain HTTP."""
    return f"{instance.node_address}:{PORT}"


def start_registry(instance: Instance) -> ProcessRecord:
    configuration = instance.configuration / "registry.json"
    content = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(instance.state / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"0.0.0.0:{PORT}"},
    }
    configuration.write_text(json.dumps(content, indent=1))
    return start_inside(instance, "registry", ["/usr/bin/docker-registry", "serve", str(configuration)])


def registry_answers(instance: Instance) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address_on_host(instance)}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def publish_registry(instance: Instance, endpoint: str) -> None:
    """Makes the Service by which pods know the registry; `endpoint` is the IP address at which it listens."""
    labels = {"kubernetes.io/service-name": "registry"}
    apply(
        instance,
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "registry", "namespace": NAMESPACE},
                "spec": {"ports": [{"name": "http", "port": PORT}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": "registry", "namespace": NAMESPACE, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
                "endpoints": [{"addresses": [endpoint], "conditions": {"ready": True}}],
            },
        ],
    )
