"""A real gateway process beside a real API server, with exactly the rights that the chart gives it, and tasks for it to serve.

The pods behind are servers of the tests (no node is here to run any); objects that the operator would write are written by the administrator.
"""

import asyncio
import base64
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from taskfleet.names import engine_name
from tests.apiserver import objects
from tests.apiserver.conftest import ROOT, ApiServer
from tests.cluster.api import ENDPOINT_SLICE, POOL, REVISION, TASK_MODEL, Object, eventually
from tests.unit.gateway.pods import Pod

SYSTEM = "gateway-under-test"
GATEWAY = "taskfleet-gateway"
OPERATOR = "taskfleet-operator"
AUDIENCE = "taskfleet-gateway"
DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True)
class Fleet:
    """The API server, and the running gateway's addresses."""

    server: ApiServer
    public: str
    internal: str
    process: subprocess.Popen[bytes]

    def token(self, account: str, namespace: str, *, audiences: tuple[str, ...] = (AUDIENCE,)) -> str:
        """A token of a ServiceAccount, which is made where it is missing."""
        self.server.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}})
        return self.server.api.token(account, namespace, audiences=audiences)

    def allow(self, account: str, namespace: str, *, subresource: str = "invoke", names: tuple[str, ...] = ()) -> None:
        """The right on all TaskModels of a namespace, or on some by name."""
        role = f"{account}-{subresource}"
        rule: Object = {"apiGroups": ["taskfleet.dev"], "resources": [f"taskmodels/{subresource}"], "verbs": ["create"]}
        metadata = {"name": role, "namespace": namespace}
        rules = [rule | ({"resourceNames": list(names)} if names else {})]
        self.server.api.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules})
        self.server.api.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            }
        )


@dataclass
class ServedTask:
    """A TaskModel and what the operator would have made for it."""

    server: ApiServer
    namespace: str
    name: str = "total"
    pool: str = "tiny-0a1b2c3d"
    uid: str = ""
    pool_uid: str = ""
    revisions: dict[str, str] = field(default_factory=dict)  # UIDs by name

    @property
    def model(self) -> str:
        """What clients call it."""
        return f"{self.namespace}/{self.name}"

    def create(self) -> None:
        """The TaskModel, its pool and one stable revision that has all traffic."""
        api = self.server.api
        self.uid = api.apply(objects.task_model(self.namespace, self.name))["metadata"]["uid"]
        self.pool_uid = api.apply(objects.pool(self.namespace, self.pool))["metadata"]["uid"]
        self.add_revision(f"{self.name}-1", DIGEST, phase="Stable")
        self.publish(f"{self.name}-1")

    def add_revision(self, name: str, digest: str, *, phase: str) -> str:
        """A revision with its digest resolved; gives its name inside engines."""
        owner = {"apiVersion": "taskfleet.dev/v1alpha1", "kind": "TaskModel", "name": self.name, "uid": self.uid, "controller": True}
        body = objects.changed(
            objects.revision(self.namespace, name),
            objects.put("spec.taskModelName", self.name),
            objects.put("metadata.ownerReferences", [owner]),
        )
        self.revisions[name] = self.server.api.apply(body)["metadata"]["uid"]
        change = {"status": {"digest": digest, "phase": phase}}
        self.server.api.patch(REVISION, name, self.namespace, change=change, subresource="status")
        return engine_name(self.namespace, self.name, digest)

    def publish(self, *revisions: str) -> None:
        """Traffic to these revisions in equal parts; none: the status is emptied."""
        traffic = [
            {"revision": name, "uid": self.revisions[name], "pool": self.pool, "weightPercent": 100 // len(revisions)} for name in revisions
        ]
        self.server.api.patch(TASK_MODEL, self.name, self.namespace, change={"status": {"traffic": traffic}}, subresource="status")

    def place(self, *pods: Pod) -> None:
        """These are the Ready pods of the pool."""
        labels = {"kubernetes.io/service-name": self.pool, "taskfleet.dev/pool": self.pool, "taskfleet.dev/pool-uid": self.pool_uid}
        for pod in pods:
            host, _, port = pod.address.rpartition(":")
            self.server.api.apply(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {"name": f"{self.pool}-{pod.name}", "namespace": self.namespace, "labels": labels},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": int(port), "protocol": "TCP"}],
                    "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
                }
            )

    def remove(self) -> None:
        self.server.api.delete(TASK_MODEL, self.name, self.namespace)

    def remove_pool(self) -> None:
        self.server.api.delete(POOL, self.pool, self.namespace)
        for found in self.server.api.list(ENDPOINT_SLICE, self.namespace):
            self.server.api.delete(ENDPOINT_SLICE, found["metadata"]["name"], self.namespace)


def prepare(server: ApiServer) -> None:
    """Namespace, ServiceAccounts and the chart's own rights for the gateway."""
    server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    chart = ("template", "taskfleet", str(ROOT / "charts" / "taskfleet"), "-n", SYSTEM, "--set", "image.repository=none")
    rights = list(yaml.safe_load_all(server.helm(*chart, "-s", "templates/gateway-rbac.yaml")))
    for item in rights:
        # Names of the cluster's own scope belong to whoever installs the chart as a whole.
        if item["kind"].startswith("Cluster"):
            item["metadata"]["name"] = SYSTEM
        if item.get("roleRef", {}).get("kind") == "ClusterRole":
            item["roleRef"]["name"] = SYSTEM
    server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights))


@contextmanager
def running(server: ApiServer, folder: Path, *, address: str = "", **environment: str) -> Iterator[Fleet]:
    """A gateway process with a kubeconfig of its own ServiceAccount. `address`: of the API server, where it is not asked directly."""
    kubeconfig = folder / "gateway-kubeconfig"
    kubeconfig.write_text(_kubeconfig(server, server.api.token(GATEWAY, SYSTEM), address))
    public, internal = free_port(), free_port()
    settings = {
        "KUBECONFIG": str(kubeconfig),
        "TASKFLEET_NAMESPACE": SYSTEM,
        "TASKFLEET_HOST": "127.0.0.1",
        "TASKFLEET_PORT": str(public),
        "TASKFLEET_INTERNAL_PORT": str(internal),
        "TASKFLEET_HOLD_SECONDS": "20",
        "TASKFLEET_SHUTDOWN_DELAY_SECONDS": "0.2",
        **{f"TASKFLEET_{name.upper()}": value for name, value in environment.items()},
    }
    log = folder / "gateway.log"
    with log.open("ab") as out:
        command = [sys.executable, "-c", "from taskfleet.cli.main import main; main()", "gateway"]
        process = subprocess.Popen(command, env=os.environ | settings, stderr=out)
        try:
            eventually(lambda: _listens(public, process), what=f"the gateway listens ({log.read_text()[-2000:]})", within=60)
            yield Fleet(server, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}", process)
        finally:
            process.terminate()
            code = process.wait(timeout=60)
    told = log.read_text()
    assert code == 0, told
    assert "Traceback" not in told, told


@asynccontextmanager
async def pods(server: ApiServer, *names: str, models: set[str]) -> AsyncIterator[list[Pod]]:
    """Servers at an address of this machine that an EndpointSlice may hold: never a loopback one."""
    running_pods = [Pod(name, models=set(models), host=reachable_address(server), any_token=True) for name in names]
    for pod in running_pods:
        await pod.__aenter__()
    try:
        yield running_pods
    finally:
        for pod in running_pods:
            await pod.__aexit__()


class Cable:
    """The network between gateway and API server, to be cut. Lives in a thread of its own: tests wait for the gateway without an event loop."""

    def __init__(self, server: ApiServer) -> None:
        target = urlsplit(server.api.url)
        self._host, self._port = str(target.hostname), target.port or 443
        self._listening: Future[int] = Future()
        self._writers: set[asyncio.StreamWriter] = set()
        self._whole = True

    @contextmanager
    def laid(self) -> Iterator[str]:
        """Gives the address to use instead of the API server's."""
        thread = threading.Thread(target=asyncio.run, args=[self._run()])
        thread.start()
        try:
            yield f"https://127.0.0.1:{self._listening.result(timeout=10)}"
        finally:
            self.cut()
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join(timeout=10)

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._join, "127.0.0.1", 0) as listener:
            self._listening.set_result(listener.sockets[0].getsockname()[1])
            await self._over.wait()

    def cut(self) -> None:
        """Nothing goes through any more, and what was open breaks."""
        self._whole = False
        self._loop.call_soon_threadsafe(self._break)

    def mend(self) -> None:
        self._whole = True

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._writers -= {writer, far_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


def gateway_slice(namespace: str, host: str, port: int) -> Object:
    """The EndpointSlice by which the operator finds a replica of the gateway."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": GATEWAY, "namespace": namespace, "labels": {"kubernetes.io/service-name": GATEWAY}},
        "addressType": "IPv4",
        "ports": [{"name": "internal", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
    }


def reachable_address(server: ApiServer) -> str:
    """Address of this machine towards the API server, or towards anywhere where that is the loopback interface."""
    for far in (str(urlsplit(server.api.url).hostname), "192.0.2.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            address: str = probe.getsockname()[0]
        if not address.startswith("127."):
            return address
    raise RuntimeError("this machine has no address but the loopback one")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"the gateway ended with {process.returncode}"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _kubeconfig(server: ApiServer, token: str, address: str) -> str:
    given: dict[str, Any] = yaml.safe_load(server.kubeconfig.read_text())
    context = next(one["context"] for one in given["contexts"] if one["name"] == given["current-context"])
    cluster = next(one["cluster"] for one in given["clusters"] if one["name"] == context["cluster"])
    authority = cluster.get("certificate-authority-data")
    if authority is None:
        authority = base64.b64encode((server.kubeconfig.parent / cluster["certificate-authority"]).read_bytes()).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address or cluster["server"], "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )
