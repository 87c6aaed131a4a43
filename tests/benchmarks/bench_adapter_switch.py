"""Prints how long a new adapter version takes to get all traffic: three pods, their bytes in the local store, a constant load, and no request may fail.

    python -m tests.benchmarks.bench_adapter_switch [--cluster bench] [--switches 12] [--rate 40]

The whole way on a real cluster, from the edit of the TaskModel on: a revision is made, its digest looked up, its adapter loaded and proven in every pod, the traffic written, and
every gateway acts on it. The engine is the simulator, whose loads take no time; vLLM's take about 10 ms. The cluster stays; `make down NAME=bench` ends it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence

from tests.cluster.api import eventually
from tests.cluster.disturbance import all_ready
from tests.cluster.fleet import Artifact, Fleet, Tenant
from tests.cluster.installation import installed
from tests.cluster.load import Load, constant_load
from tests.cluster.local.backends import provide
from tests.cluster.local.progress import Progress
from tests.cluster.oracles import ready, still
from tests.cluster.own_metrics import Writes

PODS = 3
REACH_SECONDS = 2.0


def measure(fleet: Fleet, *, switches: int, rate: float) -> None:
    """Switches one task between two versions. Two other tasks of the pool hold the bytes of both, so no pod has to fetch them."""
    with fleet.tenant("switch") as tenant:
        versions = [fleet.artifact("switch", version) for version in ("v1", "v2")]
        for name, artifact in (("switches", versions[0]), ("holds-v1", versions[0]), ("holds-v2", versions[1])):
            apply(tenant, name, artifact)
        ready(fleet.api, tenant.namespace)
        all_ready(fleet.api, tenant.namespace, PODS)
        with constant_load(fleet.gateway_url, [tenant.target("switches", *versions)], rate=rate) as load:
            load.wait_for(int(rate))
            writes = Writes(fleet.operator_metrics())
            before = writes.count()
            times = [switch(fleet, tenant, load, versions[1 - number % 2]) for number in range(switches)]
            still(fleet.api, tenant.namespace)
            written = writes.count() - before
        report(load, [moved for moved, _ in times], [told for _, told in times])
        print(f"{written / switches:.1f} writes of the operator for each switch")


def apply(tenant: Tenant, name: str, artifact: Artifact) -> None:
    tenant.apply(name, artifact, scaling={"minReplicas": PODS})


def switch(fleet: Fleet, tenant: Tenant, load: Load, new: Artifact) -> tuple[float, float]:
    """Seconds from the edit to the last request that the old version answered, and to the moment at which the task says that the new one serves."""
    still(fleet.api, tenant.namespace)
    edited = time.monotonic()
    apply(tenant, "switches", new)

    def told() -> bool:
        status = tenant.get("switches")["status"]
        return bool(status["stable"]["digest"] == new.digest and status["rollout"]["phase"] == "Done")

    eventually(told, what="the new version serves", within=60)
    said = time.monotonic()
    load.wait_for(int(load.rate))
    old = [one.started for one in load.outcomes if one.started > edited and not one.error and new.mark not in one.text]
    return max(old, default=edited) - edited, said - edited


def report(load: Load, moved: Sequence[float], told: Sequence[float]) -> None:
    for what, seconds in (("edit to 100 % of traffic", moved), ("edit to status Ready", told)):
        print(f"{what:24} min {min(seconds):.2f} s   median {statistics.median(seconds):.2f} s   max {max(seconds):.2f} s")
    print(f"{len(load.errors())} of {len(load.outcomes)} requests failed in {len(moved)} switches of {PODS} pods")
    print(f"reach: {REACH_SECONDS:.0f} s, 0 failed   ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="bench", help="name of the local cluster; started where it isn't up")
    parser.add_argument("--switches", type=int, default=12)
    parser.add_argument("--rate", type=float, default=40, help="requests a second")
    given = parser.parse_args()
    with installed(provide(given.cluster, Progress())) as fleet:
        measure(fleet, switches=given.switches, rate=given.rate)


if __name__ == "__main__":
    main()
