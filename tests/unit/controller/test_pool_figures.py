"""The size of pools as figures."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from taskfleet.controller import metrics
from taskfleet.controller.cache import Cache
from taskfleet.controller.devicetime import DeviceTime
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey, TaskKey
from taskfleet.controller.metrics import FleetCollector
from taskfleet.kube.resources import MODEL_POOLS
from taskfleet.planning.scaling.devicetime import holds_device
from taskfleet.planning.snapshot import PodView
from tests.unit.controller.objects import body, pool

LABELS = {"namespace": "finance", "pool": "tiny"}


class _World:
    def __init__(self) -> None:
        self.cache = Cache()
        self.fleet = Fleet(self.cache)
        self.cache.notify = self.fleet.index
        self.registry = CollectorRegistry()
        self.clock = 100.0
        self.busy: dict[str, float] = {}
        self.devices = DeviceTime(busy=lambda task: self.busy.get(task.name, 0.0), clock=lambda: self.clock)
        self.registry.register(
            FleetCollector(
                depths=dict,
                kinds=(),
                conditions=dict,
                shares=dict,
                scores=dict,
                pools=self.fleet.sizes,
                device_seconds=self.devices.figures,
            )
        )

    def there_is(self, version: int, *, reason: str, **spec: Any) -> None:
        scaling = {"desiredReplicas": 3, "reason": reason, "message": "why"}
        members = spec.pop("members", (("total", "total-1"),))
        self.cache.put(MODEL_POOLS, pool("tiny", version, *members, status={"readyReplicas": 2, "scaling": scaling}, replicas=3, **spec))

    def held(self) -> dict[str, float]:
        """Device seconds by task, as a scrape shows them."""
        found = (family for family in self.registry.collect() if family.name == "taskfleet_device_seconds")
        return {sample.labels["task_model"]: sample.value for family in found for sample in family.samples}

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"taskfleet_pool_{name}", LABELS | labels)


@pytest.fixture
def world() -> _World:
    return _World()


def test_wanted_and_ready_pods_are_told_with_the_reason(world: _World) -> None:
    world.there_is(1, reason="Step")
    assert (world.value("replicas_desired"), world.value("replicas_actual")) == (3, 2)
    assert world.value("scaling_info", reason="Step") == 1


def test_a_reason_that_the_operator_does_not_know_is_no_label(world: _World) -> None:
    world.there_is(1, reason="Because")
    assert world.value("replicas_desired") == 3
    assert world.value("scaling_info", reason="Because") is None


def test_figures_go_with_their_pool(world: _World) -> None:
    world.there_is(1, reason="Step")
    metrics.WAKE_UPS.labels("finance", "tiny").inc()
    world.cache.remove(MODEL_POOLS, body("tiny", 2))
    metrics.forget_pool("finance", "tiny")
    metrics.forget_pool("finance", "never")
    assert world.value("replicas_desired") is None
    assert ("finance", "tiny") not in metrics.WAKE_UPS._metrics


def test_the_pools_of_a_task_are_known_while_it_is_a_member(world: _World) -> None:
    world.there_is(1, reason="Step", members=(("total", "total-1"), ("total", "total-2"), ("vendor", "vendor-1")))
    assert world.fleet.pools_of(TaskKey("finance", "total")) == [PoolKey("finance", "tiny")]
    world.there_is(2, reason="Step", members=(("vendor", "vendor-1"),))
    assert world.fleet.pools_of(TaskKey("finance", "total")) == []
    assert world.fleet.pools_of(TaskKey("finance", "vendor")) == [PoolKey("finance", "tiny")]
    world.cache.remove(MODEL_POOLS, body("tiny", 3))
    assert world.fleet.pools_of(TaskKey("finance", "vendor")) == []


def test_time_of_devices_is_shared_by_the_work_of_the_tasks_and_adds_up(world: _World) -> None:
    """A-14."""
    key = PoolKey("finance", "tiny")
    world.devices.look(key, "uid", devices=2, tasks=["total", "vendor"])
    assert world.held() == {"total": 0, "vendor": 0}
    world.clock, world.busy = 110.0, {"total": 9.0, "vendor": 3.0}
    assert world.held() == {"total": 15, "vendor": 5}
    world.clock = 114.0
    assert world.held() == {"total": 19, "vendor": 9}, "in idle time they are alike"
    world.devices.look(key, "uid", devices=0, tasks=["total", "vendor"])
    world.clock, world.busy = 200.0, {"total": 10.0, "vendor": 3.0}
    assert world.held() == {"total": 19, "vendor": 9}, "a pool at zero costs nothing"
    world.devices.look(key, "uid", devices=4, tasks=["date", "total"])
    world.clock, world.busy = 201.0, {"total": 4.0, "date": 5.0}
    assert world.held() == {"total": 19, "date": 4}, "a replica of the gateway is forgotten, a task has left"
    world.devices.look(key, "another", devices=4, tasks=["total"])
    assert world.held() == {"total": 0}, "another pool of the same name"
    world.devices.forget(key)
    assert world.held() == {}


def test_pod_holds_its_device_from_the_scheduler_s_decision_until_it_has_ended() -> None:
    found = {
        "pending": PodView(name="a"),
        "running": PodView(name="b", phase="Running"),
        "ending": PodView(name="c", phase="Running", deleting=True),
        "unschedulable": PodView(name="d", unschedulable="0/1 nodes are available"),
        "failed": PodView(name="e", phase="Failed"),
    }
    assert {name for name, pod in found.items() if holds_device(pod)} == {"pending", "running", "ending"}
