"""Demand of all gateways together: windows, processes that come and go, and what is not known."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet.api.measurements import MeasurementBatch, TaskDemand
from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.controller.demand import GatewayDemand
from taskfleet.controller.keys import TaskKey
from taskfleet.planning.scaling.autoscaling import ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from tests.unit.planning.builders import key_for, pool_of, task_model

BEGIN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TASK = TaskKey("finance", "total")


class _Gateway:
    """One process, which counts as the real one does. `rate` requests are under way all the time."""

    def __init__(self, world: "_World", name: str, *, age: float = 0.0, busy: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.began = world.clock - age
        self.busy = busy
        self.arrivals = 1 if busy else 0
        self.under_way = 0
        self.held = 0
        self.last: float | None = age if busy else None

    @property
    def age(self) -> float:
        return round(self.world.clock - self.began, 3)

    def tell(self) -> None:
        """A line; without the task where nothing has ever come."""
        if self.under_way:
            self.last = self.age
        told = TaskDemand(
            namespace=TASK.namespace,
            task_model=TASK.name,
            held=self.held,
            in_flight=self.under_way - self.held,
            busy_seconds=round(self.busy, 3),
            arrivals=self.arrivals,
            last_request_seconds=self.last,
        )
        self.line(*([told] if self.arrivals else []))

    def line(self, *told: TaskDemand) -> None:
        self.world.demand.take(MeasurementBatch(replica=self.name, uptime_seconds=self.age, demand=told))

    def serve(self, requests: int, *, held: int = 0) -> None:
        """From now on so many are under way."""
        self.arrivals += max(0, requests - self.under_way)
        self.under_way, self.held = requests, held
        self.tell()


class _World:
    def __init__(self) -> None:
        self.clock = 10_000.0
        self.demanded: list[TaskKey] = []
        self.heard: list[bool] = []
        self.gateways: list[_Gateway] = []
        self.missing = False
        self.demand = GatewayDemand(now=lambda: self.now, clock=lambda: self.clock)
        self.demand.listen(on_demand=self.demanded.append, on_heard=self.heard.append)

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.clock - 10_000.0)

    def gateway(self, name: str, **past: Any) -> _Gateway:
        """A process that is heard from now on."""
        found = _Gateway(self, name, **past)
        self.gateways.append(found)
        found.tell()
        self.demand.hears(all_gateways=True)
        return found

    def lose(self, gateway: _Gateway, *, gone: bool) -> None:
        """Its stream breaks off. `gone`: its address is no longer among the endpoints."""
        self.gateways.remove(gateway)
        self.missing = not gone
        self.demand.lost(gateway.name)
        self.demand.hears(all_gateways=gone)

    def run(self, seconds: float) -> None:
        """Time passes, and gateways tell what goes on."""
        for _ in range(round(seconds / 0.25)):
            self.clock += 0.25
            for gateway in self.gateways:
                gateway.busy += gateway.under_way * 0.25
                if gateway.under_way:
                    gateway.tell()
                else:
                    gateway.line()
            self.demand.hears(all_gateways=not self.missing)

    def of(self, stable_seconds: float = 60) -> PoolDemand:
        found = self.demand.of(TASK.namespace, (TASK.name, "another"), stable_seconds=stable_seconds)
        assert found is not None
        return found

    def view(self) -> TaskDemandView:
        (found,) = self.of().tasks
        return found


@pytest.fixture
def world() -> _World:
    return _World()


def test_nothing_is_known_before_a_gateway_was_heard(world: _World) -> None:
    assert world.demand.of(TASK.namespace, (TASK.name,), stable_seconds=60) is None
    world.gateway("one")
    assert world.of() == PoolDemand(tasks=(), heard_since=BEGIN, complete=True)


def test_busy_seconds_grow_with_every_request_under_way_at_any_process(world: _World) -> None:
    one, two = world.gateway("one", age=50.0, busy=7.0), world.gateway("two")
    assert world.demand.busy_seconds(TASK) == 7
    one.serve(2)
    two.serve(1)
    world.run(10)
    assert world.demand.busy_seconds(TASK) == pytest.approx(37)
    world.clock += 1
    assert world.demand.busy_seconds(TASK) == pytest.approx(40), "what is under way goes on between two lines"
    assert world.demand.busy_seconds(TaskKey("finance", "never")) == 0


def test_windows_have_the_exact_mean_of_what_was_under_way(world: _World) -> None:
    gateway = world.gateway("one")
    world.run(60)
    gateway.serve(8)
    world.run(3)
    assert (world.view().fast, world.view().stable) == pytest.approx((4.0, 0.4))
    world.run(27)
    assert (world.view().fast, world.view().stable) == pytest.approx((8.0, 4.0))
    gateway.serve(0)
    world.run(15)
    assert (world.view().fast, world.view().stable) == pytest.approx((0.0, 4.0))
    world.run(60)
    assert world.view().stable == 0.0


def test_what_is_under_way_goes_on_between_two_lines(world: _World) -> None:
    gateway = world.gateway("one")
    world.run(60)
    gateway.serve(10)
    world.clock += 0.6
    assert world.view().fast == pytest.approx(1.0)


def test_gateways_add_up(world: _World) -> None:
    first, second = world.gateway("one"), world.gateway("two")
    world.run(10)
    first.serve(3, held=2)
    second.serve(5, held=1)
    world.run(6)
    assert (world.view().fast, world.view().held) == pytest.approx((8.0, 3))


def test_eight_pods_that_share_the_work_of_one_go_down_to_one(world: _World) -> None:
    """A-15, from what gateways tell to the replicas: eight of them with an eighth of the work each are eight eighths."""
    for number in range(8):
        world.gateway(f"gateway-{number}").serve(2)
    memory, present = ScalingMemory(), 8
    wish = Scaling(max_replicas=8, target_concurrency=16)
    for _ in range(600):
        world.run(1)
        pool = pool_of(key=key_for(task_model()), replicas=present)
        snapshot = ScalingSnapshot(
            pool=pool,
            scaling=ScalingDefaults(),
            startup_seconds=900,
            tasks={TASK.name: wish},
            demand=world.of(),
            ready_replicas=present,
        )
        decision = decide(snapshot, memory, now=world.now)
        memory, present = decision.memory, decision.replicas
    assert present == 1
    assert decision.message == (
        "minReplicas of ServingClass l4 keeps 1; 16.0 requests at a time over the last 60 s need 1.00 pods at targetConcurrency 16"
    )


def test_a_burst_after_a_quiet_hour_is_a_burst(world: _World) -> None:
    gateway = world.gateway("one")
    gateway.serve(1)
    world.run(1)
    gateway.serve(0)
    for _ in range(60):
        world.clock += 60
        gateway.line()
    gateway.serve(12)
    world.run(3)
    assert world.view().fast == pytest.approx(6.0)


def test_arrivals_are_counted_over_the_fast_window_once_it_was_heard_whole(world: _World) -> None:
    gateway = world.gateway("one")
    world.run(3)
    gateway.serve(6)
    assert world.view().arrivals_per_second is None
    world.run(4)
    assert world.view().arrivals_per_second == pytest.approx(1.0)
    world.run(6)
    assert world.view().arrivals_per_second == 0.0


def test_a_new_leader_takes_what_is_under_way_for_what_was(world: _World) -> None:
    gateway = world.gateway("one", age=86_400, busy=50_000)
    assert (world.view().fast, world.view().stable) == (0.0, 0.0)
    other = _Gateway(world, "two", age=3600, busy=9_000)
    other.under_way = 4
    world.gateways.append(other)
    other.tell()
    assert (world.view().fast, world.view().stable) == pytest.approx((4.0, 4.0))
    world.run(30)
    assert gateway.busy == 50_000
    assert world.view().stable == pytest.approx(4.0)


def test_a_process_that_has_just_begun_had_nothing_before(world: _World) -> None:
    gateway = _Gateway(world, "one", age=2, busy=20)
    gateway.under_way = 10
    world.gateways.append(gateway)
    gateway.tell()
    assert (world.view().fast, world.view().stable) == pytest.approx((20 / 6, 20 / 60))


def test_a_process_that_has_ended_stays_in_the_windows_until_they_have_passed(world: _World) -> None:
    old = world.gateway("old")
    world.gateway("new")
    world.run(60)
    old.serve(6)
    world.run(30)
    world.lose(old, gone=True)
    assert (world.view().held, world.view().stable) == pytest.approx((0, 3.0))
    world.run(15)
    assert (world.view().fast, world.view().stable) == pytest.approx((0.0, 3.0))
    world.run(30)
    assert world.view().stable == pytest.approx(1.5)
    world.run(16)
    assert world.view().stable == 0.0
    # Its last request is not forgotten with it.
    assert world.view().last_request_at == BEGIN + timedelta(seconds=90)


def test_a_stream_that_comes_back_is_the_same_process_and_counts_once(world: _World) -> None:
    gateway = world.gateway("one")
    world.run(60)
    gateway.serve(4)
    world.run(20)
    world.lose(gateway, gone=False)
    assert not world.of().complete
    world.clock += 10
    gateway.busy += 40
    world.gateways.append(gateway)
    gateway.tell()
    world.demand.hears(all_gateways=True)
    assert world.view().stable == pytest.approx(4 * 30 / 60)
    # It has told what it had meanwhile, so nothing was missed.
    assert world.of().heard_since == BEGIN


def test_a_gateway_that_is_not_heard_makes_the_demand_incomplete_and_what_it_had_is_not_known_afterwards(world: _World) -> None:
    lost = world.gateway("lost")
    world.gateway("other")
    world.run(100)
    lost.serve(2)
    world.lose(lost, gone=False)
    world.run(5)
    found = world.of()
    assert (found.complete, found.heard_since) == (False, world.now)
    world.demand.hears(all_gateways=True)
    assert (world.of().complete, world.of().heard_since) == (True, world.now)
    assert world.view().last_request_at == BEGIN + timedelta(seconds=100)


def test_what_a_gateway_had_while_it_was_not_heard_for_longer_than_every_window_is_not_known_afterwards(world: _World) -> None:
    """The only one: demand is unknown meanwhile, which is not the same as never known, and its windows begin anew."""
    gateway = world.gateway("one")
    world.run(100)
    gateway.serve(6)
    world.of()
    world.lose(gateway, gone=False)
    world.run(100)
    assert world.of() == PoolDemand(tasks=world.of().tasks, heard_since=world.now, complete=False)
    assert world.view().last_request_at == BEGIN + timedelta(seconds=100)
    world.missing = False
    gateway.busy += 600
    gateway.under_way = 0
    world.gateways.append(gateway)
    gateway.tell()
    world.demand.hears(all_gateways=True)
    assert (world.of().complete, world.of().heard_since) == (True, world.now)
    world.run(5)
    assert world.of().heard_since == world.now - timedelta(seconds=5)


def test_a_gateway_that_says_nothing_is_not_heard_though_its_stream_is_open(world: _World) -> None:
    world.gateway("one")
    world.clock += 10.5
    world.demand.hears(all_gateways=True)
    assert not world.of().complete


def test_a_gateway_knows_nothing_of_the_time_before_it_began(world: _World) -> None:
    world.gateway("one", age=500)
    world.run(100)
    world.gateway("two", age=3)
    assert world.of().heard_since == BEGIN + timedelta(seconds=97)


def test_the_last_request_is_now_while_one_is_under_way(world: _World) -> None:
    gateway = world.gateway("one")
    gateway.serve(1)
    world.run(30)
    assert world.view().last_request_at == world.now
    gateway.serve(0)
    world.run(30)
    assert world.view().last_request_at == BEGIN + timedelta(seconds=30)


def test_an_earlier_last_request_is_known_to_a_new_leader(world: _World) -> None:
    gateway = _Gateway(world, "one", age=1000, busy=5)
    gateway.last = 900.0
    gateway.tell()
    assert world.view().last_request_at == BEGIN - timedelta(seconds=100)


def test_a_task_model_that_was_deleted_begins_anew(world: _World) -> None:
    gateway = world.gateway("one")
    gateway.serve(5)
    world.run(20)
    gateway.line(TaskDemand(namespace=TASK.namespace, task_model=TASK.name))
    assert world.of().tasks == ()
    world.run(10)
    gateway.busy, gateway.arrivals, gateway.under_way = 0.0, 0, 0
    gateway.serve(2)
    world.run(3)
    assert world.view().stable == pytest.approx(2 * 3 / 60)


def test_requests_that_come_are_told_and_those_that_go_on_or_end_are_not(world: _World) -> None:
    gateway = world.gateway("one")
    gateway.serve(1, held=1)
    assert world.demanded == [TASK]
    world.run(5)
    gateway.serve(0)
    world.run(5)
    assert world.demanded == [TASK]
    # Come and gone between two lines.
    gateway.arrivals += 1
    gateway.tell()
    assert world.demanded == [TASK, TASK]


def test_it_is_told_once_that_all_gateways_are_heard_and_once_that_not_all_are(world: _World) -> None:
    gateway = world.gateway("one")
    world.run(1)
    world.lose(gateway, gone=False)
    world.run(1)
    assert world.heard == [True, False]
