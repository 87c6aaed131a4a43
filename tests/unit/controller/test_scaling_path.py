"""From what gateways tell to the replicas that the API server has: demand, queue, autoscaler and packing together."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from taskfleet import names
from taskfleet.api.fields import Model
from taskfleet.api.measurements import MeasurementBatch, TaskDemand
from taskfleet.controller import keys
from taskfleet.controller.autoscaler import Autoscaler
from taskfleet.controller.cache import Cache, Change
from taskfleet.controller.demand import GatewayDemand
from taskfleet.controller.demandrecords import DemandRecords
from taskfleet.controller.devicetime import DeviceTime
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import Key, PoolKey, ScalingKey
from taskfleet.controller.packing import PackingReconciler
from taskfleet.controller.queue import WorkQueue
from taskfleet.controller.scaledown import Prepared
from taskfleet.controller.writer import Writer
from taskfleet.kube.resources import MODEL_POOLS, PODS, SERVING_CLASSES, TASK_MODEL_REVISIONS, TASK_MODELS, Resource
from taskfleet.planning.packing_key import PackingKey
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import body
from tests.unit.controller.waiting import until
from tests.unit.planning.builders import digest, key_for, revision_of, serving_class, task_model

TASK = task_model(scaling={"minReplicas": 0, "maxReplicas": 8, "targetConcurrency": 4, "idleSeconds": 10})
KEY = key_for(TASK)
NAME = KEY.pool_name(0)


class _Resolutions:
    def found(self, _: str) -> None:
        return None


async def _nobody(_: PoolKey) -> None:
    """No agent is asked anew."""


class _Idle:
    """Pods that let themselves be closed."""

    async def prepare(self, *_: object, **__: object) -> Prepared:
        return Prepared()


class _World:
    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.began = time.monotonic()
        self.version = 1
        server: Any = self.server
        parts: Any = _Resolutions()
        scale_down: Any = _Idle()
        self.queue: WorkQueue[Key] = WorkQueue(self._work, keys.kind_of, keys.text_of, keys.tenant_of, workers=2)
        self.cache = Cache(self._changed)
        self.fleet = Fleet(self.cache)
        self.demand = GatewayDemand(now=lambda: datetime.now(UTC), clock=time.monotonic)
        self.autoscaler = Autoscaler(
            fleet=self.fleet,
            demand=self.demand,
            records=DemandRecords(fleet=self.fleet, writer=Writer(server, self.cache)),
            agents=lambda _: (),
            refresh=_nobody,
            failures=lambda _: (),
            device_time=DeviceTime(busy=self.demand.busy_seconds, clock=time.monotonic),
            enqueue=self.queue.add,
            now=lambda: datetime.now(UTC),
            clock=time.monotonic,
        )
        self.demand.listen(on_demand=self.autoscaler.demanded, on_heard=self.autoscaler.heard)
        self.packing = PackingReconciler(
            fleet=self.fleet,
            writer=Writer(server, self.cache),
            resolutions=parts,
            autoscaler=self.autoscaler,
            scale_down=scale_down,
            refuse_pool=lambda *_: None,
        )

    async def begin(self) -> None:
        """A pool whose only revision serves."""
        self.put(SERVING_CLASSES, serving_class())
        revision = revision_of(TASK, digest=digest("a"), phase="Stable")
        self.put(TASK_MODEL_REVISIONS, revision, owner="TaskModel")
        route = {"revision": revision.metadata.name, "uid": revision.metadata.uid, "pool": NAME, "weightPercent": 100}
        self.put(TASK_MODELS, TASK.model_copy(update={"status": type(TASK.status).model_validate({"traffic": [route]})}))
        await self.packing.reconcile(KEY)
        self.cache.put(MODEL_POOLS, self.server.edit(MODEL_POOLS, NAME, baseDigest=digest("b")))
        self.queue.start()

    def put(self, resource: Resource, model: Model, *, owner: str = "") -> None:
        self.version += 1
        found = model.to_json()
        found["metadata"]["resourceVersion"] = str(self.version)
        if owner:
            found["metadata"]["ownerReferences"] = [{"apiVersion": "taskfleet.dev/v1alpha1", "kind": owner, "name": "owner", "uid": "u"}]
        self.cache.put(resource, found)

    def hears(self, requests: int, *, held: int = 0, busy: float = 0.0) -> None:
        """A line of the only gateway: so many are under way now."""
        age = round(time.monotonic() - self.began, 3)
        told = TaskDemand(
            namespace=KEY.namespace,
            task_model=TASK.metadata.name,
            held=held,
            in_flight=requests - held,
            busy_seconds=busy,
            arrivals=requests,
            last_request_seconds=age,
        )
        self.demand.take(MeasurementBatch(replica="one", uptime_seconds=age, demand=(told,) if requests else ()))
        self.demand.hears(all_gateways=True)

    @property
    def replicas(self) -> int:
        found: int = self.server.objects["ModelPool", KEY.namespace, NAME]["spec"]["replicas"]
        return found

    def ready(self) -> None:
        """The pool has a pod that serves."""
        uid = self.server.objects["ModelPool", KEY.namespace, NAME]["metadata"]["uid"]
        labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_POOL: NAME, names.LABEL_POOL_UID: uid}
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self.cache.put(PODS, body("pod-a", 1, namespace=KEY.namespace, labels=labels, status=status))

    def scaled_to(self, replicas: int) -> None:
        self.cache.put(MODEL_POOLS, self.server.edit(MODEL_POOLS, NAME, replicas=replicas))

    async def _work(self, key: Key) -> float | None:
        if isinstance(key, ScalingKey):
            return await self.autoscaler.reconcile(key)
        if isinstance(key, PackingKey):
            return await self.packing.reconcile(key)
        return None

    def _changed(self, change: Change) -> None:
        self.fleet.index(change)


@pytest.fixture
async def world() -> AsyncIterator[_World]:
    found = _World()
    await found.begin()
    yield found
    await found.queue.stop(grace_seconds=1)


async def test_the_first_request_that_waits_gets_a_pod(world: _World) -> None:
    world.scaled_to(0)
    world.hears(0)
    world.hears(1, held=1)
    await until(lambda: world.replicas == 1)


async def test_a_thousand_first_requests_are_one_write(world: _World) -> None:
    world.scaled_to(0)
    world.hears(0)
    writes = len(world.server.writes)
    for count in range(1, 1001):
        world.hears(count, held=count)
    await until(lambda: world.replicas >= 1)
    assert len(world.server.writes) == writes + 1


async def test_a_step_of_requests_gets_pods_while_it_goes_on(world: _World) -> None:
    world.ready()
    world.hears(0)
    began = time.monotonic()

    async def go_on() -> None:
        while True:
            world.hears(40, busy=round((time.monotonic() - began) * 40, 3))
            await asyncio.sleep(0.25)

    telling = asyncio.create_task(go_on())
    await until(lambda: world.replicas > 1, seconds=60)
    telling.cancel()


async def test_a_quiet_pool_is_not_written(world: _World) -> None:
    world.hears(0)
    writes = len(world.server.writes)
    for _ in range(5):
        await until(lambda: world.queue.idle)
        world.hears(0)
        world.queue.add(ScalingKey(KEY.namespace, NAME))
    await until(lambda: world.queue.idle)
    assert len(world.server.writes) == writes
