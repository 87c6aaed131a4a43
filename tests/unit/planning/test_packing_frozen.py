"""Tasks that are suspended, invalid, unreadable or on their way to another class lose nothing that serves."""

from taskfleet.api.taskmodel import TaskModel
from tests.unit.planning.packing_world import PackingWorld


def test_suspended_task_keeps_its_members_as_they_are() -> None:
    world = PackingWorld()
    old = world.add("a")
    world.pack()
    world.serve("a")
    new = world.change("a", "v2", resolved=False)
    world.pack()
    before = world.pools
    _update(world, "a", suspend=True)
    newer = world.change("a", "v3")
    _update(world, "a", suspend=True)
    world.resolve("a")
    world.pack()
    assert {name: pool.spec for name, pool in world.pools.items()} == {name: pool.spec for name, pool in before.items()}
    assert world.home(old) is not None
    assert world.home(new) is not None
    assert world.home(newer) is None


def test_suspended_task_is_not_placed() -> None:
    world = PackingWorld()
    revision = world.add("a", suspend=True)
    world.pack()
    assert world.home(revision) is None


def test_task_that_became_invalid_goes_on_serving_without_its_candidate() -> None:
    world = PackingWorld()
    old = world.add("a")
    world.pack()
    world.serve("a")
    _update(world, "a", base=world.tasks["a"].spec.base.model_copy(update={"source": "pvc://absent/Qwen3"}))
    world.pack()
    assert world.home(old) is not None


def test_task_that_cannot_be_read_keeps_its_members() -> None:
    world = PackingWorld()
    revision = world.add("a")
    before = world.pack().apply
    world.remove("a")
    world.unreadable.add("a")
    assert world.pack().apply == before
    assert world.home(revision) is not None


def test_lost_status_does_not_drop_what_served() -> None:
    world = PackingWorld()
    old = world.add("a")
    world.pack()
    world.serve("a")
    new = world.change("a", "v2")
    task = world.tasks["a"]
    world.tasks["a"] = task.model_copy(update={"status": type(task.status)()})
    world.pack()
    assert world.home(old) == world.home(new) is not None


def test_task_that_changes_its_class_stays_on_the_old_pool_until_it_is_served_from_the_new_one() -> None:
    world = PackingWorld()
    revision = world.add("a")
    world.pack()
    world.serve("a")
    _update(world, "a", serving_class_name="h100")
    world.pack()
    assert world.home(revision) is not None


def _update(world: PackingWorld, name: str, **spec: object) -> None:
    task: TaskModel = world.tasks[name]
    world.tasks[name] = task.model_copy(update={"spec": task.spec.model_copy(update=spec)})
