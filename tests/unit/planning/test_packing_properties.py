"""Packing under random additions, removals and version changes: no moves, nobody lost, room never exceeded, and the same answer for the same question."""

import random
from math import ceil

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taskfleet.planning.packing import pack
from tests.unit.planning.builders import serving_class
from tests.unit.planning.packing_world import PackingWorld

MAX_PER_POOL = 3
CANDIDATE_SLOTS = 1
NAMES = [f"task-{letter}" for letter in "abcdefghij"]


def world_of(max_per_pool: int = MAX_PER_POOL, candidate_slots: int = CANDIDATE_SLOTS) -> PackingWorld:
    limits = {"maxPerPool": max_per_pool, "candidateSlots": candidate_slots, "maxActive": 1}
    return PackingWorld(serving_class=serving_class(adapters=limits))


class Namespace(RuleBasedStateMachine):
    """Any order of what users and rollouts do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = world_of()
        self.homes: dict[str, str] = {}

    @rule(name=st.sampled_from(NAMES), resolved=st.booleans())
    def add(self, name: str, resolved: bool) -> None:  # noqa: FBT001
        if name not in self.world.tasks:
            self.world.add(name, resolved=resolved)
        self._pack()

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if name in self.world.tasks:
            self.world.remove(name)
        self._pack()

    @rule(name=st.sampled_from(NAMES), version=st.sampled_from(["v1", "v2", "v3"]))
    def change(self, name: str, version: str) -> None:
        if name in self.world.tasks:
            self.world.change(name, version)
        self._pack()

    @rule(name=st.sampled_from(NAMES), phase=st.sampled_from(["Draining", "Done"]))
    def serve(self, name: str, phase: str) -> None:
        if name in self.world.tasks:
            self.world.serve(name, phase=phase)
        self._pack()

    @rule(name=st.sampled_from(NAMES))
    def resolve(self, name: str) -> None:
        if name in self.world.tasks:
            self.world.resolve(name)
        self._pack()

    def _pack(self) -> None:
        self.world.pack()

    @invariant()
    def every_target_has_one_pool(self) -> None:
        for revisions in self.world.revisions.values():
            assert self.world.home(revisions[-1]) is not None

    @invariant()
    def nobody_moves(self) -> None:
        homes = {member.revision: pool.metadata.name for pool in self.world.pools.values() for member in pool.spec.members}
        names = {revision.metadata.name for revisions in self.world.revisions.values() for revision in revisions}
        for revision, home in self.homes.items():
            if revision in homes and revision in names and self._stayed(revision):
                assert homes[revision] == home
        self.homes = homes

    def _stayed(self, revision: str) -> bool:
        """A task that was deleted and made again has the same revision name, and no claim to its old place."""
        uids = {found.metadata.uid for revisions in self.world.revisions.values() for found in revisions}
        return any(member.uid in uids for pool in self.world.pools.values() for member in pool.spec.members if member.revision == revision)

    @invariant()
    def routed_revisions_stay_members(self) -> None:
        for task in self.world.tasks.values():
            for target in task.status.traffic:
                assert target.revision in {member.revision for member in self.world.pools[target.pool].spec.members}

    @invariant()
    def room_is_never_exceeded(self) -> None:
        for pool in self.world.pools.values():
            tasks = {member.task_model for member in pool.spec.members}
            held = [member for member in pool.spec.members if member.adapter is not None and member.adapter.digest is not None]
            assert 1 <= len(tasks) <= MAX_PER_POOL
            assert len(held) <= MAX_PER_POOL + CANDIDATE_SLOTS

    @invariant()
    def packing_is_settled_and_deterministic(self) -> None:
        first, second = pack(self.world.snapshot()), pack(self.world.snapshot())
        assert first == second
        assert {draft.name: draft.spec for draft in first.apply} == {name: pool.spec for name, pool in self.world.pools.items()}


Namespace.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestNamespace = Namespace.TestCase


def test_500_random_adds_and_removes_stay_near_the_bound_without_moves() -> None:
    world = world_of(max_per_pool=8, candidate_slots=2)
    random_source = random.Random(7)  # noqa: S311
    homes: dict[str, str | None] = {}
    used = bound = 0
    for number in range(500):
        living = sorted(world.tasks)
        if living and random_source.random() < min(0.5, len(living) / 100):
            world.remove(random_source.choice(living))
        else:
            world.add(f"task-{number}")
        world.pack()
        now = {name: world.home(world.revisions[name][-1]) for name in world.tasks}
        assert all(now[name] == home for name, home in homes.items() if name in now)
        homes = now
        used += len(world.pools)
        bound += ceil(len(world.tasks) / 8)
    assert used <= 1.2 * bound
