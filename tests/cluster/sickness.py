"""A version that turns slow, or fails, after it has passed its gate: said to the simulator of every pod by the fault route that only it has."""

import json

from taskfleet.names import LABEL_POOL, engine_name
from tests.cluster.disturbance import pods
from tests.cluster.fleet import Artifact, Tenant
from tests.cluster.local.cluster import Cluster

# Run inside the engine's container.
_SICKEN = """
import json, sys, urllib.request
body = json.dumps({"sick": json.loads(sys.argv[1])}).encode()
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/sim/faults", data=body, headers={"content-type": "application/json"}))
"""


def sicken(cluster: Cluster, tenant: Tenant, task: str, artifact: Artifact, *, code: int = 0, delay_seconds: float = 0.0) -> None:
    """From now on the version answers late, or with an error of this code, on every pod of the namespace."""
    wish = json.dumps({engine_name(tenant.namespace, task, artifact.digest): {"code": code, "delay_seconds": delay_seconds}})
    for pod in pods(tenant.fleet.api, tenant.namespace, labels=LABEL_POOL):
        where = ("-n", tenant.namespace, pod["metadata"]["name"], "-c", "engine")
        cluster.kubectl("exec", *where, "--", "python3", "-c", _SICKEN, wish)
