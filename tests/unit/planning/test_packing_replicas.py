"""Who says how many pods a pool has: the autoscaler within the bounds, or another one."""

from typing import Any

import pytest

from taskfleet.planning.plans import PoolDraft
from taskfleet.resources.custom_objects import model_pool
from tests.unit.planning.builders import serving_class
from tests.unit.planning.packing_world import PackingWorld

EXTERNAL = {"autoscaler": "External", "minReplicas": 1, "maxReplicas": 4}


def packed(scaling: dict[str, Any], *tasks: dict[str, Any]) -> tuple[PackingWorld, str]:
    """A world with one pool, and the pool's name."""
    world = PackingWorld(serving_class=serving_class(scaling=scaling))
    for number, wishes in enumerate(tasks or ({},)):
        world.add(f"task-{number}", scaling=wishes)
    world.pack()
    (name,) = world.pools
    return world, name


def draft(world: PackingWorld) -> PoolDraft:
    (found,) = world.pack().apply
    return found


def had(world: PackingWorld, replicas: int) -> None:
    """Somebody has written the number."""
    for name, pool in world.pools.items():
        world.pools[name] = pool.model_copy(update={"spec": pool.spec.model_copy(update={"replicas": replicas})})


def test_a_pool_has_what_was_decided() -> None:
    world, name = packed({"minReplicas": 0, "maxReplicas": 8})
    for replicas in (5, 0, 8):
        world.replicas[name] = replicas
        assert draft(world).spec.replicas == replicas


def test_without_a_decision_a_pool_keeps_what_it_has() -> None:
    world, _ = packed({"minReplicas": 0, "maxReplicas": 8})
    for replicas in (3, 0):
        had(world, replicas)
        assert draft(world).spec.replicas == replicas


def test_a_new_pool_has_a_pod_though_its_tasks_may_sleep() -> None:
    world, _ = packed({"minReplicas": 0, "maxReplicas": 8})
    assert draft(world).spec.replicas == 1


@pytest.mark.parametrize(("decided", "replicas"), [(1, 2), (3, 3), (9, 6)])
def test_bounds_hold_for_decisions_and_for_what_there_is(decided: int, replicas: int) -> None:
    world, name = packed({"maxReplicas": 4}, {"minReplicas": 2}, {"maxReplicas": 6})
    had(world, decided)
    assert draft(world).spec.replicas == replicas
    world.replicas[name] = decided
    assert draft(world).spec.replicas == replicas


def test_a_suspended_task_lets_no_pod_go() -> None:
    world, name = packed({"minReplicas": 0, "maxReplicas": 8})
    world.serve("task-0")
    had(world, 3)
    task = world.tasks["task-0"]
    world.tasks["task-0"] = task.model_copy(update={"spec": task.spec.model_copy(update={"suspend": True})})
    world.replicas[name] = 0
    assert draft(world).spec.replicas == 3


class TestExternal:
    def test_replicas_stay_ours_with_their_value_until_another_field_manager_has_them(self) -> None:
        world, _ = packed(EXTERNAL)
        had(world, 3)
        found = draft(world)
        assert model_pool(found)["spec"]["replicas"] == 3
        # What was read may be old: the other one may have written meanwhile.
        assert found.resource_version == "version-1"

    def test_replicas_are_left_out_once_they_are_another_ones(self) -> None:
        world, name = packed(EXTERNAL)
        had(world, 3)
        world.scaled_by_others.add(name)
        found = draft(world)
        assert "replicas" not in model_pool(found)["spec"]
        assert (found.spec.replicas, found.resource_version) == (3, "")

    def test_bounds_are_the_other_ones_own(self) -> None:
        world, _ = packed(EXTERNAL)
        for replicas in (0, 9):
            had(world, replicas)
            assert draft(world).spec.replicas == replicas

    def test_a_decision_from_before_is_not_carried_out(self) -> None:
        world, name = packed(EXTERNAL)
        had(world, 3)
        world.replicas[name] = 1
        assert draft(world).spec.replicas == 3

    def test_back_to_builtin_replicas_are_taken_back_as_they_are(self) -> None:
        world, name = packed(EXTERNAL)
        had(world, 3)
        world.scaled_by_others.add(name)
        world.serving_class = serving_class(scaling={"minReplicas": 0, "maxReplicas": 4})
        assert model_pool(draft(world))["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("scalings", "defaults", "replicas"),
    [
        ([{}], {}, 1),
        ([{"minReplicas": 0}], {}, 1),
        ([{"minReplicas": 3}], {}, 3),
        ([{"minReplicas": 3}, {"minReplicas": 2}], {}, 3),
        ([{}], {"minReplicas": 2, "maxReplicas": 4}, 2),
        ([{"maxReplicas": 1}], {"minReplicas": 2, "maxReplicas": 4}, 1),
        ([{"minReplicas": 0}], {"minReplicas": 2, "maxReplicas": 4}, 1),
        ([{"minReplicas": 256}], {}, 256),
    ],
)
def test_replicas_are_what_the_most_demanding_task_asks_for(
    scalings: list[dict[str, int]], defaults: dict[str, int], replicas: int
) -> None:
    world = PackingWorld(serving_class=serving_class(scaling=defaults))
    for number, scaling in enumerate(scalings):
        world.add(f"task-{number}", scaling=scaling)
    (draft,) = world.pack().apply
    assert draft.spec.replicas == replicas
