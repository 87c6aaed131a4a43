"""The size of pools as figures."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from taskfleet.controller import metrics
from taskfleet.controller.cache import Cache
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey, TaskKey
from taskfleet.controller.metrics import FleetCollector
from taskfleet.kube.resources import MODEL_POOLS
from tests.unit.controller.objects import body, pool

LABELS = {"namespace": "finance", "pool": "tiny"}


class _World:
    def __init__(self) -> None:
        self.cache = Cache()
        self.fleet = Fleet(self.cache)
        self.cache.notify = self.fleet.index
        self.registry = CollectorRegistry()
        self.registry.register(FleetCollector(depths=dict, kinds=(), conditions=dict, shares=dict, scores=dict, pools=self.fleet.sizes))

    def there_is(self, version: int, *, reason: str, **spec: Any) -> None:
        scaling = {"desiredReplicas": 3, "reason": reason, "message": "why"}
        members = spec.pop("members", (("total", "total-1"),))
        self.cache.put(MODEL_POOLS, pool("tiny", version, *members, status={"readyReplicas": 2, "scaling": scaling}, replicas=3, **spec))

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
