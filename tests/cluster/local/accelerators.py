"""The accelerators that the node claims to have."""

import json

from .instance import Instance
from .kubectl import kubectl

# No device stands behind them, but the real scheduler places and refuses pods by them. Two makers and a slice, because operators meet all three.
ACCELERATORS = {"nvidia.com/gpu": 8, "amd.com/gpu": 2, "nvidia.com/mig-1g.5gb": 4}


def claim_accelerators(instance: Instance, node_name: str) -> None:
    """Writes the fake accelerators into the node's status; they survive restarts of the kubelet."""
    quantities = {name: str(count) for name, count in ACCELERATORS.items()}
    patch = json.dumps({"status": {"capacity": quantities, "allocatable": quantities}})
    kubectl(instance, "patch", "node", node_name, "--subresource=status", "--type=merge", f"--patch={patch}")
