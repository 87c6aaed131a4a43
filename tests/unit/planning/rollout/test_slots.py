"""Candidate slots: who gets one, who gives one up, and that nobody waits for ever."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskfleet.planning.rollout.slots import EXACT_UP_TO, MORE, Allotment, Contender, allot, in_words

KINDS = {"goes": (True, True), "waits": (False, True), "held": (True, False), "parked": (False, False)}


def contender(revision: str, kind: str, arrived: int = 0) -> Contender:
    has_slot, can_go_on = KINDS[kind]
    return Contender(revision=revision, arrived=f"2026-01-01T00:00:{arrived:02}Z", has_slot=has_slot, can_go_on=can_go_on)


def after(contenders: list[Contender], found: Allotment) -> list[Contender]:
    """The same contenders, once the allotment was carried out."""
    return [replace(one, has_slot=one.revision in found.holders) for one in contenders]


@pytest.mark.parametrize(
    ("kinds", "free", "holders", "waiting"),
    [
        ("", 1, "", ""),
        ("a:waits", 1, "a", ""),
        ("a:waits", 0, "", "a"),
        ("a:waits", -3, "", "a"),
        ("a:waits b:waits c:waits", 1, "a", "bc"),  # in the order in which they arrived
        ("a:waits b:goes c:waits", 1, "b", "ac"),  # whoever goes on is not interrupted by an older one
        ("a:goes b:goes", 1, "a", "b"),  # the class has fewer slots than before: the newest gives way
        ("a:held b:waits", 1, "b", "a"),  # one that is stuck blocks nobody
        ("a:held b:waits c:waits", 1, "b", "ca"),
        ("a:held b:waits", 2, "ab", ""),  # with room for both it stays
        ("a:parked b:held", 1, "b", "a"),  # two that are held never swap
        ("a:parked b:goes", 1, "b", "a"),
        ("a:parked b:goes", 2, "ab", ""),  # a slot that nobody needs
        ("a:parked b:goes c:waits", 2, "bc", "a"),  # somebody who can go on needs it
        ("a:parked b:parked", 1, "a", "b"),
    ],
)
def test_slots_are_given(kinds: str, free: int, holders: str, waiting: str) -> None:
    named = [word.split(":") for word in kinds.split()]
    found = allot([contender(name, kind, place) for place, (name, kind) in enumerate(named)], free=free)
    assert (found.holders, found.waiting) == (frozenset(holders), tuple(waiting))


def test_name_decides_between_those_that_arrived_in_the_same_second() -> None:
    assert allot([contender("b", "waits"), contender("a", "waits")], free=0).waiting == ("a", "b")


@pytest.mark.parametrize("free", range(-1, 5))
def test_every_constellation_of_four_is_just(free: int) -> None:
    for kinds in product(KINDS, repeat=4):
        contenders = [contender(name, kind, place) for place, (name, kind) in enumerate(zip("abcd", kinds, strict=True))]
        found = allot(contenders, free=free)
        assert len(found.holders) == min(max(0, free), 4)
        assert found.holders.isdisjoint(found.waiting)
        assert found.holders | set(found.waiting) == set("abcd")
        by_name = {one.revision: one for one in contenders}
        able_to_go = {name for name, one in by_name.items() if one.can_go_on}
        # Nobody who can go on waits while one that can't has a slot.
        assert not (able_to_go & set(found.waiting) and found.holders - able_to_go)
        # Nobody who goes on loses a slot to anybody but others that go on.
        interrupted = {name for name in found.waiting if by_name[name].has_slot and by_name[name].can_go_on}
        assert not interrupted or all(by_name[name].has_slot and by_name[name].can_go_on for name in found.holders)
        # Of those that wait and can go on, the oldest are served.
        newly = {name for name in found.holders & able_to_go if not by_name[name].has_slot}
        passed_over = {name for name in able_to_go & set(found.waiting) if not by_name[name].has_slot}
        assert not newly or not passed_over or max(newly) < min(passed_over)
        # Nothing moves where nothing has changed.
        assert allot(after(contenders, found), free=free) == found


def test_place_is_exact_for_those_in_front_and_a_bound_for_the_others() -> None:
    found = allot([contender(f"r{number:02}", "waits", number) for number in range(50)], free=0)
    places = [found.before(f"r{number:02}") for number in range(50)]
    assert places == [*range(EXACT_UP_TO + 1), *[MORE] * (50 - MORE)]
    assert found.before("r50") is None


def test_a_step_forward_of_fifty_rewrites_few_places() -> None:
    before = allot([contender(f"r{number:02}", "waits", number) for number in range(50)], free=0)
    now = allot([contender(f"r{number:02}", "waits", number) for number in range(1, 50)], free=0)
    moved = [name for name in now.waiting if before.before(name) != now.before(name)]
    assert len(moved) == MORE


@pytest.mark.parametrize(
    ("before", "words"),
    [(0, "it is next"), (1, "1 before it"), (EXACT_UP_TO, "9 before it"), (MORE, "10 or more before it")],
)
def test_waiting_is_told(before: int, words: str) -> None:
    assert in_words("tiny-f6b4", before) == f"waits for a candidate slot of pool tiny-f6b4; {words}"


@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=30), free=st.integers(1, 4), data=st.data())
def test_whoever_can_go_on_gets_a_slot_after_as_many_finishes_as_there_are_before_it(
    kinds: list[str], free: int, data: st.DataObject
) -> None:
    """New ones arrive all the time, in any state; whoever has a slot finishes in any order."""
    contenders = [contender(f"r{number:03}", kind, number) for number, kind in enumerate(kinds)]
    contenders = after(contenders, allot(contenders, free=free))
    patient = [one.revision for one in contenders if one.can_go_on and not one.has_slot]
    for finishes in range(len(patient)):
        assert patient[finishes] not in {one.revision for one in contenders if one.has_slot}
        able_to_go = [one for one in contenders if one.has_slot and one.can_go_on]
        # Slots are with those that can go on, so that there is always one that will finish.
        assert len(able_to_go) == free
        contenders.remove(data.draw(st.sampled_from(able_to_go)))
        arrival = data.draw(st.sampled_from(["waits", "parked"]))
        contenders.append(contender(f"s{finishes:03}", arrival, 59))
        contenders = after(contenders, allot(contenders, free=free))
        assert patient[finishes] in {one.revision for one in contenders if one.has_slot}


class Pool(RuleBasedStateMachine):
    """Any order of arrivals, holds, resumes and finishes."""

    def __init__(self) -> None:
        super().__init__()
        self.free = 2
        self.contenders: dict[str, Contender] = {}
        self.serial = 0

    @rule()
    def arrive(self) -> None:
        self.serial += 1
        self.contenders[f"r{self.serial:03}"] = contender(f"r{self.serial:03}", "waits")
        self._allot()

    @rule(free=st.integers(0, 3))
    def change_the_slots(self, free: int) -> None:
        self.free = free
        self._allot()

    @precondition(lambda self: self.contenders)
    @rule(data=st.data())
    def hold_or_resume(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.contenders)))
        self.contenders[name] = replace(self.contenders[name], can_go_on=not self.contenders[name].can_go_on)
        self._allot()

    @precondition(lambda self: any(one.has_slot for one in self.contenders.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        del self.contenders[data.draw(st.sampled_from(sorted(name for name, one in self.contenders.items() if one.has_slot)))]
        self._allot()

    def _allot(self) -> None:
        found = allot(self.contenders.values(), free=self.free)
        self.contenders = {name: replace(one, has_slot=name in found.holders) for name, one in self.contenders.items()}

    @invariant()
    def no_more_than_the_slots_are_held_and_none_is_left_over_while_somebody_waits(self) -> None:
        assert sum(one.has_slot for one in self.contenders.values()) == min(self.free, len(self.contenders))

    @invariant()
    def nobody_who_can_go_on_waits_for_one_that_is_held(self) -> None:
        held_with_slot = any(one.has_slot and not one.can_go_on for one in self.contenders.values())
        assert not held_with_slot or all(one.has_slot for one in self.contenders.values() if one.can_go_on)

    @invariant()
    def it_is_settled(self) -> None:
        before = dict(self.contenders)
        self._allot()
        assert self.contenders == before


Pool.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestPool = Pool.TestCase
