"""The operator as a process of its own against the tier's API server."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tests.apiserver.conftest import ApiServer
from tests.cluster.api import LEASE, ApiError, eventually

START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    """A running operator replica."""

    process: subprocess.Popen[bytes]
    log: Path
    probe_port: int
    metrics_port: int

    def told(self) -> str:
        """The end of what it logged."""
        return self.log.read_text(errors="replace")[-8000:]

    def probe(self, path: str) -> int:
        """The status of a probe; 0 while nobody listens."""
        return self._get(self.probe_port, path)[0]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that carry these labels."""
        _, text = self._get(self.metrics_port, "/metrics")
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(f'{key}="{value}"' in line for key, value in labels.items()))

    def samples(self, name: str, *labels: str) -> list[tuple[str, ...]]:
        """Each sample of a metric: the values of these labels, and its own."""
        _, text = self._get(self.metrics_port, "/metrics")
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        values = [(dict(re.findall(r'(\w+)="([^"]*)"', line)), line.rsplit(" ", 1)[1]) for line in lines]
        return [(*(found.get(label, "") for label in labels), value) for found, value in values]

    def writes(self) -> float:
        """Calls that write, without those on Leases and reviews and without tokens."""
        # By one look: between two a Lease is renewed.
        calls = self.samples("taskfleet_kube_requests_total", "verb", "resource")
        return sum(float(count) for verb, resource, count in calls if _writes(verb, resource))

    def stop(self, *, within: float = 30) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=within)

    def kill(self) -> None:
        """SIGKILL: no lease is released, nothing is finished."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)

    def brings(self, check: Callable[[], object], *, what: str, within: float = START_SECONDS) -> None:
        """Waits for what the operator is to do. Raises RuntimeError when it ends meanwhile."""

        def checked() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the operator ended with {self.process.returncode} before {what}\n{self.told()}")
            return bool(check())

        eventually(checked, what=what, within=within, describe=self.told)

    @staticmethod
    def _get(port: int, path: str) -> tuple[int, str]:
        try:
            answer = urllib3.request("GET", f"http://127.0.0.1:{port}{path}", timeout=5, retries=False)
        except urllib3.exceptions.HTTPError:
            return 0, ""
        return answer.status, answer.data.decode()


def _writes(verb: str, resource: str) -> bool:
    return (verb in {"apply", "update", "delete"} and resource != "leases") or (verb, resource) == ("create", "events")


@contextmanager
def running_operator(
    api_server: ApiServer, folder: Path, *, namespace: str, name: str = "one", kubeconfig: Path | None = None, **settings: str
) -> Iterator[OperatorProcess]:
    """An operator of `namespace`; `settings` by their names without prefix, in lower case. It is killed at the end if it still runs."""
    operator = start(api_server, folder, namespace=namespace, name=name, kubeconfig=kubeconfig, **settings)
    try:
        operator.brings(lambda: operator.probe("/readyz") == 200, what=f"operator {name} is ready")
        yield operator
    finally:
        if operator.process.poll() is None:
            operator.stop()
        if "Traceback" in operator.log.read_text(errors="replace"):
            raise AssertionError(f"operator {name} logged a traceback\n{operator.told()}")


def start(
    api_server: ApiServer, folder: Path, *, namespace: str, name: str = "one", kubeconfig: Path | None = None, **settings: str
) -> OperatorProcess:
    """Starts a replica, and waits for nothing. `kubeconfig`: another way to the API server than the administrator's own."""
    probe_port, metrics_port = _free_port(), _free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig or api_server.kubeconfig),
        "TASKFLEET_NAMESPACE": namespace,
        "TASKFLEET_POD_NAME": name,
        "TASKFLEET_AGENT_IMAGE": "registry.example/taskfleet:1",
        "TASKFLEET_GATEWAY_URL": "http://gateway.example",
        "TASKFLEET_HOST": "127.0.0.1",
        "TASKFLEET_PROBE_PORT": str(probe_port),
        "TASKFLEET_METRICS_PORT": str(metrics_port),
        **{f"TASKFLEET_{key.upper()}": value for key, value in settings.items()},
    }
    log = folder / f"operator-{name}-{probe_port}.log"
    with log.open("wb") as sink:
        command = [sys.executable, "-c", "from taskfleet.cli.main import main; main()", "operator"]
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=subprocess.STDOUT)
    return OperatorProcess(process, log, probe_port, metrics_port)


def leader(api_server: ApiServer, namespace: str) -> str:
    """The pod name of the replica that holds the lease; empty where nobody does."""
    try:
        lease = api_server.api.get(LEASE, "taskfleet-operator", namespace)
    except ApiError as error:
        if error.status == 404:
            return ""
        raise
    return str(lease["spec"].get("holderIdentity", "")).rpartition("_")[0]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
