"""Prints what the operator costs and how fast it is with many TaskModels, against a real API server and etcd.

    python -m tests.benchmarks.bench_operator [--tasks 1000] [--pools 50] [--edits 300] [--rate 2] [--idle 60]

No pod runs: the pods' objects are written here, and this process answers as all their agents, and as a gateway. So the figures are the operator's own, and the API server's.
Replicas follow demand: all pools may have up to four pods, and at last one task of each is asked all the time.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.apiserver.conftest import ApiServer, install_definitions
from tests.apiserver.control_plane import control_plane
from tests.apiserver.gateway_fleet import gateway_slice, reachable_address
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.benchmarks.bench_gateway import cpu_seconds
from tests.benchmarks.fleet_agents import FleetAgents, fleet_agents
from tests.benchmarks.fleet_gateway import FleetGateway, fleet_gateway
from tests.cluster.api import CHILDREN, DEPLOYMENT, POD, POOL, TASK_MODEL, Api, Object, is_true, key

SYSTEM = "taskfleet-system"
CLASS = "bench"
SCALING = {"minReplicas": 1, "maxReplicas": 4}
NAMESPACES = 10
LONG = 1200.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many of everything; pools are told apart by their base."""

    tasks: int
    pools: int

    def bodies(self) -> Iterator[Object]:
        bases = max(1, self.pools // NAMESPACES)
        for number in range(self.tasks):
            pool = number % (NAMESPACES * bases)
            namespace, base = f"team-{pool % NAMESPACES}", pool // NAMESPACES
            yield changed(
                task_model(namespace, f"task-{number}"),
                put("spec.servingClassName", CLASS),
                put("spec.base.source", f"oci://registry.example/models/base-{base}"),
                put("spec.adapter.source", f"oci://registry.example/tasks/task-{number}"),
                put("spec.task", {"description": "One of many.", "systemPrompt": "Answer in one word. " * 20}),
            )

    @property
    def addresses(self) -> list[str]:
        """Of the pods: loopback addresses that nobody else uses."""
        return [f"127.77.{number // 250}.{number % 250 + 1}" for number in range(self.pools)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--pools", type=int, default=50)
    parser.add_argument("--edits", type=int, default=300)
    parser.add_argument("--rate", type=float, default=2.0, help="edits a second")
    parser.add_argument("--idle", type=float, default=60.0)
    given = parser.parse_args()
    fleet = Fleet(given.tasks, given.pools)
    say(f"machine: {os.cpu_count()} cores, load average {load()}, Python {sys.version.split()[0]}")
    with control_plane(controllers=False) as instance, tempfile.TemporaryDirectory() as folder, fleet_agents(fleet.addresses) as agents:
        api_server = ApiServer(instance.kubeconfig, Api(instance.kubeconfig))
        prepare(api_server)
        with fleet_gateway(api_server.api, reachable_address(api_server)) as gateway:
            with operator(api_server, Path(folder), gateway) as first:
                began = time.monotonic()
                populate(api_server.api, fleet, first)
                say(f"from nothing: {fleet.tasks} TaskModels in {fleet.pools} pools Ready after {time.monotonic() - began:.0f} s")
                say(f"memory: {memory(first, 'VmRSS')} MiB resident, {memory(first, 'VmHWM')} MiB at most")
                edits(api_server.api, first, agents, min(given.edits, given.tasks), given.rate)
                costs(first, given.idle, "idle, and no pool is asked")
                gateway.asked = one_of_each_pool(api_server.api)
                first.brings(lambda: asked_pools(first) == fleet.pools, what="the operator knows that all pools are asked", within=LONG)
                costs(first, given.idle, "one request at a time in each pool")
                gateway.asked = ()
            restart(api_server, Path(folder), fleet, gateway)
        api_server.api.close()


def prepare(api_server: ApiServer) -> None:
    install_definitions(api_server.api)
    api_server.api.apply(
        changed(serving_class(CLASS), put("spec.adapters", {"maxPerPool": 64, "candidateSlots": 8}), put("spec.scaling", SCALING))
    )
    for name in (SYSTEM, *(f"team-{number}" for number in range(NAMESPACES))):
        api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    # No controller runs that would make them.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "taskfleet-operator", "namespace": SYSTEM}}
    api_server.api.apply(account)


@contextmanager
def operator(api_server: ApiServer, folder: Path, gateway: FleetGateway) -> Iterator[OperatorProcess]:
    api_server.api.apply(gateway_slice(SYSTEM, gateway.host, gateway.port))
    # On a machine that is busy with other things the lease would be lost for want of CPU time, and nothing measured.
    with running_operator(api_server, folder, namespace=SYSTEM, lease_seconds="600", gateway_internal_port=str(gateway.port)) as found:
        found.brings(lambda: found.metric("taskfleet_measured_gateways") == 1, what="it leads, and hears the gateway")
        yield found


def populate(api: Api, fleet: Fleet, running: OperatorProcess) -> None:
    """Declares everything, and plays kubelet for the pods."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(api.apply, fleet.bodies()))
    addresses = iter(fleet.addresses)
    started: set[str] = set()

    def all_ready() -> bool:
        for deployment in api.list(DEPLOYMENT):
            if key(deployment) not in started:
                start_pod(api, deployment, next(addresses))
                started.add(key(deployment))
        ready = sum(is_true(task, "Ready") for task in api.list(TASK_MODEL))
        assert ready == fleet.tasks, f"{ready} TaskModels are Ready"
        return all(is_true(pool, "Ready") for pool in api.list(POOL))

    running.brings(all_ready, what="all TaskModels are Ready", within=LONG)


def start_pod(api: Api, deployment: Object, address: str) -> None:
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    template = deployment["spec"]["template"]
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-0", "namespace": namespace, "labels": template["metadata"]["labels"]},
            "spec": template["spec"] | {"nodeName": "node"},
        }
    )
    now = "2026-01-01T00:00:00Z"
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("PodScheduled", "Ready")]
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
    api.patch(POD, f"{name}-0", namespace, change={"status": status}, subresource="status")
    counts = {"observedGeneration": deployment["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    api.patch(DEPLOYMENT, name, namespace, change={"status": counts}, subresource="status")


def edits(api: Api, running: OperatorProcess, agents: FleetAgents, count: int, rate: float) -> None:
    """One new adapter version after another, at a steady rate; the time until the pod's agent has it in its document."""
    tasks = {task["metadata"]["name"]: task["metadata"]["namespace"] for task in api.list(TASK_MODEL)}
    chosen = random.Random(1).sample(sorted(tasks), count)  # noqa: S311  no secret
    before, spent, asked, looked = set(agents.told), cpu_seconds(running.process), calls(running), looks(running)
    sent: dict[tuple[str, str], float] = {}
    for name in chosen:
        began = time.monotonic()
        api.patch(TASK_MODEL, name, tasks[name], change={"spec": {"adapter": {"version": "v2"}}})
        sent[tasks[name], name] = time.monotonic()
        time.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))

    def arrived() -> dict[tuple[str, str], float]:
        news = {place: at for place, at in agents.told.copy().items() if place not in before}
        return {(namespace, revision.rpartition("-")[0]): at for (namespace, revision), at in news.items()}

    running.brings(lambda: len(arrived()) == len(sent), what="all agents have the new versions", within=LONG)
    times = sorted(arrived()[place] - at for place, at in sent.items())
    p50, p99 = statistics.median(times), times[max(0, round(len(times) * 0.99) - 1)]
    say(
        f"spec change → agent updated, {len(times)} edits: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, most {times[-1] * 1000:.0f} ms (load {load()})"
    )
    running.brings(partial(all_serve, api, "v2", len(sent)), what="the new versions serve", within=LONG)
    quiet(running)
    say(f"for each edit: {(cpu_seconds(running.process) - spent) / len(sent) * 1000:.0f} ms of CPU")
    say(f"for each edit: calls: {for_each(calls(running), asked, len(sent))}")
    say(f"for each edit: looks: {for_each(looks(running), looked, len(sent))}")


def for_each(now: Mapping[str, float], before: Mapping[str, float], count: int) -> str:
    each = {name: (value - before.get(name, 0)) / count for name, value in now.items()}
    return ", ".join(f"{name} {value:.1f}" for name, value in sorted(each.items()) if value >= 0.05)


def looks(running: OperatorProcess) -> dict[str, float]:
    """How often keys were looked at so far, by their kind."""
    found: dict[str, float] = {}
    for kind, value in running.samples("taskfleet_reconcile_seconds_count", "kind"):
        found[kind] = found.get(kind, 0) + float(value)
    return found


def calls(running: OperatorProcess) -> dict[str, float]:
    """Calls of the API server so far, by verb, resource and whether they came to anything."""
    found: dict[str, float] = {}
    for name, resource, code, value in running.samples("taskfleet_kube_requests_total", "verb", "resource", "code"):
        told = f"{name} {resource}" if code.startswith("2") else f"{name} {resource} ({code})"
        found[told] = found.get(told, 0) + float(value)
    return found


def all_serve(api: Api, version: str, count: int) -> bool:
    found = [task for task in api.list(TASK_MODEL) if task["status"].get("stable", {}).get("version") == version]
    return len(found) == count and all(is_true(task, "Ready") for task in found)


def costs(running: OperatorProcess, seconds: float, what: str) -> None:
    """What the operator does while nothing is changed."""
    quiet(running)
    cpu, writes, looks = cpu_seconds(running.process), running.writes(), scaling_looks(running)
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    share, looked = (cpu_seconds(running.process) - cpu) / took, (scaling_looks(running) - looks) / took
    say(
        f"{what}, for {seconds:.0f} s: {share:.1%} of one core, {running.writes() - writes:.0f} writes but Leases, "
        f"{looked:.1f} looks at replicas a second (load {load()})"
    )
    say(f"memory: {memory(running, 'VmRSS')} MiB resident, {memory(running, 'VmHWM')} MiB at most")


def scaling_looks(running: OperatorProcess) -> float:
    return running.metric("taskfleet_reconcile_seconds_count", kind="scaling")


def asked_pools(running: OperatorProcess) -> int:
    """Pools of which the operator knows that something is asked."""
    return sum(float(value) > 0 for _, value in running.samples("taskfleet_pool_requests", "pool"))


def one_of_each_pool(api: Api) -> tuple[tuple[str, str], ...]:
    pools = api.list(POOL)
    return tuple((pool["metadata"]["namespace"], min(member["taskModel"] for member in pool["spec"]["members"])) for pool in pools)


def quiet(running: OperatorProcess) -> None:
    """Nothing is due, and the last writes are some seconds old."""

    def still() -> bool:
        before = running.writes()
        time.sleep(5)
        return running.metric("taskfleet_queue_depth") == 0 and running.writes() == before

    running.brings(still, what="it is quiet", within=LONG)


def restart(api_server: ApiServer, folder: Path, fleet: Fleet, gateway: FleetGateway) -> None:
    before = versions(api_server.api)
    began = time.monotonic()
    with operator(api_server, folder, gateway) as second:
        kinds = {"taskmodel": fleet.tasks, "pool": fleet.pools, "packing": fleet.pools}

        def reconciled() -> bool:
            done = {kind: second.metric("taskfleet_reconcile_seconds_count", kind=kind, result="done") for kind in kinds}
            heard = second.metric("taskfleet_agent_calls_total", route="/agent/v1/state", code="200")
            return (
                all(done[kind] >= least for kind, least in kinds.items())
                and heard >= fleet.pools
                and second.metric("taskfleet_queue_depth") == 0
            )

        second.brings(reconciled, what="all is reconciled", within=LONG)
        took = time.monotonic() - began
        quiet(second)
        after = versions(api_server.api)
        rewritten = [name for name, version in before.items() if after.get(name) != version]
        say(
            f"restart: all reconciled after {took:.1f} s, {len(rewritten)} of {len(before)} objects rewritten {rewritten[:5]} (load {load()})"
        )
        say(f"memory: {memory(second, 'VmRSS')} MiB resident, {memory(second, 'VmHWM')} MiB at most")


def versions(api: Api) -> Mapping[str, str]:
    """Of everything that the operator wrote."""
    return {key(one): one["metadata"]["resourceVersion"] for kind in (*CHILDREN, POOL, TASK_MODEL) for one in api.list(kind)}


def memory(running: OperatorProcess, field: str) -> int:
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) // 1024


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
