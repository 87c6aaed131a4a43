"""Which members of a pool contend for its candidate slots, and which have a place anyway. Who gets one is `slots`' to decide."""

from collections.abc import Iterable
from dataclasses import dataclass

from taskfleet.api.modelpool import Member, Role
from taskfleet.planning.revisions import Phase
from taskfleet.planning.rollout.phase import UNDECIDED, RolloutPhase
from taskfleet.planning.rollout.slots import Contender
from taskfleet.planning.wanted import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """`at_home` are to be loaded whoever else wants to be; of them, `stuck` are held on a step of their canary. Members of neither kind stay as they are."""

    at_home: tuple[str, ...] = ()
    contenders: tuple[Contender, ...] = ()
    stuck: tuple[str, ...] = ()


def contention(wish: Wanted, members: Iterable[Member]) -> Contention:
    """Of one task's members of one pool.

    At home: what serves, what has a share of the traffic, what is drained, and the first of the task. A revision without recorded digest can't be loaded yet. One that no engine
    could load keeps its digest, because agents try it again; it counts for nothing (`packing`), so that its slot is another's.
    """
    if wish.frozen:
        return Contention()
    able = [member for member in members if _can_be_loaded(wish, member) and not (has_digest(member) and _failed(wish, member))]
    at_home = [member.revision for member in able if has_digest(member) and not _has_no_traffic(wish, member)]
    others = sorted((_contender(wish, member) for member in able if member.revision not in at_home), key=_arrival)
    first = [] if at_home else others[:1]
    return Contention(
        at_home=(*at_home, *(contender.revision for contender in first)),
        contenders=tuple(others[len(first) :]),
        stuck=tuple(name for name in at_home if _is_stuck(wish, name)),
    )


def has_digest(member: Member) -> bool:
    """Are engines told to hold its adapter?"""
    return member.adapter is not None and member.adapter.digest is not None


def _can_be_loaded(wish: Wanted, member: Member) -> bool:
    return member.adapter is not None and wish.revisions[member.revision].status.digest is not None


def _failed(wish: Wanted, member: Member) -> bool:
    return wish.revisions[member.revision].status.phase == Phase.FAILED


def _has_no_traffic(wish: Wanted, member: Member) -> bool:
    routed = {target.revision for target in wish.task.status.traffic}
    return wish.role(member.revision) is Role.CANDIDATE and member.revision not in routed


def _is_stuck(wish: Wanted, revision: str) -> bool:
    rollout = wish.task.status.rollout
    return rollout is not None and rollout.revision == revision and rollout.phase == RolloutPhase.STEPPING and rollout.hold in UNDECIDED


def _contender(wish: Wanted, member: Member) -> Contender:
    rollout = wish.task.status.rollout
    held = rollout is not None and rollout.revision == member.revision and rollout.hold is not None
    return Contender(
        revision=member.revision,
        arrived=wish.revisions[member.revision].metadata.creation_timestamp,
        has_slot=has_digest(member),
        can_go_on=not held and not _failed(wish, member),
    )


def _arrival(contender: Contender) -> tuple[str, str]:
    return contender.arrived, contender.revision
