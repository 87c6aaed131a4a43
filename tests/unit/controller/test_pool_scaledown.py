"""A Deployment follows the ModelPool: where another autoscaler has made that smaller, the pods that go are marked before."""

from datetime import UTC, datetime
from typing import Any

from taskfleet.api.agent import AgentState, BaseReport, EngineReport, Trust
from taskfleet.api.conditions import Reason
from taskfleet.controller.cache import Cache
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey
from taskfleet.controller.pool import PoolReconciler
from taskfleet.controller.scaledown import ScaleDown
from taskfleet.controller.writer import Writer
from taskfleet.kube.resources import MODEL_POOLS, PODS, SERVING_CLASSES, Resource
from taskfleet.resources.settings import PoolSettings
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, body, pool
from tests.unit.planning.builders import serving_class

KEY = PoolKey("finance", "tiny")
IN_FLIGHT = {"tiny-0": 5, "tiny-1": 1}


class _Agents:
    """Each pod has something in flight."""

    def sync(self, *_: object) -> None:
        return None

    def views(self, _: PoolKey) -> tuple[()]:
        return ()

    async def put(self, *_: object) -> None:
        return None

    async def look(self, _: PoolKey, pod: str) -> AgentState:
        base = BaseReport(staged=True, reason=Reason.PROVEN)
        common: Any = {"pool_uid": "uid-tiny", "generation": 1, "version": 1, "draining": False, "base": base}
        return AgentState(pod=pod, engine=EngineReport(healthy=True), in_flight=IN_FLIGHT[pod], **common)


class _Quiet:
    """Whatever else a pool's reconciliation tells or asks, nothing comes of it here."""

    current = Trust(issuer="https://issuer", jwks={"keys": []}, operator_subject="operator", gateway_subject="gateway")

    def start(self, *_: object) -> None:
        return None

    def keep_only(self, *_: object) -> None:
        return None

    def failures(self, _: str) -> tuple[()]:
        return ()

    def to_tell(self, _: object) -> None:
        return None

    async def write(self, *_: object) -> None:
        return None


class _World:
    """A pool of two Ready pods and its Deployment."""

    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.cache = Cache()
        self.fleet = Fleet(self.cache)
        self.cache.notify = self.fleet.index
        server: Any = self.server
        agents: Any = _Agents()
        quiet: Any = _Quiet()
        writer = Writer(server, self.cache)
        self.reconciler = PoolReconciler(
            fleet=self.fleet,
            writer=writer,
            events=quiet,
            agents=agents,
            resolutions=quiet,
            autoscaler=quiet,
            scale_down=ScaleDown(agents=agents, writer=writer),
            trust=quiet,
            settings=PoolSettings(agent_image="agent:1", operator_namespace="taskfleet-system"),
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            refused_retry_seconds=30.0,
        )
        found = serving_class("cpu", scaling={"autoscaler": "External"}).to_json()
        self.put(SERVING_CLASSES, {**found, "metadata": {**found["metadata"], "resourceVersion": "1"}})
        labels = {"app.kubernetes.io/managed-by": "taskfleet", "taskfleet.dev/pool": "tiny", "taskfleet.dev/pool-uid": "uid-tiny"}
        for name in IN_FLIGHT:
            ready = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
            self.put(PODS, body(name, 1, labels=labels, status=ready))

    def put(self, resource: Resource, found: Json) -> None:
        self.cache.put(resource, found)
        self.server.objects[resource.kind, found["metadata"].get("namespace", ""), found["metadata"]["name"]] = found

    def scaled(self, replicas: int, *, by: str) -> None:
        """The pool's replicas are written."""
        self.server.version += 1
        found = pool("tiny", self.server.version, ("a", "a-1"), replicas=replicas, baseDigest=f"sha256:{'a' * 64}")
        entry = {"manager": by, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        found["metadata"]["managedFields"] = [entry]
        self.put(MODEL_POOLS, found)

    async def reconcile(self) -> list[str]:
        """What was written about pods and their Deployment, in this order."""
        self.server.writes.clear()
        await self.reconciler.reconcile(KEY)
        return [write for write in self.server.writes if write.startswith(("apply Pod ", "apply Deployment"))]


async def test_emptiest_pod_is_marked_before_the_deployment_follows_another_autoscaler() -> None:
    world = _World()
    world.scaled(2, by="hpa")
    assert await world.reconcile() == ["apply Deployment tiny"]
    world.scaled(1, by="hpa")
    assert await world.reconcile() == ["apply Pod tiny-1", "apply Deployment tiny"]
    assert await world.reconcile() == []


async def test_pods_of_a_pool_that_the_operator_scales_were_marked_before_its_replicas_were_written() -> None:
    world = _World()
    world.scaled(2, by="taskfleet-operator")
    await world.reconcile()
    world.scaled(1, by="taskfleet-operator")
    assert await world.reconcile() == ["apply Deployment tiny"]
