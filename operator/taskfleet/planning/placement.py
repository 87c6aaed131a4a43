"""Where a task's revisions are: the pools that have them as members, and what those say of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from taskfleet.api.conditions import Condition, ConditionType
from taskfleet.api.modelpool import Member, MemberState, MemberStatus, ModelPool
from taskfleet.api.revision import TaskModelRevision
from taskfleet.planning import revisions
from taskfleet.planning.conditions import find
from taskfleet.planning.packing_key import PackingKey, key_of_pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A revision on a pool. `status` is None until the pool has said something about it."""

    revision: TaskModelRevision
    pool: ModelPool
    member: Member
    status: MemberStatus | None

    @property
    def digest_agrees(self) -> bool:
        """Do record and member name the same bytes? Gateways build the engine's name from the record, agents from the member."""
        return self.member.adapter is None or (
            self.member.adapter.digest is not None and self.member.adapter.digest == self.revision.status.digest
        )

    @property
    def proven(self) -> bool:
        return self.status is not None and self.status.state is MemberState.PROVEN and self.digest_agrees

    @property
    def failed(self) -> bool:
        return self.status is not None and self.status.state is MemberState.FAILED

    @property
    def pool_available(self) -> Condition | None:
        return find(self.pool.status.conditions, ConditionType.AVAILABLE)


def placements(task_model: str, found: Iterable[TaskModelRevision], pools: Iterable[ModelPool]) -> list[Placement]:
    """All of a task's living revisions on living pools, by name of the pool."""
    living = revisions.living(found)
    result: list[Placement] = []
    for pool in sorted(pools, key=lambda pool: pool.metadata.name):
        own = [member for member in pool.spec.members if member.task_model == task_model and member.revision in living]
        if not own or pool.metadata.deletion_timestamp is not None:
            continue
        said = {status.revision: status for status in pool.status.members}
        result += [
            Placement(revision=living[member.revision], pool=pool, member=member, status=said.get(member.revision)) for member in own
        ]
    return result


def placement_on(key: PackingKey, revision: str, found: Iterable[Placement]) -> Placement | None:
    """The revision's place on a pool of the key."""
    return next((place for place in found if place.revision.metadata.name == revision and key_of_pool(place.pool) == key), None)


def placement_in(pool: str, revision: str, found: Iterable[Placement]) -> Placement | None:
    """The revision's place on the pool of that name."""
    return next((place for place in found if (place.revision.metadata.name, place.pool.metadata.name) == (revision, pool)), None)
