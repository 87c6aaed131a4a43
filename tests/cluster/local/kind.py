"""The local cluster where a Docker engine answers: kind's, with a registry beside it and the same fake accelerators.

The same hands on it as on a cluster of processes (`cluster.Cluster`), so that tests and the demonstration don't know the difference.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from .accelerators import claim_accelerators
from .binaries import FOR_KIND, ensure_programs, program_path
from .cache import cache_folder
from .cluster import Cluster
from .commands import run
from .debian_base import IMAGE as BASE_IMAGE
from .failures import ClusterError
from .images import RECIPES, Recipe, context_of, released
from .instance import REPOSITORY, Instance, state_folder
from .kubectl import kubectl, link_programs
from .package_settings import package_secrets
from .processes import alive, all_records, read_record, start_outside, stop
from .progress import Progress
from .registry import PORT, publish_registry
from .volumes import provide_read_only_claim
from .waiting import wait_until

MARK = "kind"
REGISTRY_IMAGE = "registry:3"
DELETABLE = "REGISTRY_STORAGE_DELETE_ENABLED=true"  # as in the registry without Docker: tests take artifacts away
# The engine's libraries are built for Debian bookworm's Python.
PYTHON_IMAGE = "python:3.11-slim-bookworm"
NETWORK = "kind"


def docker_answers() -> bool:
    """Whether a Docker engine can be used. The client alone is not enough."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode == 0


def find_kind(name: str) -> Instance | None:
    state = state_folder(name)
    # Number 0: no addresses are claimed; Docker has its own.
    return Instance(name=name, number=0, state=state) if (state / MARK).is_file() else None


class KindCluster(Cluster):
    """A running kind cluster."""

    @property
    def node_name(self) -> str:
        return f"{self.instance.node_name}-control-plane"

    @property
    def registry_on_host(self) -> str:
        return run(["docker", "port", registry_container(self.instance), str(PORT)]).split()[0]

    @property
    def machine_in_pods(self) -> str:
        form = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").Gateway}}}}'
        return run(["docker", "inspect", "--format", form, self.node_name]).strip()

    def provide_images(self, *names: str, progress: Progress | None = None) -> None:
        told = progress or Progress()
        self.provide_base_image()
        for name in names or tuple(RECIPES):
            self._provide(RECIPES[name], told)

    def provide_released_image(self, archive: Path) -> str:
        recipe = released(archive)
        self._provide(recipe, Progress())
        return recipe.image

    def provide_base_image(self) -> str:
        _build_base(self.instance)
        self._load(BASE_IMAGE)
        return BASE_IMAGE

    def provide_read_only_claim(self, *, folder: Path, namespace: str, claim: str) -> None:
        provide_read_only_claim(self.instance, node_name=self.node_name, folder=folder, namespace=namespace, claim=claim)

    def expose(self, namespace: str, service: str, port: int) -> str:
        # Addresses of Services are inside the node's container: kubectl carries the bytes.
        name = f"forward-{namespace}-{service}-{port}"
        log = self.instance.logs / f"{name}.log"
        record = read_record(self.instance, name)
        if record is None or not alive(record):
            log.unlink(missing_ok=True)
            program = str(self.instance.programs / "kubectl")
            options = [f"--kubeconfig={self.kubeconfig}", f"--namespace={namespace}", "--address=127.0.0.1"]
            start_outside(self.instance, name, [program, *options, "port-forward", f"service/{service}", f":{port}"])
        found: list[str] = []

        def announced() -> bool:
            found[:] = re.findall(r"Forwarding from (127\.0\.0\.1:\d+)", log.read_text()) if log.exists() else []
            return bool(found)

        wait_until(announced, f"the forwarder to {service}", seconds=60, advice=f"read {log}")
        return f"http://{found[0]}"

    def inside(self, *command: str) -> list[str]:
        return ["docker", "exec", self.node_name, *command]

    def stop_component(self, name: str) -> None:
        if name in {"kubelet", "containerd"}:
            run(self.inside("systemctl", "stop", name))
            return
        # A static pod: the kubelet ends it when its manifest is gone.
        run(self.inside("mv", f"/etc/kubernetes/manifests/{name}.yaml", f"/etc/kubernetes/{name}.stopped"))

    def start_component(self, name: str) -> None:
        if name in {"kubelet", "containerd"}:
            run(self.inside("systemctl", "start", name))
            return
        run(self.inside("mv", f"/etc/kubernetes/{name}.stopped", f"/etc/kubernetes/manifests/{name}.yaml"))

    def api_server_answers(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz").strip() == "ok"
        except ClusterError:
            return False

    def runtime_answers(self) -> bool:
        command = self.inside("crictl", "version")
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    def _provide(self, recipe: Recipe, progress: Progress) -> None:
        with progress.step(f"building and loading {recipe.image}"):
            _build(recipe, self.instance)
            self._load(recipe.image)

    def _load(self, image: str) -> None:
        command: list[str | Path] = [_program("kind"), "load", "docker-image", image, "--name", self.instance.node_name]
        run(command, log=self.instance.logs / "images.log", timeout=1200)


def up_kind(name: str, progress: Progress) -> KindCluster:
    """Creates the kind cluster, or what is missing around it."""
    state = state_folder(name)
    state.mkdir(parents=True, exist_ok=True)
    instance = Instance(name=name, number=0, state=state)
    (state / MARK).touch()
    missing = tuple(program for tool, program in FOR_KIND.items() if shutil.which(tool) is None)
    ensure_programs(progress, cache_folder() / "log" / "build.log", missing)
    link_programs(instance, {tool: _program(tool) for tool in ("kubectl", "helm")})
    if instance.node_name not in run([_program("kind"), "get", "clusters"]).split():
        _create(instance, progress)
    cluster = KindCluster(instance)
    _ensure_registry(cluster)
    claim_accelerators(instance, cluster.node_name)
    return cluster


def down_kind(instance: Instance, progress: Progress) -> None:
    progress.say(f"ending the kind cluster `{instance.name}`")
    for record in all_records(instance):
        stop(instance, record.name)
    run([_program("kind"), "delete", "cluster", "--name", instance.node_name])
    run(["docker", "rm", "--force", "--volumes", registry_container(instance)])
    shutil.rmtree(instance.state)


def registry_container(instance: Instance) -> str:
    return f"{instance.node_name}-registry"


def _program(tool: str) -> Path:
    own = shutil.which(tool)
    return Path(own) if own else program_path(tool)


def _create(instance: Instance, progress: Progress) -> None:
    configuration = yaml.safe_load((REPOSITORY / "kind-config.yaml").read_text())
    # Folders that pods read through claims: at the same path on the node.
    folders = (cache_folder(), REPOSITORY)
    configuration["nodes"][0]["extraMounts"] = [
        {"hostPath": str(folder), "containerPath": str(folder), "readOnly": True} for folder in folders
    ]
    command: list[str | Path] = [
        _program("kind"),
        "create",
        "cluster",
        "--name",
        instance.node_name,
        "--config",
        "-",
        "--kubeconfig",
        instance.kubeconfig,
        "--wait",
        "180s",
    ]
    with progress.step("creating a kind cluster"):
        run(command, stdin=yaml.safe_dump(configuration), advice="`docker ps` and `docker logs` of the node say more")


def _ensure_registry(cluster: KindCluster) -> None:
    name = registry_container(cluster.instance)
    if not run(["docker", "ps", "--quiet", "--filter", f"name=^{name}$"]).strip():
        run(
            [
                "docker",
                "run",
                "--detach",
                "--name",
                name,
                "--network",
                NETWORK,
                "--publish",
                f"127.0.0.1::{PORT}",
                "--env",
                DELETABLE,
                REGISTRY_IMAGE,
            ]
        )
    hosts = f'server = "http://{name}:{PORT}"\n\n[host."http://{name}:{PORT}"]\n  capabilities = ["pull", "resolve"]\n'
    folder = "/etc/containerd/certs.d/_default"
    run(["docker", "exec", "--interactive", cluster.node_name, "sh", "-c", f"mkdir -p {folder} && cat > {folder}/hosts.toml"], stdin=hosts)
    networks = json.loads(run(["docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", name]))
    publish_registry(cluster.instance, networks[NETWORK]["IPAddress"])
    kubectl(cluster.instance, "wait", "--for=condition=Ready", f"node/{cluster.node_name}", "--timeout=120s")


def _build(recipe: Recipe, instance: Instance) -> None:
    with context_of(recipe) as context, package_secrets() as secrets:
        options = [option for name, path in secrets.items() for option in ("--secret", f"id={name},src={path}")]
        command: list[str | Path] = [
            "docker",
            "build",
            "--tag",
            recipe.image,
            "--file",
            context / recipe.containerfile,
            "--build-arg",
            f"BASE={PYTHON_IMAGE}",
            *options,
            context,
        ]
        run(command, log=instance.logs / "images.log", timeout=1800)


def _build_base(instance: Instance) -> None:
    containerfile = (
        f"FROM {PYTHON_IMAGE}\nRUN apt-get update && apt-get install -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists\n"
    )
    run(["docker", "build", "--tag", BASE_IMAGE, "-"], stdin=containerfile, log=instance.logs / "images.log", timeout=1800)
