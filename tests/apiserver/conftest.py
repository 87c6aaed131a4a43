"""Fixtures of the tier that talks to a real API server without nodes."""

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.apiserver.control_plane import control_plane
from tests.cluster.api import Api, Object, eventually
from tests.cluster.local.backends import provide
from tests.cluster.local.instance import Instance
from tests.cluster.local.kind import docker_answers
from tests.cluster.local.progress import Progress
from tests.lanes import cluster_of_lane

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A real API server with the CustomResourceDefinitions in place."""

    kubeconfig: Path
    api: Api

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output; raises CalledProcessError where kubectl refuses."""
        return self._run("kubectl", *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        return self._run("helm", *arguments)

    def _run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        # Local clusters have the programs of their version beside their kubeconfig.
        own = self.kubeconfig.parent / "bin" / program
        command = [str(own) if own.exists() else program, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="session")
def own_control_plane() -> Iterator[Instance | None]:
    """A control plane of this run's own, which tests may stop and start; None where they run on another's."""
    if os.environ.get("KUBECONFIG_TEST") or docker_answers():
        yield None
    else:
        with control_plane() as instance:
            yield instance


@pytest.fixture(scope="session")
def kubeconfig(own_control_plane: Instance | None) -> Path:
    """That of the cluster in KUBECONFIG_TEST; else of kind's where a Docker engine answers, or of a control plane of this run's own."""
    if given := os.environ.get("KUBECONFIG_TEST"):
        return Path(given)
    if own_control_plane is not None:
        return own_control_plane.kubeconfig
    return provide(cluster_of_lane(), Progress()).kubeconfig


@pytest.fixture(scope="session")
def api_server(kubeconfig: Path) -> Iterator[ApiServer]:
    api = Api(kubeconfig)
    install_definitions(api)
    yield ApiServer(kubeconfig, api)
    api.close()


@pytest.fixture(scope="session")
def new_namespace(api_server: ApiServer) -> Callable[[str], str]:
    """Makes a namespace of a test's own; the argument goes into its name."""
    numbers = itertools.count(1)

    def make(name: str) -> str:
        namespace = f"{name}-{os.getpid()}-{next(numbers)}"
        api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        return namespace

    return make


def install_definitions(api: Api) -> None:
    """All CustomResourceDefinitions; returns when they are served."""
    names = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition: Object = yaml.safe_load(path.read_text())
        names.append(definition["metadata"]["name"])
        apply_definition(api, definition)
    for name in names:
        eventually(partial(_established, api, name), what=f"{name} is served", within=60)


def apply_definition(api: Api, definition: Object, *, dry_run: bool = False) -> None:
    """Server-side apply of a CustomResourceDefinition. Raises ApiError where its schema or a rule's cost is refused."""
    query = {"fieldManager": "taskfleet-tests", "force": "true"} | ({"dryRun": "All"} if dry_run else {})
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
    api.request("PATCH", path, body=definition, query=query, content_type="application/apply-patch+yaml")


def _established(api: Api, name: str) -> bool:
    found = json.loads(api.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"))
    return any(one["type"] == "Established" and one["status"] == "True" for one in found.get("status", {}).get("conditions") or [])
