"""The operator with exactly the rights that the chart gives it: enough for all that it does, from the first TaskModel to the last one's end."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.apiserver.chart import CASES, CHART, arguments
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import changed, claim, put, serving_class, task_model
from tests.cluster.api import (
    CHILDREN,
    EVENT,
    LEASE,
    POOL,
    REVISION,
    SERVING_CLASS,
    TASK_MODEL,
    Kind,
    Object,
    condition,
    eventually,
    is_true,
)

SYSTEM = "taskfleet-system"


@dataclass(frozen=True, slots=True)
class Operator:
    """A running operator."""

    process: subprocess.Popen[bytes]
    log: Path

    def described(self) -> str:
        return self.log.read_text()[-8000:]

    def brings(self, check: Callable[[], object], *, what: str, within: float = 60) -> None:
        """Waits for something that the operator is to do. Raises RuntimeError when it ends meanwhile."""

        def checked() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the operator ended with {self.process.returncode} before {what}\n{self.described()}")
            return bool(check())

        eventually(checked, what=what, within=within, describe=self.described)


@pytest.fixture(scope="module")
def operator(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator as its ServiceAccount, not as an administrator."""
    folder = tmp_path_factory.mktemp("operator")
    values = arguments(CASES[0], folder)
    api_server.helm("upgrade", "--install", "taskfleet", str(CHART), "-n", SYSTEM, "--create-namespace", "--take-ownership", *values)
    kubeconfig = yaml.safe_load(api_server.kubeconfig.read_text())
    kubeconfig["users"] = [
        {"name": one["name"], "user": {"token": api_server.api.token("taskfleet-operator", SYSTEM)}} for one in kubeconfig["users"]
    ]
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    environment = {
        **os.environ,
        "KUBECONFIG": str(folder / "kubeconfig"),
        "TASKFLEET_NAMESPACE": SYSTEM,
        "TASKFLEET_AGENT_IMAGE": "registry.example/taskfleet:1",
        "TASKFLEET_HOST": "127.0.0.1",
        "TASKFLEET_PROBE_PORT": "0",
        "TASKFLEET_METRICS_PORT": "0",
    }
    log = folder / "operator.log"
    with log.open("wb") as sink:
        command = [sys.executable, "-c", "from taskfleet.cli.main import main; main()", "operator"]
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield Operator(process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)
        api_server.helm("uninstall", "taskfleet", "-n", SYSTEM)


def test_the_charts_rights_are_enough(api_server: ApiServer, operator: Operator, new_namespace: Callable[[str], str]) -> None:
    api, namespace = api_server.api, new_namespace("rights")
    api.apply(serving_class("rights"))
    for name in ("one", "two"):
        api.apply(changed(task_model(namespace, name), put("spec.servingClassName", "rights")))

    operator.brings(lambda: api.list(POOL, namespace), what="a pool exists", within=120)
    (pool,) = (one["metadata"]["name"] for one in api.list(POOL, namespace))
    operator.brings(lambda: all(api.find(kind, pool, namespace) for kind in CHILDREN), what="all children exist")
    for kind, name, where in ((TASK_MODEL, "one", namespace), (POOL, pool, namespace), (SERVING_CLASS, "rights", "")):
        operator.brings(partial(ready_condition, api_server, kind, name, where), what=f"{kind.kind} has a status")
    operator.brings(lambda: api.list(EVENT, namespace), what="an event is written")
    assert api.get(LEASE, "taskfleet-operator", SYSTEM)["spec"]["holderIdentity"]

    # A claim that is offered while the operator runs.
    api.apply(claim(namespace, "models", offered=True))
    from_claim = put("spec.adapter.source", "pvc://models/two")
    api.apply(changed(task_model(namespace, "two"), put("spec.servingClassName", "rights"), from_claim))
    operator.brings(lambda: is_true(api.get(TASK_MODEL, "two", namespace), "Accepted"), what="the claim is known")

    # Another version, all children lost, all tasks gone: what else the operator writes and deletes.
    api.apply(changed(task_model(namespace, "one"), put("spec.servingClassName", "rights"), put("spec.adapter.version", "v2")))
    operator.brings(lambda: "v2" in versions(api_server, namespace), what="a revision of the new version")
    for kind in CHILDREN:
        api.delete(kind, pool, namespace)
    operator.brings(lambda: all(api.find(kind, pool, namespace) for kind in CHILDREN), what="the children are back")
    for name in ("one", "two"):
        api.delete(TASK_MODEL, name, namespace)
    operator.brings(lambda: not api.list(POOL, namespace) and not api.list(REVISION, namespace), what="nothing of ours is left", within=120)
    operator.brings(lambda: not any(api.find(kind, pool, namespace) for kind in CHILDREN), what="no child is left", within=120)

    text = operator.log.read_text()
    for trouble in ("forbidden", "Forbidden", "Traceback"):
        assert trouble not in text, operator.described()


def ready_condition(api_server: ApiServer, kind: Kind, name: str, namespace: str) -> Object | None:
    return condition(api_server.api.get(kind, name, namespace), "Ready")


def versions(api_server: ApiServer, namespace: str) -> set[str]:
    return {one["spec"]["adapter"]["version"] for one in api_server.api.list(REVISION, namespace)}
