"""Whether the node can run pods now."""

import json

from .failures import ClusterError
from .instance import Instance
from .kubectl import kubectl


def node_is_ready(instance: Instance, node_name: str) -> bool:
    """The node's Ready condition, and the kubelet's own word: for the condition alone, a kubelet may be dead for 40 s."""
    text = kubectl(instance, "get", "node", node_name, "--ignore-not-found", "-o", "json")
    if not text:
        return False
    conditions = json.loads(text)["status"].get("conditions", [])
    if not any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions):
        return False
    try:
        return kubectl(instance, "get", "--raw", f"/api/v1/nodes/{node_name}/proxy/healthz").strip() == "ok"
    except ClusterError:
        # The kubelet does not listen yet.
        return False
