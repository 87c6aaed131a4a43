"""Starts of pods as figures: each once."""

from prometheus_client import REGISTRY

from taskfleet.api.modelpool import StartPhase
from taskfleet.controller.coldstarts import ColdStarts
from taskfleet.controller.keys import PoolKey
from tests.unit.planning.builders import key_for, pool_of, task_model
from tests.unit.planning.scaling.test_coldstart import heard, started, starting

# A class that no other test has figures of.
POOL = pool_of(key=key_for(task_model("total"), "watched"))
LABELS = {"serving_class": "watched"}


def count(name: str = "taskfleet_cold_start_seconds_count", **labels: str) -> float:
    return REGISTRY.get_sample_value(name, LABELS | labels) or 0.0


def test_each_pod_is_counted_once_with_all_its_parts() -> None:
    starts, before = ColdStarts(), count()
    assert starts.look(POOL, [starting("pod-a"), starting("pod-b")], []) is None
    told = starts.look(POOL, [started("pod-a"), starting("pod-b")], [heard("pod-a")])
    assert told is not None
    assert told.pod == "pod-a"
    for _ in range(3):
        told = starts.look(POOL, [started("pod-a"), started("pod-b", created=1)], [heard("pod-a"), heard("pod-b")])
    assert told is not None
    assert told.pod == "pod-b"
    assert count() - before == 2
    for phase in StartPhase:
        assert count("taskfleet_cold_start_phase_seconds_count", phase=phase) == count()
    total = sum(count("taskfleet_cold_start_phase_seconds_sum", phase=phase) for phase in StartPhase)
    assert round(total, 1) == round(count("taskfleet_cold_start_seconds_sum"), 1)


def test_what_became_ready_under_another_leader_is_not_counted_again() -> None:
    starts, before = ColdStarts(), count()
    assert starts.look(POOL, [started("pod-a")], [heard("pod-a")]) is None
    assert count() == before


def test_a_pool_that_is_gone_is_forgotten() -> None:
    starts, before = ColdStarts(), count()
    starts.look(POOL, [starting("pod-a")], [])
    starts.forget(PoolKey(POOL.metadata.namespace, POOL.metadata.name))
    starts.look(POOL, [started("pod-a")], [heard("pod-a")])
    assert count() == before
