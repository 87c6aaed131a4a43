"""Who shares a pool with whom, and that nobody is moved or lost."""

import pytest

from taskfleet.api.modelpool import Role
from taskfleet.api.taskmodel import TaskModel
from taskfleet.planning.packing import pack
from tests.unit.planning.builders import BASE, digest, key_for, serving_class, task_model
from tests.unit.planning.packing_world import PackingWorld


def small(max_per_pool: int = 2, candidate_slots: int = 1) -> PackingWorld:
    limits = {"maxPerPool": max_per_pool, "candidateSlots": candidate_slots, "maxActive": 1}
    return PackingWorld(serving_class=serving_class(adapters=limits))


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


def test_digest_reaches_the_member_once_it_is_recorded() -> None:
    world = PackingWorld()
    revision = world.add("a", resolved=False)
    (draft,) = world.pack().apply
    assert draft.spec.members[0].adapter is not None
    assert draft.spec.members[0].adapter.digest is None
    world.resolve("a")
    (draft,) = world.pack().apply
    assert draft.spec.members[0].adapter is not None
    assert draft.spec.members[0].adapter.digest == digest(revision.metadata.name[-1])


def test_pin_alone_is_no_resolved_digest() -> None:
    world = PackingWorld()
    adapter = {"source": "oci://registry.example/a", "version": "v1", "digest": digest("a")}
    world.add("a", resolved=False, version=None, adapter=adapter)
    (draft,) = world.pack().apply
    assert draft.spec.members[0].adapter is not None
    assert draft.spec.members[0].adapter.digest is None


def test_digest_of_a_member_outlives_a_lost_status_of_its_revision() -> None:
    world = PackingWorld()
    world.add("a")
    before = world.pack().apply
    world.revisions["a"] = [revision.model_copy(update={"status": type(revision.status)()}) for revision in world.revisions["a"]]
    assert world.pack().apply == before


def test_new_version_stands_beside_the_old_one_until_the_switch_is_known_to_all() -> None:
    world = PackingWorld()
    old = world.add("a")
    world.pack()
    world.serve("a")
    new = world.change("a", "v2")
    world.pack()
    (pool,) = world.pools.values()
    assert {member.revision: member.role for member in pool.spec.members} == {
        old.metadata.name: Role.STABLE,
        new.metadata.name: Role.CANDIDATE,
    }
    world.serve("a", phase="Draining")
    world.pack()
    assert world.home(old) == world.home(new) == pool.metadata.name
    world.serve("a", phase="Done")
    world.pack()
    assert world.home(old) is None
    assert world.home(new) == pool.metadata.name


def test_candidate_joins_its_task_even_where_the_pool_is_full() -> None:
    world = small(max_per_pool=2, candidate_slots=1)
    world.add("a")
    world.add("b")
    world.pack()
    world.serve("a")
    candidate = world.change("a", "v2")
    world.pack()
    assert len(world.pools) == 1
    assert world.home(candidate) is not None


def test_candidate_waits_for_a_slot_and_says_so() -> None:
    world = small(max_per_pool=2, candidate_slots=1)
    for name in ("a", "b"):
        world.add(name)
    world.pack()
    for name in ("a", "b"):
        world.serve(name)
    world.change("a", "v2")
    waiting = world.change("b", "v2")
    plan = world.pack()
    held = {member.revision for draft in plan.apply for member in draft.spec.members if member.adapter and member.adapter.digest}
    assert waiting.metadata.name not in held
    assert any(waiting.metadata.name in note and "candidate slot" in note for note in plan.notes)
    world.serve("a")
    plan = world.pack()
    held = {member.revision for draft in plan.apply for member in draft.spec.members if member.adapter and member.adapter.digest}
    assert waiting.metadata.name in held


def test_candidate_that_is_not_resolved_takes_no_slot() -> None:
    world = small(max_per_pool=2, candidate_slots=1)
    for name in ("a", "b"):
        world.add(name)
    world.pack()
    for name in ("a", "b"):
        world.serve(name)
    world.change("a", "v2", resolved=False)
    # `change` resolves all of a task's revisions or none; those of `a` were resolved before.
    other = world.change("b", "v2")
    plan = world.pack()
    held = {member.revision for draft in plan.apply for member in draft.spec.members if member.adapter and member.adapter.digest}
    assert other.metadata.name in held


def test_refused_candidate_stays_a_member_and_takes_no_slot() -> None:
    world = small(max_per_pool=2, candidate_slots=1)
    for name in ("a", "b"):
        world.add(name)
    world.pack()
    for name in ("a", "b"):
        world.serve(name)
    refused = world.change("a", "v2")
    world.pack()
    failed = refused.model_copy(update={"status": refused.status.model_copy(update={"phase": "Failed"})})
    world.revisions["a"] = [found if found.metadata.name != refused.metadata.name else failed for found in world.revisions["a"]]
    other = world.change("b", "v2")
    plan = world.pack()
    held = {member.revision for draft in plan.apply for member in draft.spec.members if member.adapter and member.adapter.digest}
    assert {refused.metadata.name, other.metadata.name} <= held


def crowd(*names: str, candidate_slots: int = 1) -> PackingWorld:
    """These tasks serve their first versions; beyond them there is room for so many candidates."""
    world = small(max_per_pool=len(names), candidate_slots=candidate_slots)
    for name in names:
        world.add(name)
    world.pack()
    for name in names:
        world.serve(name)
    return world


def bump(world: PackingWorld, name: str, version: str = "v2") -> None:
    """Another version, a second after whatever was before."""
    world.clock += 1
    world.change(name, version)


def loaded(world: PackingWorld) -> set[str]:
    """Tasks with another version, where engines are told to hold it."""
    (pool,) = world.pools.values()
    held = {member.revision for member in pool.spec.members if member.adapter is not None and member.adapter.digest is not None}
    return {name for name, revisions in world.revisions.items() if len(revisions) > 1 and revisions[-1].metadata.name in held}


def places(world: PackingWorld) -> dict[str, int]:
    (pool,) = world.pools.values()
    return {member.task_model: member.waits_behind for member in pool.spec.members if member.waits_behind is not None}


def test_candidates_get_slots_in_the_order_of_their_revisions_whatever_the_age_of_their_tasks() -> None:
    world = crowd("a", "b", "c", "d")
    for name in ("d", "b", "a", "c"):
        bump(world, name)
    world.pack()
    order = []
    for place in ({"b": 0, "a": 1, "c": 2}, {"a": 0, "c": 1}, {"c": 0}, {}):
        (turn,) = loaded(world)
        assert places(world) == place
        order.append(turn)
        world.serve(turn)
        world.revisions[turn] = world.revisions[turn][-1:]
        world.pack()
        world.tasks.pop(turn)
        world.revisions.pop(turn)
        world.unreadable.add(turn)
    assert order == ["d", "b", "a", "c"]


@pytest.mark.parametrize("hold", ["Paused", "GateUnmeasurable"])
def test_held_candidate_gives_its_slot_to_one_that_can_go_on_and_gets_one_that_is_left_over(hold: str) -> None:
    world = crowd("a", "b")
    bump(world, "a")
    world.pack()
    world.hold("a", hold)
    world.pack()
    assert loaded(world) == {"a"}, "nobody else needs it"
    bump(world, "b")
    plan = world.pack()
    assert loaded(world) == {"b"}
    assert places(world) == {"a": 0}
    assert any("gives its candidate slot" in note for note in plan.notes)
    world.serve("b")
    world.pack()
    assert loaded(world) == {"a", "b"}
    assert places(world) == {}


def wanted_slots(world: PackingWorld) -> set[str]:
    (pool,) = world.pools.values()
    return {member.task_model for member in pool.spec.members if member.slot_wanted}


@pytest.mark.parametrize(("hold", "wanted"), [("NoTraffic", {"a"}), ("Inconclusive", {"a"}), ("Paused", set()), (None, set())])
def test_slot_of_a_step_without_a_verdict_is_wanted_by_one_that_can_go_on_and_kept_until_the_share_is_given_back(
    hold: str | None, wanted: set[str]
) -> None:
    world = crowd("a", "b")
    bump(world, "a")
    world.pack()
    world.share("a", 10)
    world.hold("a", hold, phase="Stepping")
    world.pack()
    assert wanted_slots(world) == set(), "nobody else needs it"
    bump(world, "b")
    for _ in range(2):
        world.pack()
        assert (loaded(world), wanted_slots(world), places(world)) == ({"a"}, wanted, {"b": 0})
    world.hold("b", "GateUnmeasurable")
    world.pack()
    assert wanted_slots(world) == set(), "what is held itself takes no slot of another"
    world.hold("b", None)
    world.withdraw("a")
    if hold is not None:
        world.pack()
        assert (loaded(world), wanted_slots(world), places(world)) == ({"b"}, set(), {"a": 0})


def test_two_held_candidates_never_swap() -> None:
    world = crowd("a", "b")
    for name in ("a", "b"):
        bump(world, name)
    world.pack()
    world.hold("a", "Paused")
    world.pack()
    assert loaded(world) == {"b"}
    world.hold("b", "GateUnmeasurable")
    for _ in range(3):
        world.pack()
        assert loaded(world) == {"b"}


def test_candidate_that_is_resumed_has_its_turn_before_those_that_came_later() -> None:
    world = crowd("a", "b", "c")
    bump(world, "a")
    world.pack()
    world.hold("a", "Paused")
    bump(world, "b")
    bump(world, "c")
    world.pack()
    assert (loaded(world), places(world)) == ({"b"}, {"c": 0, "a": 1})
    world.hold("a", None)
    world.pack()
    assert (loaded(world), places(world)) == ({"b"}, {"a": 0, "c": 1})
    world.serve("b")
    world.pack()
    assert loaded(world) == {"a", "b"}


@pytest.mark.parametrize("weight", [0, 10])
def test_candidate_with_a_share_of_the_traffic_keeps_its_slot_whatever_holds_it(weight: int) -> None:
    world = crowd("a", "b")
    bump(world, "a")
    world.pack()
    world.share("a", weight)
    world.hold("a", "NoTraffic")
    bump(world, "b")
    world.pack()
    assert loaded(world) == {"a"}
    assert places(world) == {"b": 0}


def test_failed_candidate_that_recovers_counts_again() -> None:
    world = crowd("a", "b")
    bump(world, "a")
    world.pack()
    world.phase("a", "Failed")
    bump(world, "b")
    world.pack()
    assert loaded(world) == {"a", "b"}, "agents try the failed one again, and no engine holds it"
    world.phase("a", "Pending")
    world.pack()
    assert loaded(world) == {"a"}
    assert places(world) == {"b": 0}


def test_fifty_bumps_are_told_apart_up_to_ten() -> None:
    names = [f"task-{number:02}" for number in range(50)]
    world = crowd(*names)
    for name in names:
        bump(world, name)
    world.pack()
    assert loaded(world) == {"task-00"}
    assert sorted(places(world).values()) == [*range(10), *[10] * 39]


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


def test_all_pools_of_a_key_have_the_base_that_was_resolved_first() -> None:
    world = small(max_per_pool=1)
    world.add("a")
    world.pack()
    (pool,) = world.pools
    world.base_digests[pool] = digest("b")
    world.pack()
    world.base_digests.clear()
    world.add("c")
    plan = world.pack()
    assert [draft.spec.base_digest for draft in plan.apply] == [digest("b")] * 2


def test_commit_that_a_version_was_resolved_to_stays_with_its_member() -> None:
    world = PackingWorld()
    revision = world.add("a", resolved=False)
    world.pack()
    world.resolve("a", version="c0ffee")
    (draft,) = world.pack().apply
    assert [(member.resolved_version, member.adapter.version if member.adapter else None) for member in draft.spec.members] == [
        ("c0ffee", revision.spec.adapter.version if revision.spec.adapter else None)
    ]
    # The pool keeps it, also when the record has lost its status.
    world.resolve("a")
    assert [member.resolved_version for member in world.pack().apply[0].spec.members] == ["c0ffee"]


def test_commit_of_a_base_is_recorded_with_its_digest_and_never_replaced() -> None:
    world = PackingWorld()
    world.add("a")
    world.pack()
    (pool,) = world.pools
    world.base_digests[pool], world.base_versions[pool] = digest("b"), "c0ffee"
    world.pack()
    world.base_digests[pool], world.base_versions[pool] = digest("c"), "decaf"
    (draft,) = world.pack().apply
    assert (draft.spec.base_digest, draft.spec.base_resolved_revision) == (digest("b"), "c0ffee")


def test_recorded_base_digest_is_never_replaced() -> None:
    world = PackingWorld()
    world.add("a")
    world.pack()
    (pool,) = world.pools
    world.base_digests[pool] = digest("b")
    world.pack()
    world.base_digests[pool] = digest("c")
    assert [draft.spec.base_digest for draft in world.pack().apply] == [digest("b")]


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


def _update(world: PackingWorld, name: str, **spec: object) -> None:
    task: TaskModel = world.tasks[name]
    world.tasks[name] = task.model_copy(update={"spec": task.spec.model_copy(update=spec)})
