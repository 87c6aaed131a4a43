"""The room an instance lives in: Linux namespaces for its network, mounts and processes, held by one first process.

Whatever the cluster mounts, starts or configures on the network is inside and ends with the first process, also after a crash or an interrupted
start. Folders of the machine that programs write to by fixed paths are covered by folders of the instance, and so are the kernel settings that
the kubelet insists on changing: they have no namespace, and other programs of the machine depend on them.
"""

import json
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

from .binaries import program_path
from .commands import run
from .failures import ClusterError
from .instance import Instance, others_claimed
from .processes import ProcessRecord, alive, children, forget, read_record, start_outside, stop, write_record
from .waiting import wait_until

ANCHOR = "anchor"
UNSHARE = "unshare"

# What the kubelet wants to find and would write otherwise (its container manager's node settings): it sees files with these values instead.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

# Nothing of the person's environment reaches the components: no proxy settings, no language.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

# Path on the machine → folder of the instance that covers it inside.
COVERED = {
    "/var/log": "var-log",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni",
}


def anchor(instance: Instance) -> ProcessRecord | None:
    """The first process of the instance's namespaces while it lives."""
    record = read_record(instance, ANCHOR)
    return record if record and alive(record) else None


def create(instance: Instance) -> None:
    """Makes the namespaces, their mounts and their link to the machine; leaves them alone where they exist."""
    ready = instance.state / "namespaces-ready"
    if anchor(instance):
        if ready.exists():
            return
        # An earlier start was interrupted half-way.
        destroy(instance)
    ready.unlink(missing_ok=True)
    pause = program_path("pause")
    # Slave: mounts that the machine makes later are seen inside, and none of ours outside.
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "slave",
        str(pause),
    ]
    unshare = start_outside(instance, UNSHARE, command)
    wait_until(
        lambda: any(_program_of(pid) == pause for pid in children(unshare.pid)),
        "the instance's first process",
        seconds=20,
        check=lambda: _explain_if_dead(instance, unshare),
    )
    write_record(instance, ANCHOR, children(unshare.pid)[0])
    _mount(instance)
    _connect(instance)
    ready.touch()


def enter(instance: Instance, command: Sequence[str | Path]) -> list[str]:
    """The command that runs `command` inside. Raises ClusterError when the instance is not running."""
    holder = anchor(instance)
    if holder is None:
        raise ClusterError(f"the cluster `{instance.name}` is not running", advice="start it with `make cluster`")
    return ["nsenter", "--target", str(holder.pid), "--net", "--mount", "--pid", "--ipc", "--", *(str(word) for word in command)]


def start_inside(instance: Instance, name: str, command: Sequence[str]) -> ProcessRecord:
    """Starts a process inside. Its parent is the first process, which collects it when it ends; nothing of ours waits outside."""
    holder = anchor(instance)
    if holder is None:
        raise ClusterError(f"the cluster `{instance.name}` is not running", advice="start it with `make cluster`")
    words = list(command)
    before = set(children(holder.pid))
    log = instance.logs / f"{name}.log"
    # Pods inherit containerd's limit, and a shell's usual 1,024 open files are too few for a server under load. More than the hard limit needs a
    # right that some containers don't give.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    run(enter(instance, ["prlimit", f"--nofile={hard}:{hard}", "setsid", "--fork", *words]), log=log, environment=ENVIRONMENT)

    def newcomer() -> int | None:
        # containerd's shims become children of the first process, too: the whole command line tells them apart.
        return next((pid for pid in children(holder.pid) if pid not in before and _command_of(pid) == words), None)

    try:
        wait_until(lambda: newcomer() is not None, f"the start of {name}", seconds=20)
    except ClusterError as error:
        raise ClusterError(f"{name} ended at once", log=log) from error
    pid = newcomer()
    if pid is None:
        raise ClusterError(f"{name} ended at once", log=log)
    return write_record(instance, name, pid)


def destroy(instance: Instance) -> None:
    """Ends the first process; the kernel ends all others inside, removes their mounts, devices, tables and, with the network, our routes."""
    holder = anchor(instance)
    if holder is not None:
        os.kill(holder.pid, signal.SIGKILL)
        wait_until(lambda: not alive(holder), "the end of the cluster's processes", seconds=60)
    forget(instance, ANCHOR)
    # It ends with its child, and takes the child along where the start was interrupted before the child was recorded.
    stop(instance, UNSHARE)
    device = Path("/sys/class/net") / instance.device_outside
    # A start that was interrupted between two commands may have left the device outside without its peer inside.
    if device.exists():
        try:
            # The kernel removes a dead namespace's devices a moment later.
            wait_until(lambda: not device.exists(), "the removal of the network device", seconds=10)
        except ClusterError:
            run(["ip", "link", "delete", instance.device_outside])
    if not others_claimed(instance):
        for path in COVERED:
            _remove_if_empty(Path(path))


def _command_of(pid: int) -> list[str]:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _program_of(pid: int) -> Path | None:
    try:
        return (Path("/proc") / str(pid) / "exe").readlink()
    except FileNotFoundError:
        return None


def _explain_if_dead(instance: Instance, unshare: ProcessRecord) -> None:
    if not alive(unshare):
        raise ClusterError(
            "namespaces can't be made here",
            log=instance.logs / "unshare.log",
            advice="run as root, outside of containers that take away CAP_SYS_ADMIN, or start a Docker engine so that kind is used",
        )


def _mount(instance: Instance) -> None:
    settings = instance.state / "kernel-settings"
    lines = ["set -eu", "mount --make-rshared /", "mount -t tmpfs -o mode=755 tmpfs /run", "mkdir -p /run/lock /run/netns"]
    for name, value in KERNEL_SETTINGS.items():
        file = settings / name.replace("/", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        lines.append(f"mount --bind '{file}' /proc/sys/{name}")
    for path, folder in COVERED.items():
        # The machine needs a folder to cover; one that we made goes with the last instance.
        Path(path).mkdir(parents=True, exist_ok=True)
        (instance.state / folder).mkdir(parents=True, exist_ok=True)
        lines.append(f"mount --bind '{instance.state / folder}' {path}")
    run(enter(instance, ["sh", "-c", "\n".join(lines)]), advice="run as root; overlay and tmpfs mounts must be allowed")


def _connect(instance: Instance) -> None:
    holder = anchor(instance)
    if holder is None:
        raise ClusterError(f"the first process of `{instance.name}` ended", log=instance.logs / "unshare.log")
    _refuse_foreign_routes(instance)
    outside, inside = instance.device_outside, instance.device_inside
    run(["ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", str(holder.pid)])
    run(["ip", "address", "add", f"{instance.host_address}/24", "dev", outside])
    run(["ip", "link", "set", outside, "up"])
    lines = [
        "set -eu",
        "ip link set lo up",
        f"ip address add {instance.node_address}/24 dev {inside}",
        f"ip link set {inside} up",
        # The kubelet and the API server look for a default route; nothing beyond the machine answers on it.
        f"ip route add default via {instance.host_address}",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        # Otherwise a pod's connection to a Service whose pod is on the same bridge is answered past the address translation.
        "if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi",
    ]
    run(enter(instance, ["sh", "-c", "\n".join(lines)]))
    for network in (instance.pod_network, instance.service_network):
        run(["ip", "route", "add", str(network), "via", instance.node_address])


def _refuse_foreign_routes(instance: Instance) -> None:
    for network in (instance.pod_network, instance.service_network):
        routes = json.loads(run(["ip", "-json", "route", "show", "root", str(network)]) or "[]")
        others = [route["dst"] for route in routes if route["dst"] not in {"default", "0.0.0.0/0"}]
        if others:
            raise ClusterError(
                f"this machine already routes {', '.join(others)}, which the local cluster needs",
                advice="choose other networks in instance.py",
            )


def _remove_if_empty(path: Path) -> None:
    if path.is_dir() and path != Path("/var/log") and not any(path.iterdir()):
        path.rmdir()
