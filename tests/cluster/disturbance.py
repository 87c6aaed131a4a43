"""Things that happen to a cluster: killed containers, drained nodes, restarted programs. Each returns when it has happened."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.api import DEPLOYMENT, POD, Api, ApiError, Object, eventually, is_true
from tests.cluster.oracles import restart_counts
from tests.cluster.story import tell

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


def kill_container(api: Api, pod: Object, container: str) -> None:
    """SIGKILL to a container's first process, as the kernel does it when memory runs out; returns when the kubelet has restarted it.

    Works from the machine that the node's processes run on: they are found by the container's id in their cgroup.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    before = restart_counts(api.get(POD, name, namespace))[container]
    os.kill(_processes(pod, container)[0], signal.SIGKILL)
    eventually(
        lambda: restart_counts(api.get(POD, name, namespace))[container] > before,
        what=f"{container} of {name} restarts",
        describe=lambda: tell(api, namespace),
    )


def _processes(pod: Object, container: str) -> list[int]:
    """Ids of a container's processes in the machine's own numbering, eldest first."""
    status = pod["status"]
    known = {one["name"]: one["containerID"] for one in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]}
    container_id = known[container].rpartition("/")[2]
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                groups = (process / "cgroup").read_text()
                started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we looked
            if container_id in groups:
                found.append((started, int(process.name)))
    assert found, f"no process of container {container} ({container_id}) is in sight"
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
