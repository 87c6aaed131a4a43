"""Things that happen to a cluster: killed containers, drained nodes, restarted programs. Each returns when it has happened."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.api import DEPLOYMENT, LEASE, POD, SERVICE, Api, ApiError, Object, eventually, is_true
from tests.cluster.fleet import SYSTEM
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import restart_counts
from tests.cluster.story import tell

OPERATOR = "taskfleet-operator"
HOPELESS_RESTARTS = 3
RESTARTED = "kubectl.kubernetes.io/restartedAt"


class CrashLoopError(Exception):
    """A container of a rollout keeps ending: waiting for it is in vain."""


def pods(api: Api, namespace: str, labels: str = "") -> list[Object]:
    """Running pods that nobody is ending."""
    found = api.list(POD, namespace, labels=labels, fields="status.phase=Running")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def all_ready(api: Api, namespace: str, count: int, *, labels: str = "", within: float = 180) -> list[Object]:
    """The pods, once exactly `count` exist and all of them are Ready."""

    def check() -> list[Object]:
        found = api.list(POD, namespace, labels=labels)
        assert len(found) == count, [pod["metadata"]["name"] for pod in found]
        assert all(is_true(pod, "Ready") for pod in found), "not all are Ready"
        return found

    return eventually(check, what=f"{count} Ready pods in {namespace}", within=within, describe=lambda: tell(api, namespace))


def kill_container(api: Api, pod: Object, *containers: str, worker: bool = False) -> None:
    """SIGKILL to the containers' first processes, as the kernel does it when memory runs out; returns when the kubelet has restarted them.

    `worker`: to the last process of each instead, a child that the first one started and needs.
    Works from the machine that the node's processes run on: they are found by the container's id in their cgroup.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    now = api.get(POD, name, namespace)
    before = restart_counts(now)
    for process in [_processes(_container_id(now, container))[-1 if worker else 0] for container in containers]:
        os.kill(process, signal.SIGKILL)

    def restarted() -> bool:
        counts = restart_counts(api.get(POD, name, namespace))
        return all(counts[container] > before[container] for container in containers)

    eventually(restarted, what=f"{' and '.join(containers)} of {name} restart", describe=lambda: tell(api, namespace))


def reboot(api: Api, cluster: Cluster, doomed: Iterable[Object]) -> None:
    """What a reboot of their node does to pods: kubelet and container runtime end, every process of the pods is gone, and the node comes back."""

    def heartbeat() -> str:
        return str(api.get(LEASE, cluster.node_name, "kube-node-lease")["spec"]["renewTime"])

    def back() -> bool:
        # A kubelet ends where the runtime is not ready for it yet. The machine's init system starts it again, and so do we.
        cluster.start_component("kubelet")
        return heartbeat() > before and cluster.node_answers()

    before = heartbeat()
    cluster.stop_component("kubelet")
    cluster.stop_component("containerd")
    for pod in doomed:
        for process in _processes(pod["metadata"]["uid"]):
            os.kill(process, signal.SIGKILL)
    cluster.start_component("containerd")
    eventually(back, what="the node is back", within=120)


@contextmanager
def cut_off(api: Api, found: Iterable[Object], container: str) -> Iterator[None]:
    """Within the block, nothing that these pods send to the API server arrives, and no connection of theirs is told: their watches stand still."""
    address = api.get(SERVICE, "kubernetes", "default")["spec"]["clusterIP"]
    with _dropped(found, container, ["OUTPUT", "-d", address]):
        yield


@contextmanager
def deaf(found: Iterable[Object], container: str, *, to: Iterable[Object]) -> Iterator[None]:
    """Within the block, nothing that the pods `to` send arrives at these pods, and no connection of theirs is told."""
    with _dropped(found, container, *(["INPUT", "-s", pod["status"]["podIP"]] for pod in to)):
        yield


@contextmanager
def _dropped(found: Iterable[Object], container: str, *matches: list[str]) -> Iterator[None]:
    """Within the block, packets that match a rule of iptables (chain and conditions) go nowhere in these pods' networks."""
    networks = [_processes(_container_id(pod, container))[0] for pod in found]

    def rule(change: str) -> None:
        for process in networks:
            for chain, *conditions in matches:
                command = ["nsenter", f"--target={process}", "--net", "iptables", change, chain, *conditions, "-j", "DROP"]
                subprocess.run(command, check=True, capture_output=True)

    rule("-I")
    try:
        yield
    finally:
        rule("-D")


@contextmanager
def no_operator(api: Api) -> Iterator[None]:
    """Within the block the operator has no replicas."""

    def scaled(count: int) -> None:
        api.patch(DEPLOYMENT, OPERATOR, SYSTEM, change={"spec": {"replicas": count}})
        rolled_out(api, OPERATOR, SYSTEM)

    scaled(0)
    eventually(lambda: not api.list(POD, SYSTEM, labels="app.kubernetes.io/component=operator"), what="the operator is gone")
    try:
        yield
    finally:
        scaled(1)


def _container_id(pod: Object, container: str) -> str:
    status = pod["status"]
    known = {one["name"]: one["containerID"] for one in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]}
    return str(known[container].rpartition("/")[2])


def _processes(group: str) -> list[int]:
    """Ids of the processes of a container (by its id) or a pod (by its UID) in the machine's own numbering, eldest first."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                groups = (process / "cgroup").read_text()
                started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we looked
            if group in groups:
                found.append((started, int(process.name)))
    assert found, f"no process of {group} is in sight"
    return [pid for _, pid in sorted(found)]


def drain(api: Api, namespace: str, labels: str = "") -> None:
    """Evicts every pod that runs now, one after the other, as a node drain does: asking again while a PodDisruptionBudget forbids it."""
    for pod in pods(api, namespace, labels):
        _evict(api, pod["metadata"]["name"], namespace)


def _evict(api: Api, name: str, namespace: str) -> None:
    def evicted() -> bool:
        try:
            api.evict(name, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
        return True

    eventually(evicted, what=f"{name} may be evicted", within=180, describe=lambda: tell(api, namespace))


def restart_deployment(api: Api, name: str, namespace: str, *, within: float = 240) -> None:
    """`kubectl rollout restart`, and its status."""
    stamp = {RESTARTED: datetime.now(UTC).isoformat()}
    api.patch(DEPLOYMENT, name, namespace, change={"spec": {"template": {"metadata": {"annotations": stamp}}}})
    rolled_out(api, name, namespace, within=within)


def rolled_out(api: Api, name: str, namespace: str, *, within: float = 240) -> Object:
    """The Deployment, once all its pods are of its newest template and Ready, and no other is left. Raises CrashLoopError as soon as it never will be."""

    def check() -> Object:
        found = api.get(DEPLOYMENT, name, namespace)
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        selector = ",".join(f"{label}={value}" for label, value in found["spec"]["selector"]["matchLabels"].items())
        for pod in api.list(POD, namespace, labels=selector):
            if max(restart_counts(pod).values(), default=0) >= HOPELESS_RESTARTS and not is_true(pod, "Ready"):
                raise CrashLoopError(tell(api, namespace))
        assert status.get("observedGeneration") == found["metadata"]["generation"], "not yet looked at"
        counts = {count: status.get(count, 0) for count in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")}
        assert set(counts.values()) == {wanted}, counts
        return found

    return eventually(check, what=f"{namespace}/{name} rolled out", within=within, describe=lambda: tell(api, namespace))
