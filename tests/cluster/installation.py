"""The product on a local cluster, installed as a user would: the chart, by Helm, with the image of this checkout."""

import json

from tests.cluster.local.cluster import Cluster
from tests.cluster.local.images import PRODUCT_IMAGE
from tests.cluster.local.instance import REPOSITORY

RELEASE = "taskfleet"
SYSTEM_NAMESPACE = "taskfleet-system"
GATEWAY_SERVICE = "taskfleet-gateway"


def install(cluster: Cluster, *, values: dict[str, object] | None = None, wait_seconds: int = 180) -> None:
    """Installs or upgrades the chart and waits until its Deployments are ready. The image must be on the node. Raises ClusterError with Helm's words."""
    repository, _, tag = PRODUCT_IMAGE.rpartition(":")
    settings: dict[str, object] = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Always"},
        # The local registry speaks plain HTTP.
        "insecureRegistries": [cluster.registry_in_pods],
        **(values or {}),
    }
    file = cluster.instance.state / "values.json"
    file.write_text(json.dumps(settings))
    chart = str(REPOSITORY / "charts" / "taskfleet")
    target = [f"--namespace={SYSTEM_NAMESPACE}", "--create-namespace"]
    cluster.helm("upgrade", "--install", RELEASE, chart, *target, "--values", str(file), "--wait", f"--timeout={wait_seconds}s")
