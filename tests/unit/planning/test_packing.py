"""Who shares a pool with whom, and that nobody is moved or lost."""

import pytest

from taskfleet.planning.packing import pack
from tests.unit.planning.builders import BASE, key_for, task_model
from tests.unit.planning.packing_world import PackingWorld, small


def test_tasks_of_one_key_share_a_pool() -> None:
    world = PackingWorld()
    revisions = [world.add(name) for name in ("vendor", "date", "total")]
    plan = world.pack()
    assert len({world.home(revision) for revision in revisions}) == 1
    assert [draft.spec.members[0].task_model for draft in plan.apply] == ["date"]
    assert plan.delete == ()


def test_packing_again_changes_nothing() -> None:
    world = PackingWorld()
    world.add("vendor")
    first = world.pack().apply
    assert world.pack().apply == first


def test_pool_goes_with_its_members() -> None:
    world = PackingWorld()
    revision = world.add("vendor")
    (draft,) = world.pack().apply
    assert [(owner.revision, owner.uid) for owner in draft.owners] == [(revision.metadata.name, revision.metadata.uid)]


@pytest.mark.parametrize(
    "spec",
    [
        {"base": {**BASE, "revision": "v2"}},
        {"base": {**BASE, "source": "oci://registry.example/other"}},
        {"base": {**BASE, "credentialsKey": "registry"}},
        {"isolation": "Dedicated"},
    ],
)
def test_tasks_that_may_not_share_get_pools_of_their_own(spec: dict[str, object]) -> None:
    world = PackingWorld()
    shared, apart = world.add("vendor"), world.add("total", **spec)  # type: ignore[arg-type]
    world.pack()
    world.pack(key_for(world.tasks["total"]))
    assert world.home(shared) != world.home(apart)
    assert world.home(apart) is not None


def test_two_dedicated_tasks_never_share() -> None:
    world = PackingWorld()
    first, second = (world.add(name, isolation="Dedicated") for name in ("vendor", "total"))
    for name in ("vendor", "total"):
        world.pack(key_for(world.tasks[name]))
    assert world.home(first) != world.home(second)


def test_full_pool_sends_the_next_task_to_another() -> None:
    world = small(max_per_pool=2)
    first, second, third = (world.add(name) for name in ("a", "b", "c"))
    world.pack()
    assert world.home(first) == world.home(second)
    assert world.home(third) == f"{world.home(first)}-1"


def test_freed_place_is_taken_before_a_new_pool_is_made_and_nobody_moves() -> None:
    world = small(max_per_pool=2)
    revisions = {name: world.add(name) for name in ("a", "b", "c", "d")}
    world.pack()
    homes = {name: world.home(revision) for name, revision in revisions.items()}
    world.remove("a")
    newcomer = world.add("e")
    world.pack()
    assert world.home(newcomer) == homes["b"]
    assert {name: world.home(revisions[name]) for name in ("b", "c", "d")} == {name: homes[name] for name in ("b", "c", "d")}


def test_members_never_move_to_tidy_up() -> None:
    world = small(max_per_pool=2)
    revisions = {name: world.add(name) for name in ("a", "b", "c", "d")}
    world.pack()
    world.remove("b")
    world.remove("d")
    world.pack()
    assert len(world.pools) == 2
    assert world.home(revisions["a"]) != world.home(revisions["c"])


def test_pool_without_members_is_deleted_by_its_uid() -> None:
    world = PackingWorld()
    world.add("a")
    world.pack()
    (pool,) = world.pools.values()
    world.remove("a")
    plan = world.pack()
    assert [(deletion.name, deletion.uid) for deletion in plan.delete] == [(pool.metadata.name, pool.metadata.uid)]
    assert world.pools == {}


def test_joining_and_leaving_in_the_same_second_loses_nobody() -> None:
    world = PackingWorld()
    leaver, stayer = world.add("leaver"), world.add("stayer")
    world.pack()
    world.remove("leaver")
    joiners = [world.add("joiner-a"), world.add("joiner-b")]
    world.pack()
    (pool,) = world.pools.values()
    assert {member.revision for member in pool.spec.members} == {revision.metadata.name for revision in (stayer, *joiners)}
    assert leaver.metadata.name not in {member.revision for member in pool.spec.members}


def test_pool_that_is_being_deleted_takes_nobody() -> None:
    world = PackingWorld()
    revision = world.add("a")
    world.pack()
    (pool,) = world.pools.values()
    metadata = pool.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    world.pools[pool.metadata.name] = pool.model_copy(update={"metadata": metadata})
    plan = pack(world.snapshot())
    assert [owner.revision for draft in plan.apply for owner in draft.owners] == [revision.metadata.name]
    assert plan.delete == ()


def test_deleted_task_leaves_its_pool() -> None:
    world = PackingWorld()
    world.add("a")
    stays = world.add("b")
    world.pack()
    task = world.tasks["a"]
    metadata = task.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    world.tasks["a"] = task.model_copy(update={"metadata": metadata})
    (draft,) = world.pack().apply
    assert [member.revision for member in draft.spec.members] == [stays.metadata.name]


def test_key_without_tasks_has_no_pools() -> None:
    assert pack(PackingWorld().snapshot(key_for(task_model()))).apply == ()
