"""The product on a local cluster, as a user installs it: this checkout's chart by Helm, with the image of this checkout."""

from pathlib import Path

from tests.cluster.api import Api
from tests.cluster.disturbance import rolled_out
from tests.cluster.fleet import MANIFESTS, SYSTEM
from tests.cluster.local.cluster import Cluster

RELEASE = "taskfleet"
CHART = Path(__file__).resolve().parents[2] / "charts/taskfleet"
VALUES = MANIFESTS / "values.yaml"


def install(cluster: Cluster) -> None:
    """Installs or upgrades to this checkout's chart and image; returns when operator and gateways run the new image."""
    cluster.helm("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM, "--create-namespace", "--values", str(VALUES))
    api = Api(cluster.kubeconfig)
    # The image keeps its name while its content changes with the checkout.
    cluster.kubectl("rollout", "restart", "deployment/taskfleet-operator", "deployment/taskfleet-gateway", "--namespace", SYSTEM)
    for name in ("taskfleet-operator", "taskfleet-gateway"):
        rolled_out(api, name, SYSTEM)
    api.close()


def uninstall(cluster: Cluster) -> None:
    """Removes the release; what the chart keeps stays."""
    cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
