"""An operator that can be killed, between an API server, a gateway and nodes that a test plays."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.apiserver.api_proxy import ApiProxy, Call, api_proxy
from tests.apiserver.conftest import ApiServer
from tests.apiserver.golden_sets import GATE, golden_set
from tests.apiserver.history import rollout
from tests.apiserver.nodes import Nodes, nodes
from tests.apiserver.objects import Change, changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, start
from tests.apiserver.played_gateway import PlayedGateway, played_gateway
from tests.cluster.api import LEASE, REVISION, SERVING_CLASS, TASK_MODEL, Api, Object, eventually

CLASS = "rollouts"
TASK = "total"
SHARES = (0, 10, 50, 100)
STEPS = [{"weightPercent": share, "holdSeconds": 0} for share in SHARES[1:-1]]
WRITES = frozenset({"create", "patch", "update", "delete"})


@dataclass(slots=True)
class Stage:
    """Each namespace has one task, `total`."""

    server: ApiServer
    proxy: ApiProxy
    gateway: PlayedGateway
    nodes: Nodes
    system: str
    folder: Path
    new_namespace: Callable[[str], str]
    operators: list[OperatorProcess] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.server.api

    @property
    def operator(self) -> OperatorProcess:
        return self.operators[-1]

    def run(self) -> None:
        """A replica that leads at once: a killed one would hold its lease for a while."""
        self.api.delete(LEASE, "taskfleet-operator", self.system)
        self.operators.append(
            start(
                self.server,
                self.folder,
                namespace=self.system,
                kubeconfig=self.proxy.kubeconfig(self.folder),
                gateway_internal_port=str(self.gateway.port),
                kube_qps="1000",
                kube_burst="2000",
            )
        )
        self.operator.brings(lambda: self.operator.metric("taskfleet_measured_gateways") == 1, what="it leads, and hears the gateway")

    def home(self, name: str) -> str:
        """A namespace with a golden set."""
        namespace = self.new_namespace(name)
        self.api.apply(golden_set(namespace))
        self.nodes.namespaces.add(namespace)
        return namespace

    def apply(self, namespace: str, version: str, *changes: Change) -> None:
        """The first version without a gate, the others with a gate and two steps."""
        rolled = (
            put("spec.evaluation", GATE),
            put("spec.rollout", {"strategy": "Canary", "steps": STEPS, "analysis": {"minRequests": 10}}),
        )
        plain = (put("spec.servingClassName", CLASS), put("spec.adapter.version", version))
        self.api.apply(changed(task_model(namespace, TASK), *plain, *(rolled if version != "v1" else ()), *changes))

    def task(self, namespace: str) -> Object:
        return self.api.get(TASK_MODEL, TASK, namespace)

    def revision(self, namespace: str, version: str) -> str:
        (found,) = (one for one in self.api.list(REVISION, namespace) if one["spec"]["adapter"]["version"] == version)
        return str(found["metadata"]["name"])

    def is_at(self, namespace: str, version: str, phase: str, *, step: int | None = None) -> bool:
        """Is the rollout of this version there? Raises AssertionError or ValueError where it is not."""
        task = self.task(namespace)
        found = rollout(task)
        wanted = [one["metadata"]["name"] for one in self.api.list(REVISION, namespace) if one["spec"]["adapter"]["version"] == version]
        assert [found.get("revision")] == wanted, found
        assert (found["phase"], found.get("step")) == (phase, step), found
        return bool(task["status"]["observedGeneration"] == task["metadata"]["generation"])

    def comes(self, namespace: str, version: str, phase: str, *, step: int | None = None) -> None:
        self.operator.brings(lambda: self.is_at(namespace, version, phase, step=step), what=f"{version} is {phase}")

    def served(self, *namespaces: str) -> None:
        """v1 serves in each."""
        for namespace in namespaces:
            self.apply(namespace, "v1")
        for namespace in namespaces:
            self.comes(namespace, "v1", "Done")

    def at_first_step(self, *namespaces: str) -> None:
        """v2 stands beside v1 in each, and nobody asks it anything."""
        self.served(*namespaces)
        self.gateway.users_ask = False
        for namespace in namespaces:
            self.apply(namespace, "v2")
        for namespace in namespaces:
            self.comes(namespace, "v2", "Stepping", step=1)


@dataclass(slots=True)
class Cuts:
    """Lets each of some namespaces have so many writes; what comes after them reaches nobody, as if the operator had been killed in between. A rule of the proxy."""

    allowed: dict[str, int]
    done: Counter[str] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)

    def __call__(self, call: Call) -> bool:
        if call.verb not in WRITES or call.namespace not in self.allowed:
            return False
        if self.done[call.namespace] >= self.allowed[call.namespace]:
            self.reached.add(call.namespace)
            return True
        self.done[call.namespace] += 1
        return False


@contextmanager
def rollout_stage(server: ApiServer, new_namespace: Callable[[str], str], *, folder: Path, agents: list[str]) -> Iterator[Stage]:
    """The stage with a first operator on it."""
    server.api.apply(serving_class(CLASS))
    system = new_namespace("system")
    server.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "taskfleet-operator", "namespace": system}})
    with (
        api_proxy(server.kubeconfig) as proxy,
        nodes(server.api, agents) as found,
        played_gateway(server, system, users=found.namespaces) as gateway,
    ):
        stage = Stage(server, proxy, gateway, found, system, folder, new_namespace)
        try:
            stage.run()
            yield stage
            for namespace in found.namespaces:
                server.api.delete(TASK_MODEL, TASK, namespace)
            eventually(lambda: not any(server.api.list(TASK_MODEL, namespace) for namespace in found.namespaces), what="all is deleted")
        finally:
            for operator in stage.operators:
                if operator.process.poll() is None:
                    operator.stop()
        for operator in stage.operators:
            assert "Traceback" not in operator.log.read_text(errors="replace"), operator.told()
    server.api.delete(SERVING_CLASS, CLASS)
