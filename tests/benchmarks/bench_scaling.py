"""Prints how fast replicas follow on a real cluster: from a step of demand until the scale is written, and what a first answer from zero takes beside the engine's start.

    python -m tests.benchmarks.bench_scaling [--cluster bench] [--rounds 5]

The engine is the simulator, which starts in about a second. Its own start lasts from the start of its container until it listens, by the node's clock: what the agent, the
kubelet's probes and the gateway take to notice is ours. How long the parts of a pod's start take is what the pool tells (`status.lastStart`), in which `Engine` begins with a whole
second and ends when the agent has noticed. `bench_autoscaling` has the rules' figures over hours of traffic. The cluster stays; `make down NAME=bench` ends it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.cluster.api import POD, POOL, Object, eventually
from tests.cluster.crowd import crowd
from tests.cluster.fleet import Artifact, Fleet, Tenant
from tests.cluster.installation import installed
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress
from tests.cluster.oracles import ready
from tests.cluster.sickness import sicken
from tests.cluster.story import tell

CLASS, TASK = "bench-scaling", "scales"
TARGET = 2
STEP_REQUESTS = 12
ANSWER_SECONDS = 8.0
WRITTEN_REACH_SECONDS = FIRST_REACH_SECONDS = 3.0
# How often the pool is looked at; what is measured is that much too long at most.
LOOK_SECONDS = 0.02
# Run inside the engine's container: when its first process began, in seconds since the epoch.
_BEGAN = """
import os, time
ticks = open("/proc/1/stat").read().rpartition(")")[2].split()[19]
print(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(ticks) / os.sysconf("SC_CLK_TCK"))
"""
_LISTENS = "simulating vLLM on"


@dataclass(frozen=True, slots=True)
class First:
    """A first answer. `whole`: seconds of the request; `engine`: of the engine's own start among them; `phases`: of the pod's start, as the pool tells them."""

    whole: float
    engine: float
    phases: dict[str, float]


def measure(cluster: Cluster, fleet: Fleet, *, rounds: int) -> None:
    windows = {"idleSeconds": 10, "stableWindowSeconds": 10, "scaleDownDelaySeconds": 10, "maxScaleDownPercent": 100}
    fleet.serving_class(CLASS, scaling={"minReplicas": 0, "maxReplicas": 2, "targetConcurrency": TARGET, **windows})
    artifact = fleet.artifact(TASK)
    with fleet.tenant("scales") as tenant:
        tenant.apply(TASK, artifact, serving_class=CLASS)
        ready(fleet.api, tenant.namespace)
        firsts = [first_answer(cluster, tenant) for _ in range(rounds)]
        steps = [step(cluster, tenant, artifact) for _ in range(rounds)]
    fleet.remove_class(CLASS)
    report("step of demand until the scale is written", steps, WRITTEN_REACH_SECONDS)
    report("first answer from zero", [first.whole for first in firsts])
    report("the engine's own start", [first.engine for first in firsts])
    report("first answer without the engine's own start", [first.whole - first.engine for first in firsts], FIRST_REACH_SECONDS)
    medians = {phase: statistics.median(first.phases[phase] for first in firsts) for phase in firsts[0].phases}
    print(f"the pods' starts, as told (medians): {'   '.join(f'{phase} {seconds:.1f} s' for phase, seconds in medians.items())}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def first_answer(cluster: Cluster, tenant: Tenant) -> First:
    """The first request to a pool that sleeps."""
    has(tenant, 0)
    began = time.monotonic()
    answer = tenant.chat(TASK)
    whole = time.monotonic() - began
    assert answer.status == 200, answer.raw[:300]
    (pod,) = pods(tenant)
    name = pod["metadata"]["name"]

    def told() -> Object:
        start: Object = pool(tenant)["status"]["lastStart"]
        assert start["pod"] == name
        return start

    engine = engine_seconds(cluster, tenant, name)
    start = eventually(told, what="the pool tells of the start", within=30)
    return First(whole, engine, {part["phase"]: float(part["seconds"]) for part in start["phases"]})


def engine_seconds(cluster: Cluster, tenant: Tenant, pod: str) -> float:
    """From the start of the engine's container until it listened."""
    began = float(cluster.kubectl("exec", "-n", tenant.namespace, pod, "-c", "engine", "--", "python3", "-c", _BEGAN))
    lines = tenant.fleet.api.logs(pod, tenant.namespace, container="engine", timestamps=True).splitlines()
    listens = next(line for line in lines if _LISTENS in line)
    # Nine digits of a second, of which datetime takes six.
    return datetime.fromisoformat(f"{listens[:26]}+00:00").timestamp() - began


def step(cluster: Cluster, tenant: Tenant, artifact: Artifact) -> float:
    """Seconds from many requests in one moment until `spec.replicas` is more than one, with one pod there."""
    assert tenant.chat(TASK).status == 200
    has(tenant, 1)
    sicken(cluster, tenant, TASK, artifact, delay_seconds=ANSWER_SECONDS)
    began = time.monotonic()
    with crowd(tenant.fleet.gateway_url, tenant.target(TASK, artifact), STEP_REQUESTS):
        while pool(tenant)["spec"]["replicas"] == 1:
            assert time.monotonic() - began < ANSWER_SECONDS, tell(tenant.fleet.api, tenant.namespace)
            time.sleep(LOOK_SECONDS)
        written = time.monotonic() - began
    has(tenant, 0)
    return written


def pool(tenant: Tenant) -> Object:
    (found,) = tenant.fleet.api.list(POOL, tenant.namespace)
    return found


def pods(tenant: Tenant) -> list[Object]:
    return [pod for pod in tenant.fleet.api.list(POD, tenant.namespace) if "deletionTimestamp" not in pod["metadata"]]


def has(tenant: Tenant, replicas: int) -> None:
    """Waits until the pool has so many pods, wanted and there; those that go are gone."""

    def check() -> bool:
        assert pool(tenant)["spec"]["replicas"] == replicas
        return len(tenant.fleet.api.list(POD, tenant.namespace)) == replicas

    eventually(check, what=f"{replicas} pods", within=180, describe=lambda: tell(tenant.fleet.api, tenant.namespace))


def report(what: str, seconds: Sequence[float], reach: float | None = None) -> None:
    aim = "" if reach is None else f"   (reach: {reach:.0f} s)"
    print(f"{what:45} min {min(seconds):.2f} s   median {statistics.median(seconds):.2f} s   max {max(seconds):.2f} s{aim}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="bench", help="name of the local cluster; started where it isn't up")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cluster = provide(given.cluster, Progress())
    with installed(cluster) as fleet:
        measure(cluster, fleet, rounds=given.rounds)


if __name__ == "__main__":
    main()
