"""A version that turns slow, or fails, after it has passed its gate: said to the simulator of every pod by the fault route that only it has."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import urllib3

from taskfleet.names import LABEL_POOL, engine_name
from tests.cluster.api import ApiError, Object, eventually
from tests.cluster.disturbance import pods
from tests.cluster.fleet import Artifact, Tenant
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.failures import ClusterError

# How often it is looked for engines that have come or started again.
LOOK_SECONDS = 0.5

# Run inside the engine's container.
_SICKEN = """
import json, sys, urllib.request
body = json.dumps({"sick": json.loads(sys.argv[1])}).encode()
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/sim/faults", data=body, headers={"content-type": "application/json"}))
"""


def sicken(
    cluster: Cluster, tenant: Tenant, task: str, artifact: Artifact, *, code: int = 0, delay_seconds: float = 0.0, pool: str = ""
) -> None:
    """From now on the version answers late, or with an error of this code, on every pod of the namespace, or of one of its pools."""
    for pod in pods(tenant.fleet.api, tenant.namespace, labels=f"{LABEL_POOL}={pool}" if pool else LABEL_POOL):
        _tell(cluster, pod, _wish(tenant, task, artifact, code, delay_seconds))


@contextmanager
def slow_everywhere(cluster: Cluster, tenant: Tenant, task: str, artifact: Artifact, *, delay_seconds: float) -> Iterator[None]:
    """While the block runs, the version answers late on every pod, also on those that come, and on engines that start again."""
    wish, told, ended = _wish(tenant, task, artifact, 0, delay_seconds), set[str](), threading.Event()

    def tell_new() -> bool:
        """Whether every pod that there is has been told. A pod that goes, or an engine that does not listen yet, is for the next look."""
        for pod in pods(tenant.fleet.api, tenant.namespace, labels=LABEL_POOL):
            engine = _running_engine(pod)
            if engine and engine not in told:
                try:
                    _tell(cluster, pod, wish)
                except ClusterError:
                    return False
                told.add(engine)
        return bool(told)

    def keep() -> None:
        while not ended.wait(LOOK_SECONDS):
            with suppress(ApiError, urllib3.exceptions.HTTPError):  # of an API server that restarts
                tell_new()

    eventually(tell_new, what="every pod is slow", within=60)
    with ThreadPoolExecutor(1) as keeper:
        kept = keeper.submit(keep)
        try:
            yield
        finally:
            ended.set()
            kept.result()


def _wish(tenant: Tenant, task: str, artifact: Artifact, code: int, delay_seconds: float) -> str:
    return json.dumps({engine_name(tenant.namespace, task, artifact.digest): {"code": code, "delay_seconds": delay_seconds}})


def _tell(cluster: Cluster, pod: Object, wish: str) -> None:
    metadata = pod["metadata"]
    cluster.kubectl("exec", "-n", metadata["namespace"], metadata["name"], "-c", "engine", "--", "python3", "-c", _SICKEN, wish)


def _running_engine(pod: Object) -> str:
    """The id of the engine's container while it runs, else empty."""
    found = (one for one in pod["status"].get("containerStatuses", []) if one["name"] == "engine" and "running" in one["state"])
    return next((one["containerID"] for one in found), "")
