"""Starting, looking at and ending an instance whose components are processes of this machine."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .accelerators import claim_accelerators
from .binaries import ensure_programs, program_path
from .cache import cache_folder, locked
from .cgroups import create_cgroups, remove_cgroups
from .containerd import containerd_answers, start_containerd, write_containerd_configuration
from .control_plane import api_server_ready, start_api_server, start_controller_manager, start_etcd, start_scheduler
from .debian import ensure_packages
from .dns import install_dns, resolves
from .failures import ClusterError
from .instance import Instance, claim, find, release
from .kubectl import link_programs
from .namespaces import anchor, create, destroy
from .node import start_kubelet, start_proxy
from .node_readiness import node_is_ready
from .pki import write_pki
from .processes import ProcessRecord, alive, all_records, read_record, stop
from .program_images import push_program_images
from .progress import Progress
from .registry import publish_registry, registry_answers, start_registry
from .waiting import wait_until

Start = Callable[[Instance], ProcessRecord]

COMPONENTS: dict[str, Start] = {
    "etcd": start_etcd,
    "containerd": start_containerd,
    "registry": start_registry,
    "kube-apiserver": start_api_server,
    "kube-controller-manager": start_controller_manager,
    "kube-scheduler": start_scheduler,
    "kubelet": start_kubelet,
    "kube-proxy": start_proxy,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """Whether a component's process lives."""

    name: str
    running: bool
    pid: int | None
    log: Path


def up(name: str, progress: Progress) -> Instance:
    """Starts the instance, or what is missing of it. Raises ClusterError; what was started until then is left for `down` and for a look."""
    build_log = cache_folder() / "log" / "build.log"
    ensure_packages(progress, build_log)
    ensure_programs(progress, build_log)
    instance = claim(name)
    with locked(instance.state / "lock"):
        _start(instance, progress)
    return instance


def down(name: str, progress: Progress) -> bool:
    """Ends the instance and removes all that it left. Says whether there was one."""
    instance = find(name)
    if instance is None:
        return False
    for record in all_records(instance):
        # Those inside end together with their namespaces. Those on the machine's network would outlive them.
        if record.name.startswith("forward-"):
            stop(instance, record.name)
    progress.say(f"ending cluster `{name}`")
    destroy(instance)
    remove_cgroups(instance)
    release(instance)
    shutil.rmtree(instance.state)
    progress.say(f"cluster `{name}` is gone")
    return True


def status(instance: Instance) -> list[ComponentStatus]:
    rows = []
    for name in COMPONENTS:
        record = read_record(instance, name)
        running = record is not None and alive(record)
        rows.append(
            ComponentStatus(name=name, running=running, pid=record.pid if record and running else None, log=instance.logs / f"{name}.log")
        )
    return rows


def stop_component(instance: Instance, component: str) -> None:
    """Ends one component, as an outage would."""
    stop(instance, component)


def start_component(instance: Instance, component: str) -> None:
    """Starts a component that was stopped or has ended; does nothing while it runs."""
    record = read_record(instance, component)
    if record is None or not alive(record):
        COMPONENTS[component](instance)


def _start(instance: Instance, progress: Progress) -> None:
    progress.say(f"starting cluster `{instance.name}` at {instance.node_address}, files in {instance.state}")
    create(instance)
    create_cgroups(instance)
    write_pki(instance)
    write_containerd_configuration(instance)
    link_programs(instance, {name: program_path(name) for name in ("kubectl", "helm")})
    for component in ("etcd", "containerd", "registry", "kube-apiserver"):
        start_component(instance, component)
    _await(instance, lambda: registry_answers(instance), "the registry answers", "registry", progress)
    push_program_images(instance, instance.logs / "images.log")
    _await(instance, api_server_ready(instance), "the API server is ready", "kube-apiserver", progress)
    _await(instance, lambda: containerd_answers(instance), "containerd answers", "containerd", progress)
    for component in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"):
        start_component(instance, component)
    publish_registry(instance, instance.node_address)
    install_dns(instance)
    _await(instance, lambda: node_is_ready(instance, instance.node_name), "the node is Ready", "kubelet", progress)
    claim_accelerators(instance, instance.node_name)
    _await(instance, lambda: resolves(instance, "kubernetes.default.svc.cluster.local"), "the cluster's DNS answers", "kubelet", progress)


def _await(instance: Instance, condition: Callable[[], bool], what: str, component: str, progress: Progress) -> None:
    log = instance.logs / f"{component}.log"
    try:
        wait_until(condition, what, seconds=120, check=lambda: _all_alive(instance))
    except ClusterError as error:
        if error.log is not None:
            raise
        raise ClusterError(f"{error.what}", log=log, advice=f"read {log}; `make down` removes what was started") from error
    progress.say(what)


def _all_alive(instance: Instance) -> None:
    for component in COMPONENTS:
        record = read_record(instance, component)
        if record is not None and not alive(record):
            log = instance.logs / f"{component}.log"
            raise ClusterError(f"{component} ended", log=log, advice=f"read {log}; `make down` removes what was started")
    if anchor(instance) is None:
        raise ClusterError("the cluster's namespaces ended", log=instance.logs / "unshare.log", advice="was `make down` run meanwhile?")
