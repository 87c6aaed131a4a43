"""Counts of what became of requests, per revision: what a rollout is judged by and what scaling looks at. Told to the operator by `measurement_stream`.

They are plain integers, because every request counts. What each stands for: `api.measurements`; what counts as what: `outcome`.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from taskfleet.api.measurements import (
    LATENCY_BOUNDS_SECONDS,
    Counts,
    MeasurementBatch,
    RevisionCounts,
    ShadowCounts,
    TaskDemand,
    latency_bucket,
)
from taskfleet.gateway.demand import Demand
from taskfleet.gateway.records import Key, RevisionRecord
from taskfleet.gateway.schema_check import SchemaCheck, UncheckedError


@dataclass(slots=True, eq=False)
class Figures:
    """The counts of `api.measurements.Counts`, as they grow."""

    requests: int = 0
    errors: int = 0
    checked: int = 0
    invalid: int = 0
    good: int = 0
    bad: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_SECONDS) + 1))

    def ended(self, *, error: bool, seconds: float | None) -> None:
        """A request came to its end; `seconds` where it was answered well by this revision."""
        self.requests += 1
        if error:
            self.errors += 1
        elif seconds is not None:
            self.latency[latency_bucket(seconds)] += 1

    def counts(self) -> Counts:
        """As they are now."""
        return Counts(
            requests=self.requests,
            errors=self.errors,
            checked=self.checked,
            invalid=self.invalid,
            good=self.good,
            bad=self.bad,
            latency=tuple((bucket, count) for bucket, count in enumerate(self.latency) if count),
        )


@dataclass(slots=True, eq=False)
class ShadowFigures:
    """The counts of `api.measurements.ShadowCounts`, as they grow."""

    answers: Figures = field(default_factory=Figures)
    skipped: int = 0
    compared: int = 0
    agreed: int = 0

    def counts(self) -> ShadowCounts:
        """As they are now."""
        return ShadowCounts(answers=self.answers.counts(), skipped=self.skipped, compared=self.compared, agreed=self.agreed)


@dataclass(slots=True, eq=False)
class Tally:
    """One revision. `version` grows with every count, so that a stream sees what has changed."""

    revision: RevisionRecord
    live: Figures = field(default_factory=Figures)
    shadow: ShadowFigures | None = None
    version: int = 0
    schema: SchemaCheck | None = field(init=False)

    def __post_init__(self) -> None:
        text = self.revision.shaper.schema_text
        self.schema = SchemaCheck(text) if text is not None else None

    def ended(self, *, error: bool, seconds: float | None) -> None:
        """A live request came to its end; `seconds` where it was answered well by this revision."""
        self.live.ended(error=error, seconds=seconds)
        self.version += 1

    def mirrored(self, *, error: bool, seconds: float | None) -> None:
        """The same of a mirrored request."""
        self.shadow = self.shadow or ShadowFigures()
        self.shadow.answers.ended(error=error, seconds=seconds)
        self.version += 1

    def skipped(self) -> None:
        """A request that was to be mirrored was not."""
        self.shadow = self.shadow or ShadowFigures()
        self.shadow.skipped += 1
        self.version += 1

    def check(self, answer: str, figures: Figures) -> None:
        """Holds an answer against the task's schema, where there is time for it."""
        if self.schema is None:
            return
        try:
            figures.invalid += not self.schema.follows(answer)
        except UncheckedError:
            return
        figures.checked += 1
        self.version += 1

    def voted(self, *, good: bool) -> None:
        """A user has judged one of its answers."""
        if good:
            self.live.good += 1
        else:
            self.live.bad += 1
        self.version += 1

    def counts(self) -> RevisionCounts:
        """As they are now."""
        record = self.revision
        return RevisionCounts(
            namespace=record.namespace,
            task_model=record.task_model,
            revision=record.name,
            uid=record.uid,
            live=self.live.counts(),
            shadow=self.shadow.counts() if self.shadow is not None else None,
        )


class Measurements:
    """All counts of this process. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.replica = secrets.token_hex(8)
        self._clock = clock
        self._began = clock()
        self._tallies: dict[Key, dict[str, Tally]] = {}  # by task, then by UID
        self._demand: dict[Key, Demand] = {}

    def of(self, revision: RevisionRecord) -> Tally:
        """The tally of a revision that is in the routes."""
        task = (revision.namespace, revision.task_model)
        revisions = self._tallies.get(task) or self._tallies.setdefault(task, {})
        return revisions.get(revision.uid) or revisions.setdefault(revision.uid, Tally(revision))

    def demand(self, task: Key) -> Demand:
        """The demand for a TaskModel that exists."""
        return self._demand.get(task) or self._demand.setdefault(task, Demand())

    def forget_task(self, task: Key) -> None:
        """The TaskModel is gone."""
        self._tallies.pop(task, None)
        self._demand.pop(task, None)

    def forget_revision(self, task: Key, name: str) -> None:
        """The TaskModelRevision is gone."""
        revisions = self._tallies.get(task, {})
        for uid in [uid for uid, tally in revisions.items() if tally.revision.name == name]:
            del revisions[uid]

    def tallies(self) -> list[Tally]:
        """All there are."""
        return [tally for revisions in self._tallies.values() for tally in revisions.values()]

    def demands(self) -> Mapping[Key, Demand]:
        """Of all tasks that ever had a request."""
        return self._demand

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def age(self, moment: float) -> float:
        """The process's age at a moment, in seconds to the millisecond."""
        return round(moment - self._began, 3)


class Reader:
    """What one stream has told, and so what is new to it."""

    def __init__(self, measurements: Measurements) -> None:
        self._measurements = measurements
        self._told: dict[str, int] = {}  # versions by UID
        self._demand: dict[Key, int] = {}  # the same by task

    def changes(self) -> MeasurementBatch | None:
        """What has changed since the last call, the first time everything; None where nothing has."""
        revisions, demand = self._changed_revisions(), self._changed_demand()
        if not revisions and not demand:
            return None
        return self._batch(revisions, demand)

    def nothing(self) -> MeasurementBatch:
        """A sign of life."""
        return self._batch((), ())

    def _batch(self, revisions: tuple[RevisionCounts, ...], demand: tuple[TaskDemand, ...]) -> MeasurementBatch:
        measurements = self._measurements
        uptime = measurements.age(measurements.now())
        return MeasurementBatch(replica=measurements.replica, uptime_seconds=uptime, revisions=revisions, demand=demand)

    def _changed_revisions(self) -> tuple[RevisionCounts, ...]:
        tallies, told = self._measurements.tallies(), self._told
        changed = [tally for tally in tallies if told.get(tally.revision.uid) != tally.version]
        if changed or len(tallies) != len(told):
            self._told = {tally.revision.uid: tally.version for tally in tallies}
        return tuple(tally.counts() for tally in changed)

    def _changed_demand(self) -> tuple[TaskDemand, ...]:
        demands, told, now = self._measurements.demands(), self._demand, self._measurements.now()
        changed = {key: demand for key, demand in demands.items() if demand.under_way or told.get(key) != demand.version}
        gone = told.keys() - demands.keys()
        if not changed and not gone:
            return ()
        self._demand = {key: demand.version for key, demand in demands.items()}
        return tuple(_demand(key, changed.get(key), now, self._measurements.age) for key in sorted(changed.keys() | gone))


def _demand(key: Key, demand: Demand | None, now: float, age: Callable[[float], float]) -> TaskDemand:
    namespace, task_model = key
    if demand is None:
        return TaskDemand(namespace=namespace, task_model=task_model)
    last = now if demand.under_way else demand.last
    return TaskDemand(
        namespace=namespace,
        task_model=task_model,
        held=demand.held,
        in_flight=demand.under_way - demand.held,
        busy_seconds=round(demand.busy(now), 3),
        arrivals=demand.arrivals,
        last_request_seconds=None if last is None else age(last),
    )
