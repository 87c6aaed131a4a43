"""The chart as Helm renders it, for whichever values."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.conftest import ROOT, ApiServer
from tests.cluster.api import Object

CHART = ROOT / "charts/taskfleet"
NAMESPACE = "taskfleet-system"
REPOSITORY = "registry.example/taskfleet"


@dataclass(frozen=True, slots=True)
class Case:
    """Values that somebody may well set together."""

    name: str
    values: dict[str, Any]


CASES = (
    Case("default", {}),
    Case("pinned", {"image": {"digest": "sha256:" + "a" * 64, "pullPolicy": "Always"}, "imagePullSecrets": [{"name": "login"}]}),
    Case(
        "available",
        {
            "operator": {
                "replicas": 2,
                "env": {"TASKFLEET_WORKERS": "32"},
                "priorityClassName": "system-cluster-critical",
                "serviceAccountAnnotations": {"example.com/role": "a"},
            },
            "gateway": {"replicas": 5, "termination": {"drain": 900}, "podAnnotations": {"example.com/scrape": "no"}},
        },
    ),
    Case(
        "closed-network",
        {
            "gateway": {"auth": {"mode": "None"}, "replicas": 1, "service": {"type": "NodePort", "nodePort": 30080}},
            "insecureRegistries": ["registry.example:5000", "mirror.example"],
            "artifacts": {"allowedNetworks": ["10.20.0.0/16", "fd00:20::/64"]},
            "log": {"level": "DEBUG", "style": "text"},
        },
    ),
    Case(
        "published",
        {
            "gateway": {
                "url": "https://models.example",
                "service": {
                    "type": "LoadBalancer",
                    "port": 8443,
                    "annotations": {"example.com/internal": "true"},
                    "loadBalancerClass": "example.com/internal",
                    "loadBalancerSourceRanges": ["192.0.2.0/24"],
                },
                "ingress": {
                    "enabled": True,
                    "className": "nginx",
                    "host": "models.example",
                    "tlsSecretName": "models-tls",
                    "annotations": {"example.com/buffering": "off"},
                },
            },
        },
    ),
    Case(
        "placed",
        {
            part: {
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "tolerations": [{"key": "dedicated", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "podLabels": {"team": "platform"},
                "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            }
            for part in ("operator", "gateway")
        }
        | {"agent": {"image": "registry.example/agent:1"}},
    ),
    Case(
        "watched",
        {
            "metrics": {
                "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
                "prometheusRule": {
                    "enabled": True,
                    "labels": {"release": "prometheus"},
                    "runbookUrl": "https://runbooks.example/taskfleet",
                },
            },
            "networkPolicy": {
                "clients": [{"namespaceSelector": {"matchLabels": {"calls": "models"}}}],
                "metrics": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            },
        },
    ),
    Case(
        "bare",
        {
            "crds": {"install": False},
            "networkPolicy": {"enabled": False},
            "admissionPolicy": {"enabled": False},
            "rbac": {"aggregate": False},
            "gateway": {
                "limits": {"maxBodyBytes": 100_000_000},
                "timeouts": {"hold": 0.5},
                "topologySpreadConstraints": [],
                "feedback": {"enabled": False},
            },
        },
    ),
)


def arguments(case: Case, folder: Path) -> list[str]:
    """Helm's arguments for the values of a case, written to a file in `folder`."""
    values = {**case.values, "image": {"repository": REPOSITORY, **case.values.get("image", {})}}
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return ["--values", str(file)]


def render(api_server: ApiServer, case: Case, folder: Path) -> list[Object]:
    """The objects of the chart. Raises CalledProcessError where Helm refuses."""
    text = api_server.helm("template", "taskfleet", str(CHART), "--namespace", NAMESPACE, *arguments(case, folder))
    return [document for document in yaml.safe_load_all(text) if document]


def rules_of_roles(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Each rule of each Role and ClusterRole, with the role's name."""
    for body in objects:
        if body["kind"] in {"Role", "ClusterRole"}:
            for rule in body["rules"]:
                yield body["metadata"]["name"], rule


def pods_of(objects: list[Object], namespace: str) -> list[Object]:
    """A Pod for each Deployment, as its controller would make it."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": body["metadata"]["name"],
                "namespace": namespace,
                "labels": body["spec"]["template"]["metadata"]["labels"],
            },
            "spec": body["spec"]["template"]["spec"],
        }
        for body in objects
        if body["kind"] == "Deployment"
    ]
