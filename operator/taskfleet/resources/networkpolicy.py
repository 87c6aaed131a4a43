"""Who may talk to pool pods, and with whom they may talk.

A second wall: not every cluster enforces NetworkPolicies, so the agent asks for a token anyway.
"""

from taskfleet import names
from taskfleet.api.modelpool import ModelPool
from taskfleet.resources.metadata import Json, child_metadata, route_selector
from taskfleet.resources.settings import PoolSettings

# Cloud metadata services hand out credentials to whoever asks from a node's pod; artifact sources never live there.
_METADATA_V4 = ["169.254.0.0/16"]
_METADATA_V6 = ["fe80::/10", "fd00:ec2::254/128"]


def network_policy(pool: ModelPool, settings: PoolSettings) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_metadata(pool),
        "spec": {
            "podSelector": {"matchLabels": route_selector(pool)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [_own_parts(settings), _own_pods(pool)], "ports": [{"port": names.AGENT_PORT, "protocol": "TCP"}]}],
            "egress": [
                # DNS at any address: node-local caches listen on link-local ones.
                {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
                {
                    "to": [
                        {"ipBlock": {"cidr": "0.0.0.0/0", "except": _METADATA_V4}},
                        {"ipBlock": {"cidr": "::/0", "except": _METADATA_V6}},
                    ]
                },
                # By their labels too: some networks (Cilium) never take a pod for a part of an address block.
                {"to": [_own_pods(pool)], "ports": [{"port": names.AGENT_PORT, "protocol": "TCP"}]},
            ],
        },
    }


def _own_pods(pool: ModelPool) -> Json:
    """The pool's other pods, which give copies of artifacts."""
    return {"podSelector": {"matchLabels": route_selector(pool)}}


def _own_parts(settings: PoolSettings) -> Json:
    """Operator and gateway, by the labels that the chart gives their pods."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}},
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": "taskfleet"},
            "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["operator", "gateway"]}],
        },
    }
