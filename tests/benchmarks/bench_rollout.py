"""Prints how long rollouts take: a canary without its hold times, a verdict until the rejected version gets nothing, and fifty bumps at once on one pool of three pods.

    python -m tests.benchmarks.bench_rollout [--cluster bench] [--rollouts 6] [--bumps 50] [--rate 40]

The whole way on a real cluster under a constant load, of which no request may fail. The engine is the simulator, whose loads take no time. `bench_adapter_switch` has the
figures of versions that get all traffic at once. The cluster stays; `make down NAME=bench` ends it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.cluster.api import TASK_MODEL, Object, condition, eventually
from tests.cluster.disturbance import all_ready
from tests.cluster.fleet import Artifact, Fleet, Tenant
from tests.cluster.installation import installed
from tests.cluster.load import Load, constant_load
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress
from tests.cluster.oracles import ready
from tests.cluster.sickness import sicken

PODS = 3
TASK = "rolls"
CLASS = "many-tasks"
VERDICT_REACH_SECONDS = 1.0
# Each step of the canary ends as soon as it has these requests.
MIN_REQUESTS = 10


def canary(*, last_hold_seconds: int) -> Object:
    """The spec of a canary whose last step holds for so long."""
    steps = [{"weightPercent": 25, "holdSeconds": 0}, {"weightPercent": 50, "holdSeconds": last_hold_seconds}]
    analysis = {"minRequests": MIN_REQUESTS, "maxLatencyRatioPercent": 1000}
    return {"scaling": {"minReplicas": PODS}, "rollout": {"strategy": "Canary", "steps": steps, "analysis": analysis}}


@contextmanager
def load_on(tenant: Tenant, task: str, artifacts: Sequence[Artifact], rate: float) -> Iterator[Load]:
    with constant_load(tenant.fleet.gateway_url, [tenant.target(task, *artifacts)], rate=rate) as load:
        load.wait_for(int(rate))
        yield load


def measure_canaries(cluster: Cluster, fleet: Fleet, *, rollouts: int, rate: float) -> None:
    """Rolls good versions to the end, then bad ones until they are rejected, all by steps."""
    versions = [fleet.artifact("rolls", f"v{number}") for number in range(2 * rollouts + 1)]
    with fleet.tenant("rolls") as tenant:
        tenant.apply(TASK, versions[0], **canary(last_hold_seconds=0))
        ready(fleet.api, tenant.namespace)
        all_ready(fleet.api, tenant.namespace, PODS)
        with load_on(tenant, TASK, versions, rate) as load:
            up = [promoted(tenant, new) for new in versions[1 : rollouts + 1]]
            down = [rejected(cluster, tenant, load, new) for new in versions[rollouts + 1 :]]
        print(f"a canary of 2 steps that hold 0 s, {MIN_REQUESTS} requests each at {rate:.0f} requests/s, {PODS} pods:")
        _print("edit to 100 % of traffic", up)
        _print("verdict to the last request that the rejected version answered", down)
        _print_errors(load)


def promoted(tenant: Tenant, new: Artifact) -> float:
    """Seconds from the edit until the new version serves all."""
    edited = time.monotonic()
    tenant.apply(TASK, new, **canary(last_hold_seconds=0))

    def serves() -> bool:
        traffic = tenant.get(TASK)["status"]["traffic"]
        return len(traffic) == 1 and tenant.get(TASK)["status"]["stable"]["digest"] == new.digest

    eventually(serves, what=f"{new.version} serves", within=120)
    return time.monotonic() - edited


def rejected(cluster: Cluster, tenant: Tenant, load: Load, new: Artifact) -> float:
    """Makes the version fail at half the traffic. Seconds from the verdict, as anybody sees it, to the begin of the last request that it answered."""
    tenant.apply(TASK, new, **canary(last_hold_seconds=120))

    def halfway() -> bool:
        return [target["weightPercent"] for target in tenant.get(TASK)["status"]["traffic"]] == [50, 50]

    def refused() -> bool:
        return (condition(tenant.get(TASK), "RolloutHealthy") or {}).get("reason") == "AnalysisBreached"

    eventually(halfway, what=f"{new.version} has 50 %", within=120)
    # It goes on answering some of its requests: a version that answers none would get none after the verdict either way.
    sicken(cluster, tenant, TASK, new, delay_seconds=1.0)
    eventually(refused, what=f"{new.version} is rejected", within=120)
    verdict = time.monotonic()
    load.wait_for(int(load.rate))
    after = [one.started for one in load.outcomes if one.started > verdict and new.mark in one.text]
    return max(after, default=verdict) - verdict


def measure_bumps(fleet: Fleet, *, bumps: int, rate: float) -> None:
    """All tasks of one pool change their version in the same moment."""
    fleet.serving_class(CLASS, adapters={"maxPerPool": bumps, "candidateSlots": 10, "maxActive": 8})
    before, after = fleet.artifact("bumps", "v1"), fleet.artifact("bumps", "v2")
    tasks = [f"task-{number:02}" for number in range(bumps)]
    try:
        with fleet.tenant("bumps") as tenant:
            for task in tasks:
                tenant.apply(task, before, serving_class=CLASS, scaling={"minReplicas": PODS})
            ready(fleet.api, tenant.namespace, within=600)
            all_ready(fleet.api, tenant.namespace, PODS)
            with load_on(tenant, tasks[0], (before, after), rate) as load:
                edited = time.monotonic()
                for task in tasks:
                    tenant.apply(task, after, serving_class=CLASS, scaling={"minReplicas": PODS})
                applied = time.monotonic() - edited
                times = _served(tenant, after, bumps, edited)
            print(f"{bumps} bumps at once on one pool of {PODS} pods with 10 candidate slots (applied in {applied:.1f} s):")
            _print("edit to 100 % of traffic", times)
            _print_errors(load)
    finally:
        fleet.remove_class(CLASS)


def _served(tenant: Tenant, new: Artifact, count: int, edited: float) -> list[float]:
    """For each task, seconds until it says that the new version serves."""
    times: dict[str, float] = {}

    def all_serve() -> bool:
        found = tenant.fleet.api.list(TASK_MODEL, tenant.namespace)
        for task in found:
            if (task["status"].get("stable") or {}).get("digest") == new.digest:
                times.setdefault(task["metadata"]["name"], time.monotonic() - edited)
        return len(times) == count

    eventually(all_serve, what=f"all {count} serve the new version", within=600)
    return list(times.values())


def _print(what: str, seconds: Sequence[float]) -> None:
    print(f"  {what:62} min {min(seconds):.2f} s   median {statistics.median(seconds):.2f} s   max {max(seconds):.2f} s")


def _print_errors(load: Load) -> None:
    cores = f"({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})"
    print(
        f"  {len(load.errors())} of {len(load.outcomes)} requests failed; reach: 0, and ≤ {VERDICT_REACH_SECONDS:.0f} s from a verdict   {cores}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="bench", help="name of the local cluster; started where it isn't up")
    parser.add_argument("--rollouts", type=int, default=6, help="good ones, and as many bad ones")
    parser.add_argument("--bumps", type=int, default=50, help="tasks whose version changes at once")
    parser.add_argument("--rate", type=float, default=40, help="requests a second")
    given = parser.parse_args()
    cluster = provide(given.cluster, Progress())
    with installed(cluster) as fleet:
        measure_canaries(cluster, fleet, rollouts=given.rollouts, rate=given.rate)
        measure_bumps(fleet, bumps=given.bumps, rate=given.rate)


if __name__ == "__main__":
    main()
