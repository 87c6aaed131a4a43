"""When a pool is looked at, what goes into the decision, and what comes of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from taskfleet.api.agent import AgentState, ArtifactKind, BaseReport, EngineReport
from taskfleet.api.modelpool import ModelPool, ScalingReason
from taskfleet.controller.autoscaler import POSTPONED_SECONDS, QUIET_SECONDS, RESTING_SECONDS, Autoscaler
from taskfleet.controller.cache import Cache
from taskfleet.controller.demandrecords import DemandRecords
from taskfleet.controller.devicetime import DeviceTime
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey, ScalingKey, TaskKey
from taskfleet.controller.writer import Writer
from taskfleet.kube.resources import MODEL_POOLS, PODS, SERVING_CLASSES, TASK_MODELS
from taskfleet.planning.packing_key import PackingKey, key_of_pool
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from taskfleet.planning.snapshot import AgentView, ResolutionFailure
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, body, pool, task_model

BEGIN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
POOL, LOOK = PoolKey("finance", "tiny"), ScalingKey("finance", "tiny")
DIGEST = f"sha256:{'a' * 64}"
LONG_AGO = BEGIN - timedelta(days=1)


class _World:
    """One pool `tiny` with the tasks `total` and `vendor`, whose class lets it sleep."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.version = 10
        self.demand: PoolDemand | None = PoolDemand(tasks=(), heard_since=LONG_AGO, complete=True)
        self.asked: list[tuple[str, ...]] = []
        self.agents: tuple[AgentView, ...] = ()
        self.agents_now: tuple[AgentView, ...] | None = None  # what they would say if they were asked anew, where that is something else
        self.refreshed = 0
        self.failures: tuple[ResolutionFailure, ...] = ()
        self.enqueued: list[tuple[ScalingKey | PoolKey | PackingKey, float]] = []
        self.server = MemoryApiServer()
        self.device_time = DeviceTime(busy=lambda _: 0.0, clock=lambda: self.clock)
        self.cache = Cache()
        self.fleet = Fleet(self.cache)
        self.cache.notify = self.fleet.index
        self.autoscaler = self.restarted()
        self.serving_class()
        for name in ("total", "vendor"):
            self.put(TASK_MODELS, task_model(name, 1))

    def restarted(self) -> Autoscaler:
        server: Any = self.server
        return Autoscaler(
            fleet=self.fleet,
            demand=self,
            records=DemandRecords(fleet=self.fleet, writer=Writer(server, self.cache)),
            agents=lambda _: self.agents,
            refresh=self.refresh,
            failures=lambda _: self.failures,
            device_time=self.device_time,
            enqueue=lambda key, *, after=0.0: self.enqueued.append((key, after)),
            now=lambda: BEGIN + timedelta(seconds=self.clock - 1000.0),
            clock=lambda: self.clock,
        )

    async def refresh(self, pool: PoolKey) -> None:
        """Agents are asked anew."""
        assert pool == POOL
        self.refreshed += 1
        if self.agents_now is not None:
            self.agents = self.agents_now

    def of(self, namespace: str, tasks: tuple[str, ...], *, stable_seconds: float) -> PoolDemand | None:
        assert (namespace, stable_seconds) == ("finance", 60)
        self.asked.append(tasks)
        return self.demand

    def put(self, resource: Any, item: Json) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self.cache.put(resource, item)

    def serving_class(self, **scaling: Any) -> None:
        spec = {"engine": {"type": "vLLM", "image": "registry.example/vllm:1"}}
        found = {"minReplicas": 0, "maxReplicas": 8, "targetConcurrency": 4, "idleSeconds": 60, **scaling}
        self.put(SERVING_CLASSES, body("cpu", 1, namespace="", spec={**spec, "scaling": found}))

    def pool(self, replicas: int, *, status: Json | None = None, **spec: Any) -> None:
        found = pool(
            "tiny", 1, ("total", "total-1"), ("vendor", "vendor-1"), status=status, replicas=replicas, **{"baseDigest": DIGEST} | spec
        )
        self.put(MODEL_POOLS, found)

    def pods(self, ready: int) -> None:
        labels = {"app.kubernetes.io/managed-by": "taskfleet", "taskfleet.dev/pool": "tiny", "taskfleet.dev/pool-uid": "uid-tiny"}
        for number in range(ready):
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            self.put(PODS, body(f"tiny-{number}", 1, labels=labels, status=status))

    def asks(self, requests: float, *, held: int = 0, last: datetime | None = None, complete: bool = True) -> None:
        view = TaskDemandView(task="total", fast=requests, stable=requests, held=held, last_request_at=last or BEGIN)
        self.demand = PoolDemand(tasks=(view,), heard_since=LONG_AGO, complete=complete)

    async def look(self, *, after: float = 1.0) -> float:
        self.clock += after
        self.enqueued.clear()
        wait = await self.autoscaler.reconcile(LOOK)
        assert wait is not None
        return wait

    @property
    def found(self) -> ModelPool:
        found = self.fleet.pool(POOL)
        assert isinstance(found, ModelPool)
        return found

    @property
    def decided(self) -> int | None:
        return self.autoscaler.decided(self.found)

    @property
    def packing(self) -> bool:
        """Is the pool to be packed?"""
        return (key_of_pool(self.found), 0.0) in self.enqueued


@pytest.fixture
def world() -> _World:
    return _World()


async def test_a_request_that_waits_for_a_pool_at_zero_wakes_it_at_once(world: _World) -> None:
    world.pool(0)
    await world.look()
    assert (world.decided, world.packing) == (0, False)
    world.asks(0.3, held=1)
    world.enqueued.clear()
    world.autoscaler.demanded(TaskKey("finance", "total"))
    assert world.enqueued == [(LOOK, 0.0)]
    await world.look(after=0.0)
    assert (world.decided, world.packing) == (1, True)


async def test_requests_for_pods_that_are_there_are_looked_at_together(world: _World) -> None:
    world.pool(1)
    world.autoscaler.demanded(TaskKey("finance", "vendor"))
    ((key, after),) = world.enqueued
    assert key == LOOK
    assert 0 < after <= 0.5
    world.enqueued.clear()
    world.autoscaler.demanded(TaskKey("finance", "another"))
    assert world.enqueued == []


async def test_a_step_goes_to_packing_with_the_next_look(world: _World) -> None:
    world.pool(1)
    world.pods(1)
    world.asks(2)
    await world.look()
    assert not world.packing
    world.asks(16)
    await world.look()
    assert (world.decided, world.packing) == (4, True)
    assert world.asked[-1] == ("total", "vendor")


async def test_what_another_autoscaler_can_follow_is_a_figure(world: _World) -> None:
    world.pool(1)
    world.asks(2.5)
    await world.look()
    labels = {"namespace": "finance", "pool": "tiny"}
    assert REGISTRY.get_sample_value("taskfleet_pool_requests", labels) == 2.5
    world.cache.remove(MODEL_POOLS, body("tiny", 99))
    await world.autoscaler.reconcile(LOOK)
    assert REGISTRY.get_sample_value("taskfleet_pool_requests", labels) is None


async def test_what_packing_has_not_written_yet_is_asked_of_it_again(world: _World) -> None:
    world.pool(1)
    world.pods(1)
    world.asks(16)
    await world.look()
    await world.look()
    assert world.packing
    world.pool(4)
    await world.look()
    assert not world.packing


async def test_pods_that_could_not_be_closed_keep_their_number_for_a_while(world: _World) -> None:
    world.pool(1)
    world.pods(1)
    for _ in range(400):
        await world.look()
        if world.packing:
            break
    assert world.decided == 0
    world.autoscaler.postpone(world.found)
    assert world.decided is None
    await world.look()
    assert not world.packing
    await world.look(after=POSTPONED_SECONDS)
    assert (world.decided, world.packing) == (0, True)


async def test_more_pods_are_never_postponed(world: _World) -> None:
    world.pool(1)
    world.pods(1)
    await world.look()
    world.autoscaler.postpone(world.found)
    world.asks(16)
    await world.look()
    assert (world.decided, world.packing) == (4, True)


async def test_nothing_goes_while_a_gateway_is_not_heard(world: _World) -> None:
    world.pool(3)
    world.pods(3)
    world.asks(0, complete=False, last=LONG_AGO)
    for _ in range(300):
        await world.look()
    assert world.decided == 3


async def test_nothing_is_decided_of_a_pool_that_another_autoscaler_has(world: _World) -> None:
    world.serving_class(autoscaler="External")
    world.pool(2)
    world.asks(16)
    await world.look()
    assert (world.decided, world.packing) == (None, False)
    told = world.autoscaler.to_tell(world.found)
    assert told is not None
    assert (told.reason, told.replicas) == (ScalingReason.EXTERNAL, 2)


async def test_coming_back_from_another_autoscaler_begins_with_what_it_left(world: _World) -> None:
    world.serving_class(autoscaler="External")
    world.pool(5)
    world.pods(5)
    await world.look()
    world.serving_class()
    assert world.autoscaler.decided(world.found) is None
    await world.look()
    assert (world.decided, world.packing) == (5, False)


@pytest.mark.parametrize(
    ("least", "pause"), [(1, RESTING_SECONDS), (0, QUIET_SECONDS)], ids=["at its minimum", "not idle for long enough yet"]
)
async def test_a_pool_without_requests_is_looked_at_less_and_less(world: _World, least: int, pause: float) -> None:
    world.serving_class(minReplicas=least, idleSeconds=3600)
    world.pool(1)
    world.pods(1)
    world.asks(0)
    waits: list[float] = []
    for _ in range(20):
        waits.append(await world.look(after=waits[-1] if waits else 1.0))
    assert waits[-1] == pause
    assert sum(waits[-10:]) == 10 * pause
    world.asks(1)
    assert await world.look() < QUIET_SECONDS


async def test_a_pool_at_zero_is_looked_at_rarely(world: _World) -> None:
    world.pool(0)
    wait = 1.0
    for _ in range(20):
        wait = await world.look(after=wait)
    assert wait == RESTING_SECONDS


async def test_a_sleeping_pool_is_looked_at_when_a_schedule_begins_and_ends(world: _World) -> None:
    """The world's clock begins at noon."""
    world.serving_class(scaleDownDelaySeconds=600)
    begins = {"name": "soon", "start": "1 12 * * *", "end": "3 12 * * *", "minReplicas": 2}
    world.put(TASK_MODELS, task_model("total", 2, scaling={"schedules": [begins]}))
    world.pool(0, status={"scaling": {"desiredReplicas": 0, "reason": "AtZero", "message": "asleep"}})
    wait = 1.0
    while world.clock + wait < 1060:
        wait = await world.look(after=wait)
        assert world.decided == 0
    assert world.clock + wait == 1060
    await world.look(after=wait)
    assert (world.decided, world.packing) == (2, True)
    world.pool(2, status={"scaling": {"desiredReplicas": 0, "reason": "AtZero", "message": "asleep"}})
    wait = await world.look()
    told = world.autoscaler.to_tell(world.found)
    assert told is not None
    assert told.floor is not None
    assert (told.reason, told.floor.schedule, told.floor.until) == (ScalingReason.SCHEDULED, "soon", "2026-01-01T12:03:00Z")
    said = {"desiredReplicas": 2, "reason": told.reason, "message": told.message, "floor": told.floor.to_json()}
    world.pool(2, status={"scaling": said})
    world.pods(2)
    while world.clock + wait < 1180:
        wait = await world.look(after=wait)
        assert (world.decided, world.packing, world.autoscaler.to_tell(world.found)) == (2, False, None), "nothing to write between edges"
    assert world.clock + wait == 1180
    await world.look(after=wait)
    told = world.autoscaler.to_tell(world.found)
    assert told is not None
    assert (told.replicas, told.reason, told.floor) == (2, ScalingReason.DOWN_DELAYED, None)


async def test_a_suspended_task_has_no_schedule(world: _World) -> None:
    always = {"name": "always", "start": "* * * * *", "end": "0 0 29 2 *", "minReplicas": 2}
    world.put(TASK_MODELS, task_model("total", 2, scaling={"schedules": [always]}, suspend=True))
    world.pool(0)
    await world.look()
    assert world.decided == 0


async def test_another_number_of_pods_is_told_with_its_reason_once_it_is_written(world: _World) -> None:
    asleep = {"scaling": {"desiredReplicas": 0, "reason": "AtZero", "message": "asleep"}}
    world.pool(0, status=asleep)
    await world.look()
    world.asks(0.3, held=1)
    await world.look()
    assert world.packing
    assert world.autoscaler.to_tell(world.found) is None
    world.pool(1, status=asleep)
    await world.look()
    told = world.autoscaler.to_tell(world.found)
    assert told is not None
    assert told.reason is ScalingReason.WOKEN
    assert (POOL, 0.0) in world.enqueued
    world.pool(1, status={"scaling": {"desiredReplicas": 1, "reason": "Woken", "message": told.message}})
    await world.look()
    assert world.autoscaler.to_tell(world.found) is None
    assert (POOL, 0.0) not in world.enqueued


async def test_pods_that_could_not_be_closed_are_not_told_as_gone(world: _World) -> None:
    world.pool(1, status={"scaling": {"desiredReplicas": 1, "reason": "NotIdle", "message": "kept at 1"}})
    world.pods(1)
    for _ in range(400):
        await world.look()
        if world.packing:
            break
    world.autoscaler.postpone(world.found)
    await world.look()
    assert world.autoscaler.to_tell(world.found) is None


async def test_a_gateway_that_is_missing_for_a_moment_is_not_told(world: _World) -> None:
    steady = {"desiredReplicas": 1, "reason": "Steady", "message": "as it should be"}
    world.pool(1, status={"scaling": steady})
    world.pods(1)
    world.asks(3)
    await world.look()
    world.asks(3, complete=False)
    waits = [await world.look() for _ in range(3)]
    assert world.autoscaler.to_tell(world.found) is None
    assert all(wait <= 15 for wait in waits)
    await world.look(after=15)
    told = world.autoscaler.to_tell(world.found)
    assert told is not None
    assert told.reason is ScalingReason.DEMAND_UNKNOWN
    assert (POOL, 0.0) in world.enqueued


async def test_a_suspended_task_keeps_what_there_is(world: _World) -> None:
    world.pool(3)
    world.put(TASK_MODELS, task_model("vendor", 1, suspend=True))
    for _ in range(300):
        await world.look()
    assert world.decided == 3


async def test_a_digest_that_is_to_be_looked_up_wakes_a_pool_and_one_that_never_can_be_does_not(world: _World) -> None:
    world.pool(0, baseDigest=None)
    await world.look()
    assert (world.decided, world.packing) == (1, True)
    failure = ResolutionFailure(
        kind=ArtifactKind.BASE, revision="", reason="ArtifactNotFound", message="no such tag", permanent=True, attempts=1, at=BEGIN
    )
    world.failures = (failure,)
    await world.look()
    assert world.decided == 0


async def test_requests_that_only_the_pods_know_of_keep_the_last_pod(world: _World) -> None:
    world.pool(1)
    world.pods(1)
    world.agents = (AgentView(pod="tiny-0", state=_state(in_flight=2)),)
    for _ in range(400):
        await world.look()
    assert world.decided == 1
    world.agents = (AgentView(pod="tiny-0", state=_state(in_flight=0)),)
    for _ in range(400):
        await world.look()
        if world.packing:
            break
    assert world.decided == 0


async def test_agents_that_were_busy_when_heard_last_are_asked_anew_once_no_gateway_knows_of_a_request(world: _World) -> None:
    """Counts in flight are no news, so what was heard last may be a minute old, and would keep the last pod for as long."""
    world.pool(1)
    world.pods(1)
    world.agents = (AgentView(pod="tiny-0", state=_state(in_flight=2)),)
    world.asks(2.0)
    await world.look()
    assert world.refreshed == 0, "gateways know of them"
    world.agents_now = (AgentView(pod="tiny-0", state=_state(in_flight=0)),)
    world.demand = PoolDemand(tasks=(), heard_since=LONG_AGO, complete=True)
    for _ in range(400):
        await world.look()
        if world.packing:
            break
    assert (world.decided, world.refreshed) == (0, 1)


async def test_a_new_leader_takes_nothing_away_before_it_has_seen_the_windows(world: _World) -> None:
    world.pool(4)
    world.pods(4)
    await world.look()
    assert (world.decided, world.packing) == (4, False)
    world.autoscaler = world.restarted()
    assert world.autoscaler.decided(world.found) is None
    await world.look()
    assert (world.decided, world.packing) == (4, False)


async def test_all_pools_are_looked_at_when_gateways_are_heard_or_missing(world: _World) -> None:
    world.pool(1)
    world.autoscaler.heard(True)
    assert [key for key, _ in world.enqueued] == [LOOK]


async def test_a_pool_that_is_gone_is_forgotten(world: _World) -> None:
    world.pool(1)
    await world.look()
    gone = world.found
    world.cache.remove(MODEL_POOLS, body("tiny", 99))
    assert await world.autoscaler.reconcile(LOOK) is None
    assert world.autoscaler.decided(gone) is None
    assert list(world.device_time.figures()) == []


async def test_the_time_of_every_pod_s_devices_is_accounted_for_whoever_scales(world: _World) -> None:
    world.put(SERVING_CLASSES, with_two_devices(world))
    world.pool(3)
    world.pods(3)
    await world.look()
    world.clock += 10
    assert {one.task_model: one.seconds for one in world.device_time.figures()} == {"total": 30, "vendor": 30}


def with_two_devices(world: _World) -> Json:
    spec = {"engine": {"type": "vLLM", "image": "registry.example/vllm:1"}, "accelerator": {"resourceName": "nvidia.com/gpu", "count": 2}}
    return body("cpu", world.version, namespace="", spec={**spec, "scaling": {"autoscaler": "External"}})


def _state(*, in_flight: int) -> AgentState:
    return AgentState(
        pod="tiny-0",
        pool_uid="uid-tiny",
        generation=1,
        version=1,
        draining=False,
        base=BaseReport(staged=True, reason="Proven"),
        engine=EngineReport(healthy=True),
        in_flight=in_flight,
    )
