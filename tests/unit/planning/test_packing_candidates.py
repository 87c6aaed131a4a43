"""New versions beside those that serve: who gets a candidate slot, who waits for one, and who gives his to another."""

import pytest

from taskfleet.api.modelpool import Role
from tests.unit.planning.packing_world import PackingWorld, small


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
