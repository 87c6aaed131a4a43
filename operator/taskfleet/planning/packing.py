"""Which revisions are members of which pool.

First fit by packing key: a task goes to the first pool that has room, and a new pool is made where none has. Members never move for tidiness: a pod that serves is worth
more than a tidy fleet. All revisions of a task are on the pool that has the first of them.

Room is counted twice: tasks against `adapters.maxPerPool`, and adapters that an engine is told to hold against `maxPerPool + candidateSlots`. A candidate without a digest
costs nothing, so a broken source never takes a slot from its neighbours. Candidates get slots in the order in which their revisions were made (`rollout.slots`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taskfleet import names
from taskfleet.api.modelpool import Member, ModelPool, ModelPoolSpec
from taskfleet.api.servingclass import AdapterLimits, Autoscaler, ServingClass
from taskfleet.api.taskmodel import Isolation, Scaling
from taskfleet.planning.packing_key import PackingKey
from taskfleet.planning.plans import Owner, PackingPlan, PoolDeletion, PoolDraft
from taskfleet.planning.rollout.contention import contention, has_digest
from taskfleet.planning.rollout.slots import Contender, allot, in_words
from taskfleet.planning.scaling import replicas
from taskfleet.planning.snapshot import PackingSnapshot, PackingTask
from taskfleet.planning.wanted import Wanted, wanted

# The bound of ModelPool.spec.members.
MAX_MEMBERS = 600


@dataclass(frozen=True, slots=True)
class _ResolvedBase:
    """What a base's revision stands for; None where that is not known, or has no name."""

    digest: str | None
    version: str | None


@dataclass(slots=True, kw_only=True)
class _Pool:
    """A pool while it is being packed."""

    name: str
    before: ModelPool | None
    members: dict[str, Member] = field(default_factory=dict)
    # Revisions that no engine could load: they are tried again, and take no slot from those that can be.
    refused: frozenset[str] = frozenset()

    @property
    def tasks(self) -> set[str]:
        return {member.task_model for member in self.members.values()}

    @property
    def extras(self) -> int:
        """Adapters beyond the first of each task."""
        held = [member.task_model for member in self.members.values() if self._holds(member)]
        return len(held) - len(set(held))

    def has_room_for_task(self, limits: AdapterLimits) -> bool:
        tasks = len(self.tasks) + 1
        return tasks <= limits.max_per_pool and tasks + self.extras <= _slots(limits) and len(self.members) < MAX_MEMBERS

    def free_slots(self, limits: AdapterLimits, contenders: Collection[str]) -> int:
        """Slots for the contenders, those that they have among them: each task has a place for one adapter, whether it holds one or not."""
        held = [member.task_model for name, member in self.members.items() if name not in contenders and self._holds(member)]
        return _slots(limits) - len(self.tasks) - (len(held) - len(set(held)))

    def _holds(self, member: Member) -> bool:
        return member.revision not in self.refused and has_digest(member)


def pack(snapshot: PackingSnapshot) -> PackingPlan:
    """The pools of one key as they are to be. A pure function: the same snapshot gives the same plan."""
    key = snapshot.key
    present = sorted(
        (pool for pool in snapshot.pools if pool.metadata.deletion_timestamp is None and key.pool_index(pool.metadata.name) is not None),
        key=lambda pool: key.pool_index(pool.metadata.name) or 0,
    )
    wishes = _wishes(snapshot, present)
    serving_class = next((found for found in snapshot.serving_classes if found.metadata.name == key.serving_class), None)
    notes: list[str] = []

    by_task = {wish.task.metadata.name: wish for wish in wishes}
    refused = frozenset(name for wish in wishes for name in wish.refused)
    pools = [_kept(pool, by_task, snapshot.unreadable, refused) for pool in present]
    if serving_class is not None:
        for wish in wishes:
            notes += _placed(wish, pools, key, serving_class.spec.adapters)
        for pool in pools:
            notes += _held(pool, by_task, serving_class.spec.adapters)

    base = _resolved_base(present, snapshot)
    drafts = [_draft(pool, snapshot, by_task, serving_class, base) for pool in pools if pool.members]
    empty = [pool.before for pool in pools if not pool.members and pool.before is not None]
    notes += [f"pool {pool.metadata.name} has no members left and is deleted" for pool in empty]
    return PackingPlan(
        apply=tuple(drafts),
        delete=tuple(PoolDeletion(name=pool.metadata.name, uid=pool.metadata.uid) for pool in empty),
        notes=tuple(notes),
    )


def _wishes(snapshot: PackingSnapshot, present: Iterable[ModelPool]) -> list[Wanted]:
    """What each task wants of the pools, the oldest task first."""
    members: dict[str, set[str]] = defaultdict(set)
    for pool in present:
        for member in pool.spec.members:
            members[member.task_model].add(member.revision)
    pool_names = frozenset(pool.metadata.name for pool in present)
    found = []
    for entry in sorted(snapshot.tasks, key=_age):
        own = frozenset(members.get(entry.task.metadata.name, ()))
        found.append(wanted(snapshot, entry, pool_names=pool_names, members=own))
    return [wish for wish in found if wish is not None]


def _kept(pool: ModelPool, wishes: Mapping[str, Wanted], unreadable: frozenset[str], refused: frozenset[str]) -> _Pool:
    kept = _Pool(name=pool.metadata.name, before=pool, refused=refused)
    for member in pool.spec.members:
        wish = wishes.get(member.task_model)
        if member.task_model in unreadable or (wish is not None and wish.frozen):
            kept.members[member.revision] = member
        elif wish is not None and member.revision in wish.revisions and member.revision in wish.kept | {wish.target}:
            digest = member.adapter.digest if member.adapter else None
            kept.members[member.revision] = _member(
                wish, member.revision, digest, member.resolved_version, waits_behind=member.waits_behind
            )
    return kept


def _placed(wish: Wanted, pools: list[_Pool], key: PackingKey, limits: AdapterLimits) -> list[str]:
    """Puts the target on a pool, and says where it went."""
    target = wish.target
    if target is None or any(target in pool.members for pool in pools):
        return []
    task = wish.task.metadata.name
    home = next((pool for pool in pools if task in pool.tasks), None)
    if home is not None and len(home.members) >= MAX_MEMBERS:
        return [f"{target} waits: pool {home.name} has {MAX_MEMBERS} members"]
    if home is None:
        home = next((pool for pool in pools if pool.has_room_for_task(limits)), None)
    if home is None:
        home = _Pool(name=_free_name(key, pools), before=None)
        pools.append(home)
        home.members[target] = _member(wish, target, None)
        return [f"{target} gets the new pool {home.name}"]
    home.members[target] = _member(wish, target, None)
    return [f"{target} joins pool {home.name}"]


def _held(pool: _Pool, wishes: Mapping[str, Wanted], limits: AdapterLimits) -> list[str]:
    """Hands recorded digests to members as far as the engines have slots: with the digest a member is loaded, without it it leaves the engines."""
    contenders: dict[str, Contender] = {}
    stuck: list[str] = []
    for task in sorted(pool.tasks & wishes.keys()):
        wish = wishes[task]
        found = contention(wish, [member for member in pool.members.values() if member.task_model == task])
        for name in found.at_home:
            pool.members[name] = _loaded(wish, pool.members[name])
        contenders.update((contender.revision, contender) for contender in found.contenders)
        stuck += found.stuck
    allotment = allot(contenders.values(), free=pool.free_slots(limits, contenders))
    notes = []
    for name, contender in contenders.items():
        member, before = pool.members[name], allotment.before(name)
        wish = wishes[member.task_model]
        pool.members[name] = _loaded(wish, member) if before is None else _member(wish, name, None, waits_behind=before)
        if before is not None and contender.has_slot:
            notes.append(f"{name} gives its candidate slot of pool {pool.name} to one that can go on")
        elif before is not None and member.waits_behind is None:
            notes.append(f"{name} {in_words(pool.name, before)}")
    # One for each that could go on; whichever, as long as it is the same one at every look.
    wanting = sum(contenders[name].can_go_on for name in allotment.waiting)
    for name in sorted(stuck)[:wanting]:
        pool.members[name] = pool.members[name].model_copy(update={"slot_wanted": True})
    return notes


def _loaded(wish: Wanted, member: Member) -> Member:
    """The member with the digest that is recorded for it; one that it has already is never replaced."""
    if has_digest(member):
        return member
    status = wish.revisions[member.revision].status
    return _member(wish, member.revision, status.digest, status.resolved_version)


def _member(wish: Wanted, name: str, digest: str | None, version: str | None = None, *, waits_behind: int | None = None) -> Member:
    revision = wish.revisions[name]
    adapter = revision.spec.adapter
    return Member(
        revision=name,
        uid=revision.metadata.uid,
        task_model=wish.task.metadata.name,
        role=wish.role(name),
        # A pin in the spec is no proof that the source has it: the digest comes from the resolution, which checks that.
        adapter=adapter.model_copy(update={"digest": digest}) if adapter is not None else None,
        resolved_version=version,
        waits_behind=waits_behind,
    )


def _draft(
    pool: _Pool, snapshot: PackingSnapshot, wishes: Mapping[str, Wanted], serving_class: ServingClass | None, resolved: _ResolvedBase
) -> PoolDraft:
    key = snapshot.key
    members = sorted(pool.members.values(), key=lambda member: (member.task_model, member.revision))
    external = serving_class is not None and serving_class.spec.scaling.autoscaler is Autoscaler.EXTERNAL
    scaled_by_other = external and pool.name in snapshot.scaled_by_others
    recorded = _recorded_base(pool.before) if pool.before is not None else None
    base = recorded or resolved
    return PoolDraft(
        name=pool.name,
        namespace=key.namespace,
        labels={
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            **({names.LABEL_TASK_MODEL: key.task_model} if key.isolation is Isolation.DEDICATED else {}),
        },
        spec=ModelPoolSpec(
            serving_class_name=key.serving_class,
            base=key.base,
            base_digest=base.digest,
            base_resolved_revision=base.version,
            isolation=key.isolation,
            replicas=_replicas(pool, wishes, serving_class, snapshot.replicas.get(pool.name)),
            members=members,
        ),
        owners=tuple(Owner(revision=member.revision, uid=member.uid) for member in members),
        # Until the other autoscaler has taken the field it stays ours with the value that it has: a field that nobody owns falls back to its default.
        scaled_by_other=scaled_by_other,
        resource_version=pool.before.metadata.resource_version if external and not scaled_by_other and pool.before is not None else "",
    )


def _replicas(pool: _Pool, wishes: Mapping[str, Wanted], serving_class: ServingClass | None, decided: int | None) -> int:
    """As decided, or what the pool has; within its bounds."""
    present = pool.before.spec.replicas if pool.before is not None else 1
    if serving_class is None:
        return present
    scaling = serving_class.spec.scaling
    if pool.before is not None and scaling.autoscaler is Autoscaler.EXTERNAL:
        return present
    wished = [replicas.scaling_of(_scaling(wishes.get(task)), scaling, present=present) for task in sorted(pool.tasks)]
    bounds = replicas.bounds_of(wished)
    if pool.before is None:
        # Its pods are needed to look up digests and to prove adapters.
        return max(1, bounds.fewest)
    return bounds.clipped(present if decided is None else decided)


def _scaling(wish: Wanted | None) -> Scaling | None:
    """None: the task is suspended or can't be read, and holds what there is."""
    return None if wish is None or wish.frozen else wish.task.spec.scaling


def _resolved_base(pools: Sequence[ModelPool], snapshot: PackingSnapshot) -> _ResolvedBase:
    """One base for all pools of a key: a tag that has moved since must not give two truths."""
    for pool in pools:
        if (recorded := _recorded_base(pool)) is not None:
            return recorded
    name = next((pool.metadata.name for pool in pools if pool.metadata.name in snapshot.base_digests), "")
    return _ResolvedBase(snapshot.base_digests.get(name), snapshot.base_versions.get(name))


def _recorded_base(pool: ModelPool) -> _ResolvedBase | None:
    spec = pool.spec
    return _ResolvedBase(spec.base_digest, spec.base_resolved_revision) if spec.base_digest is not None else None


def _free_name(key: PackingKey, pools: Iterable[_Pool]) -> str:
    taken = {pool.name for pool in pools}
    index = 0
    while key.pool_name(index) in taken:
        index += 1
    return key.pool_name(index)


def _slots(limits: AdapterLimits) -> int:
    return limits.max_per_pool + limits.candidate_slots


def _age(entry: PackingTask) -> tuple[str, str]:
    metadata = entry.task.metadata
    return metadata.creation_timestamp, metadata.name
