"""Who has the candidate slots of a pool.

    can go on, has a slot ──→ keeps it          in the order in which their revisions arrived
    can go on, waits      ──→ gets the next
    held, has a slot      ──→ keeps it while nobody above needs it
    held, waits           ──→ gets one that is left over

A candidate is held while it goes no further by itself: paused, or its gate can't be measured. Those that can go on are never put off by one that can't, and what is held never
takes the slot of another that is held, so that two of them don't swap for ever. Whoever has a share of the traffic does not contend: its slot is not at stake.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# Beyond this many nobody is told the exact number: with each slot that is freed every status behind it would be written anew.
EXACT_UP_TO = 9
MORE = EXACT_UP_TO + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A candidate without traffic. `arrived` is the time at which its revision was made, in RFC 3339."""

    revision: str
    arrived: str
    has_slot: bool
    can_go_on: bool


@dataclass(frozen=True, slots=True)
class Allotment:
    """Revisions that have a slot, and those that wait, the next one first."""

    holders: frozenset[str]
    waiting: tuple[str, ...]

    def before(self, revision: str) -> int | None:
        """How many wait before it, `MORE` standing for that many or more; None: it doesn't wait."""
        return min(self.waiting.index(revision), MORE) if revision in self.waiting else None


def allot(contenders: Iterable[Contender], *, free: int) -> Allotment:
    """Gives `free` slots, a number below zero counting as none, to the contenders of one pool, those that they have among them."""
    ranked = sorted(contenders, key=_claim)
    given = max(0, free)
    # Who has just lost a slot stands where it would stand without ever having had one, so that the next look changes nothing.
    waiting = sorted(ranked[given:], key=_turn)
    return Allotment(
        holders=frozenset(contender.revision for contender in ranked[:given]), waiting=tuple(contender.revision for contender in waiting)
    )


def in_words(pool: str, before: int) -> str:
    """What people read of a candidate that waits."""
    place = "it is next" if before == 0 else f"{before} or more before it" if before >= MORE else f"{before} before it"
    return f"waits for a candidate slot of pool {pool}; {place}"


def _claim(contender: Contender) -> tuple[bool, bool, str, str]:
    return not contender.can_go_on, not contender.has_slot, contender.arrived, contender.revision


def _turn(contender: Contender) -> tuple[bool, str, str]:
    return not contender.can_go_on, contender.arrived, contender.revision
