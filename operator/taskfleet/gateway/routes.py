"""Which pods answer for which model: a table kept from TaskModels, TaskModelRevisions, ModelPools and EndpointSlices. No I/O, no clock.

Four rules make it safe to act on while the cluster changes under it:
- A route in force is replaced only by a whole one: all its revisions known, and their names inside the engine with them.
- An emptied status takes no route away; only a deleted TaskModel does, at once. A TaskModel of the same name with another UID is another one.
- Without any route a task is answered by its stable revision, wherever in its namespace that is: agents refuse what they don't hold, so asking is safe.
- A pod is asked only where its EndpointSlice claims the UID of the ModelPool of that name and namespace. Who owns a namespace can label a Service there as
  anything; the token that goes with a request must still be good for nothing outside of that namespace.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from taskfleet.api.taskmodel import TrafficTarget
from taskfleet.gateway.answer_ids import mark
from taskfleet.gateway.model_name import ModelName
from taskfleet.gateway.records import STABLE_PHASE, Endpoint, Key, PoolRecord, RevisionRecord, SliceRecord, TaskRecord, in_order
from taskfleet.names import engine_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A revision that requests may go to."""

    revision: RevisionRecord
    pool: str | None  # None: not known; any pool of the namespace is asked
    weight: int
    model: str  # its name inside the engine
    shadow: int = 0  # percent of requests that are mirrored to it


@dataclass(frozen=True, slots=True)
class Route:
    """The targets of a task, in the order of the status."""

    task: TaskRecord
    targets: tuple[Target, ...]
    published: bool  # it came from a status; False: the stable revision of a status that was lost

    @property
    def stable(self) -> tuple[Target, ...]:
        """The first target, and others of the same revision: what may answer instead of a candidate."""
        return tuple(target for target in self.targets if target.revision.uid == self.targets[0].revision.uid)


@dataclass(slots=True)
class _Task:
    record: TaskRecord
    route: Route | None = None


@dataclass(slots=True)
class RouteTable:
    """The table. Every change calls `on_change` with its namespace, so that requests that wait can look again."""

    on_change: Callable[[str], None] = lambda _: None
    _tasks: dict[Key, _Task] = field(default_factory=dict)
    _revisions: dict[Key, dict[str, RevisionRecord]] = field(default_factory=dict)  # by task, then by name
    _marked: dict[bytes, RevisionRecord] = field(default_factory=dict)  # by the marks of their UIDs
    _pools: dict[Key, str] = field(default_factory=dict)  # UIDs
    _slices: dict[Key, SliceRecord] = field(default_factory=dict)
    _endpoints: dict[Key, tuple[Endpoint, ...]] = field(default_factory=dict)  # by pool
    _starting: dict[Key, tuple[Endpoint, ...]] = field(default_factory=dict)  # by pool: not Ready by their slices
    _answering: set[Endpoint] = field(default_factory=set)  # of those: they say that they are
    _anywhere: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)  # by namespace: all pools' endpoints

    # What requests ask

    def task(self, key: Key) -> TaskRecord | None:
        """The TaskModel, where it exists."""
        entry = self._tasks.get(key)
        return entry.record if entry else None

    def tasks(self) -> list[TaskRecord]:
        """All TaskModels, in the order of their names."""
        return [self._tasks[key].record for key in sorted(self._tasks)]

    def count(self) -> int:
        """How many TaskModels there are."""
        return len(self._tasks)

    def route(self, key: Key) -> Route | None:
        """The route in force; None where the TaskModel does not exist or nothing can answer for it yet."""
        entry = self._tasks.get(key)
        return entry.route if entry else None

    def pinned(self, name: ModelName) -> Target | None:
        """The revision that a client pinned, by its name or the hash at its end; None where there is none that could answer."""
        entry = self._tasks.get((name.namespace, name.name))
        if entry is None or name.revision is None:
            return None
        in_force = {target.revision.name: target for target in (entry.route.targets if entry.route else ())}
        for candidate in (name.revision, f"{name.name}-{name.revision}"):
            if target := in_force.get(candidate):
                return target
            record = self._revisions.get((name.namespace, name.name), {}).get(candidate)
            if record and record.owner_uid == entry.record.uid:
                return _target(record, pool=None, weight=0)
        return None

    def marked(self, mark_of_uid: bytes) -> RevisionRecord | None:
        """The revision whose answers carry this mark (answer_ids.mark); None where it is gone."""
        return self._marked.get(mark_of_uid)

    def endpoints(self, namespace: str, pool: str | None) -> tuple[Endpoint, ...]:
        """Ready agents of a pool, or of all pools of the namespace."""
        if pool is None:
            return self._anywhere.get(namespace, ())
        return self._endpoints.get((namespace, pool), ())

    def starting(self, namespace: str, pool: str) -> tuple[Endpoint, ...]:
        """Agents of a pool that are not Ready, as far as the cluster has told."""
        return self._starting.get((namespace, pool), ())

    # What pods tell

    def answers(self, namespace: str, pool: str, endpoint: Endpoint) -> None:
        """A pod says that it is Ready. It counts as that from now on; what the cluster tells of it takes the word's place."""
        if endpoint in self.starting(namespace, pool) and endpoint not in self._answering:
            self._answering.add(endpoint)
            self._gather(namespace, {pool})

    def refuses(self, namespace: str, pool: str | None, endpoint: Endpoint) -> None:
        """A pod did not take a request. If its own word was all that made it Ready, that is over."""
        if pool is not None and endpoint in self._answering:
            self._answering.discard(endpoint)
            self._gather(namespace, {pool})

    # What the watches tell

    def put_task(self, record: TaskRecord) -> None:
        """A TaskModel was seen. One that is being deleted counts as gone: nobody waits for its children first."""
        if record.deleted:
            self.remove_task(record.key)
            return
        entry = self._tasks.get(record.key)
        if entry is None or entry.record.uid != record.uid:
            entry = self._tasks[record.key] = _Task(record)
        entry.record = record
        self._settle(entry)
        self.on_change(record.namespace)

    def remove_task(self, key: Key) -> None:
        """A TaskModel is gone: 404 from now on."""
        if self._tasks.pop(key, None):
            self.on_change(key[0])

    def put_revision(self, record: RevisionRecord) -> None:
        """A TaskModelRevision was seen."""
        revisions = self._revisions.setdefault((record.namespace, record.task_model), {})
        if before := revisions.get(record.name):
            self._marked.pop(mark(before.uid), None)
        revisions[record.name] = record
        self._marked[mark(record.uid)] = record
        self._resettle((record.namespace, record.task_model))

    def remove_revision(self, namespace: str, name: str) -> None:
        """A TaskModelRevision is gone. A route in force keeps what it needs of it."""
        for key, revisions in self._revisions.items():
            if key[0] == namespace and name in revisions:
                self._marked.pop(mark(revisions.pop(name).uid), None)
                if not revisions:
                    del self._revisions[key]
                self._resettle(key)
                return

    def put_pool(self, record: PoolRecord) -> None:
        """A ModelPool was seen."""
        if self._pools.get((record.namespace, record.name)) != record.uid:
            self._pools[record.namespace, record.name] = record.uid
            self._gather(record.namespace, {record.name})

    def remove_pool(self, namespace: str, name: str) -> None:
        """A ModelPool is gone, and its pods are nobody's any more."""
        if self._pools.pop((namespace, name), None):
            self._gather(namespace, {name})

    def put_slice(self, record: SliceRecord) -> None:
        """An EndpointSlice was seen."""
        before = self._slices.get((record.namespace, record.name))
        self._slices[record.namespace, record.name] = record
        if before != record:
            self._gather(record.namespace, {record.pool} | ({before.pool} if before else set()))

    def remove_slice(self, namespace: str, name: str) -> None:
        """An EndpointSlice is gone."""
        if before := self._slices.pop((namespace, name), None):
            self._gather(namespace, {before.pool})

    def _resettle(self, key: Key) -> None:
        if entry := self._tasks.get(key):
            self._settle(entry)
            self.on_change(key[0])

    def _settle(self, entry: _Task) -> None:
        revisions = self._revisions.get(entry.record.key, {})
        in_force = {target.revision.uid: target.revision for target in (entry.route.targets if entry.route else ())}
        if entry.record.traffic:
            targets = [_published(target, revisions.get(target.revision), in_force) for target in entry.record.traffic]
            if all(targets):
                entry.route = Route(entry.record, tuple(target for target in targets if target), published=True)
                return
        if entry.route is None or not entry.route.published:
            entry.route = _last_promoted(entry.record, revisions)

    def _gather(self, namespace: str, pools: set[str]) -> None:
        for pool in pools:
            claim = (namespace, pool, self._pools.get((namespace, pool)))
            slices = [record for record in self._slices.values() if (record.namespace, record.pool, record.pool_uid) == claim]
            ready = {endpoint for record in slices for endpoint in record.endpoints}
            starting = {endpoint for record in slices for endpoint in record.starting} - ready
            self._answering -= set(self.starting(namespace, pool)) - starting
            _keep(self._endpoints, (namespace, pool), ready | (starting & self._answering))
            _keep(self._starting, (namespace, pool), starting)
        everywhere = {e for (place, _), endpoints in self._endpoints.items() if place == namespace for e in endpoints}
        self._anywhere[namespace] = in_order(everywhere)
        self.on_change(namespace)


def _keep(table: dict[Key, tuple[Endpoint, ...]], pool: Key, found: set[Endpoint]) -> None:
    if found:
        table[pool] = in_order(found)
    else:
        table.pop(pool, None)


def _published(target: TrafficTarget, seen: RevisionRecord | None, in_force: dict[str, RevisionRecord]) -> Target | None:
    record = seen if seen is not None and seen.uid == target.uid else in_force.get(target.uid)
    return _target(record, pool=target.pool, weight=target.weight_percent, shadow=target.shadow_percent or 0) if record else None


def _last_promoted(task: TaskRecord, revisions: dict[str, RevisionRecord]) -> Route | None:
    stable = [record for record in revisions.values() if record.phase == STABLE_PHASE and record.owner_uid == task.uid]
    newest = max(stable, key=lambda record: (record.created, record.name), default=None)
    target = _target(newest, pool=None, weight=100) if newest else None
    return Route(task, (target,), published=False) if target else None


def _target(record: RevisionRecord, *, pool: str | None, weight: int, shadow: int = 0) -> Target | None:
    """None where the revision's name inside the engine is not known: its digest is not resolved, or it is a bare base and the pool is unknown."""
    model = pool
    if record.has_adapter:
        model = engine_name(record.namespace, record.task_model, record.digest) if record.digest else None
    return Target(revision=record, pool=pool, weight=weight, model=model, shadow=shadow) if model else None
