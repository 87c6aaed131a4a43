"""The product on a local cluster, as a user installs it: this checkout's chart by Helm, with the image of this checkout."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from taskfleet.artifacts.push import push
from tests.cluster import adapters
from tests.cluster.api import NODE, Api
from tests.cluster.disturbance import rolled_out
from tests.cluster.fleet import MANIFESTS, SYSTEM, Artifact, Fleet, Registries
from tests.cluster.local.cluster import Cluster

RELEASE = "taskfleet"
CHART = Path(__file__).resolve().parents[2] / "charts/taskfleet"
VALUES = MANIFESTS / "values.yaml"
BASE = "tiny-invoices"


@contextmanager
def installed(cluster: Cluster, *values: str) -> Iterator[Fleet]:
    """The product on a cluster, from this checkout, with the simulator as a class. `values`: of the chart, as Helm's --set takes them, beside the tests' own."""
    cluster.provide_images("product", "simulator")
    api = Api(cluster.kubeconfig)
    assert api.get(NODE, cluster.node_name)
    install(cluster, *values)
    registries = Registries(cluster.registry_on_host, cluster.registry_in_pods)
    digest = push(adapters.BASE, f"{registries.on_host}/{BASE}:v1", insecure=True)
    fleet = Fleet(api, registries, Artifact(f"oci://{registries.in_pods}/{BASE}", "v1", digest))
    api.apply(yaml.safe_load((MANIFESTS / "serving-class-simulator.yaml").read_text()))
    yield fleet
    api.close()


def install(cluster: Cluster, *values: str) -> None:
    """Installs or upgrades to this checkout's chart and image; returns when operator and gateways run the new image."""
    given = ("--values", str(VALUES), *(word for value in values for word in ("--set", value)))
    cluster.helm("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM, "--create-namespace", *given)
    api = Api(cluster.kubeconfig)
    # The image keeps its name while its content changes with the checkout.
    cluster.kubectl("rollout", "restart", "deployment/taskfleet-operator", "deployment/taskfleet-gateway", "--namespace", SYSTEM)
    for name in ("taskfleet-operator", "taskfleet-gateway"):
        rolled_out(api, name, SYSTEM)
    api.close()


def uninstall(cluster: Cluster) -> None:
    """Removes the release; what the chart keeps stays."""
    cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
