"""Demand for task models: the measurements of all gateways together, over windows of time.

Each process of the gateway counts for itself, and for as long as it lives. One that has ended is counted until its past has left the windows, and no longer: it is known by a
name of its own, so a stream that breaks off and comes back is the same process, and the next process at the same address is another.

What was heard is kept in memory alone. A new leader takes the time before it to have been as the first line says, and says since when it knows better (`PoolDemand.heard_since`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from taskfleet.api.measurements import HEARTBEAT_SECONDS, MeasurementBatch, TaskDemand
from taskfleet.controller.counter_history import CounterHistory, Levels
from taskfleet.controller.keys import TaskKey
from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS, PoolDemand, TaskDemandView

# A gateway that has said nothing for so long is not heard, whatever its connection looks like.
SILENT_SECONDS = 2 * HEARTBEAT_SECONDS

_FAST: Levels = ((0.25, float(FAST_WINDOW_SECONDS)),)
# The longest stable window that a class may have is an hour.
_STABLE: Levels = (*_FAST, (1.0, 60.0), (30.0, 3600.0))


@dataclass(slots=True)
class _TaskAtProcess:
    """One task at one process of the gateway. Times of the histories are the process's age, so the network's delays are in no figure."""

    busy: CounterHistory
    arrivals: CounterHistory
    held: int = 0
    under_way: int = 0  # held ones among them
    last_request: float | None = None  # this operator's clock


@dataclass(slots=True)
class _Process:
    """One process of the gateway, as of its last line."""

    age: float
    heard: float  # this operator's clock
    listening: bool = True
    told: bool = False  # has told all that it knew
    given_up: bool = False  # all gateways were heard again without this one
    tasks: dict[TaskKey, _TaskAtProcess] = field(default_factory=dict)

    def age_at(self, clock: float) -> float:
        return self.age + (clock - self.heard)


class GatewayDemand:
    """`clock`: monotonic seconds."""

    def __init__(self, *, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._on_demand: Callable[[TaskKey], None] = lambda _: None
        self._on_heard: Callable[[bool], None] = lambda _: None
        self._now = now
        self._clock = clock
        self._processes: dict[str, _Process] = {}
        self._ended: dict[TaskKey, float] = {}  # the last request at processes that are forgotten
        self._heard_since: float | None = None
        self._missed = False  # a process was forgotten before all gateways were heard again
        self._complete = False
        self._longest_window = 0.0  # of those that were asked for

    def listen(self, *, on_demand: Callable[[TaskKey], None], on_heard: Callable[[bool], None]) -> None:
        """`on_demand` is called with a TaskModel that got requests, or has more under way than before; `on_heard` when all gateways are heard, and when not all are any more."""
        self._on_demand, self._on_heard = on_demand, on_heard

    def take(self, batch: MeasurementBatch) -> None:
        """Takes in a line of a gateway."""
        clock = self._clock()
        process = self._processes.get(batch.replica)
        if process is None:
            process = self._processes[batch.replica] = _Process(age=batch.uptime_seconds, heard=clock)
        more = [task for told in batch.demand if self._take_task(task := _key(told), process, told, age=batch.uptime_seconds)]
        process.age, process.heard = batch.uptime_seconds, clock
        process.listening, process.told, process.given_up = True, True, False
        for key in more:
            self._on_demand(key)

    def lost(self, replica: str) -> None:
        """The process is heard no more: it has ended, or can't be reached."""
        process = self._processes.get(replica)
        if process is None or not process.listening:
            return
        process.listening = False
        clock = self._clock()
        for task in process.tasks.values():
            if task.under_way:
                task.last_request = clock
            task.held = task.under_way = 0

    def hears(self, *, all_gateways: bool) -> None:
        """Whether every replica of the gateway that requests may come through is heard; to be told now and then also where nothing has changed."""
        missed = [process for process in self._processes.values() if not process.listening and not process.given_up]
        if all_gateways and (missed or self._missed or self._heard_since is None):
            # Nobody knows what these had after their last line. One whose stream only broke off is among those that are heard again, and tells what it had.
            self._heard_since = self._clock()
            self._missed = False
            for process in missed:
                process.given_up = True
        self._forget_ended()
        if all_gateways != self._complete:
            self._complete = all_gateways
            self._on_heard(all_gateways)

    def of(self, namespace: str, tasks: Iterable[str], *, stable_seconds: float) -> PoolDemand | None:
        """The demand for these TaskModels of a namespace; None before any gateway was heard."""
        if not self._processes and self._heard_since is None and not self._missed:
            return None
        self._longest_window = max(self._longest_window, stable_seconds)
        clock, now = self._clock(), self._now()
        complete, since = self._known(clock)
        views = [self._view(TaskKey(namespace, name), stable_seconds, clock=clock, now=now, since=since) for name in tasks]
        return PoolDemand(tasks=tuple(view for view in views if view is not None), heard_since=_date(since, clock, now), complete=complete)

    def busy_seconds(self, task: TaskKey) -> float:
        """For how many seconds requests of the task were under way so far, each counted for itself. It falls when a process is forgotten."""
        clock = self._clock()
        return sum(
            _now(process.tasks[task], process, process.age_at(clock)) for process in self._processes.values() if task in process.tasks
        )

    def _known(self, clock: float) -> tuple[bool, float]:
        """Whether every gateway is heard now, and since when nothing was missed."""
        listening = [process for process in self._processes.values() if process.listening]
        complete = self._complete and bool(listening) and all(clock - process.heard <= SILENT_SECONDS for process in listening)
        if not complete or self._heard_since is None:
            return False, clock
        return True, max([self._heard_since, *(process.heard - process.age for process in listening)])

    def _take_task(self, key: TaskKey, process: _Process, told: TaskDemand, *, age: float) -> bool:
        """Takes in what is told of one task, and says whether it is more than before."""
        if not told.arrivals and told.last_request_seconds is None and not told.held + told.in_flight:
            # The TaskModel was deleted; one of the same name begins anew.
            process.tasks.pop(key, None)
            self._ended.pop(key, None)
            return False
        task = process.tasks.get(key)
        if task is None or task.busy.last[1] > told.busy_seconds:
            task = process.tasks[key] = _first(process, told, age)
        more = told.arrivals > task.arrivals.last[1] or told.held + told.in_flight > task.under_way
        _add(task.busy, process, age, told.busy_seconds)
        _add(task.arrivals, process, age, told.arrivals)
        task.held, task.under_way = told.held, told.held + told.in_flight
        if told.last_request_seconds is not None:
            task.last_request = self._clock() - max(0.0, age - told.last_request_seconds)
        return more

    def _view(self, key: TaskKey, stable_seconds: float, *, clock: float, now: datetime, since: float) -> TaskDemandView | None:
        """All processes together; None where none has ever had a request."""
        fast = stable = arrivals = 0.0
        held = 0
        requests = [self._ended[key]] if key in self._ended else []
        for process in self._processes.values():
            task = process.tasks.get(key)
            if task is None:
                continue
            age = process.age_at(clock)
            busy = _now(task, process, age)
            fast += (busy - task.busy.at(age - FAST_WINDOW_SECONDS)) / FAST_WINDOW_SECONDS
            stable += (busy - task.busy.at(age - stable_seconds)) / stable_seconds
            arrivals += (task.arrivals.last[1] - task.arrivals.at(age - FAST_WINDOW_SECONDS)) / FAST_WINDOW_SECONDS
            held += task.held
            requests += [clock] if task.under_way else []
            requests += [task.last_request] if task.last_request is not None else []
            task.busy.forget(age - self._longest_window)
        if not requests:
            return None
        return TaskDemandView(
            task=key.name,
            fast=fast,
            stable=stable,
            held=held,
            arrivals_per_second=arrivals if clock - since >= FAST_WINDOW_SECONDS else None,
            last_request_at=_date(max(requests), clock, now),
        )

    def _forget_ended(self) -> None:
        """Processes that were lost, once their past has left every window."""
        clock = self._clock()
        for name, process in list(self._processes.items()):
            if process.listening or clock - process.heard <= max(self._longest_window, FAST_WINDOW_SECONDS):
                continue
            del self._processes[name]
            # Where it is heard again it is another process to us, and what it had between is in no window.
            self._missed = self._missed or not process.given_up
            for key, task in process.tasks.items():
                if task.last_request is not None:
                    self._ended[key] = max(self._ended.get(key, task.last_request), task.last_request)


def _first(process: _Process, told: TaskDemand, age: float) -> _TaskAtProcess:
    """A task that is told for the first time."""
    if process.told:
        # A process tells everything at first, so until its last line there was nothing.
        return _TaskAtProcess(CounterHistory(_STABLE, (process.age, 0.0)), CounterHistory(_FAST, (process.age, 0.0)))
    under_way = told.held + told.in_flight
    return _TaskAtProcess(
        CounterHistory(_STABLE, (age, told.busy_seconds), rate=under_way),
        CounterHistory(_FAST, (age, float(told.arrivals))),
    )


def _add(history: CounterHistory, process: _Process, age: float, count: float) -> None:
    if history.last[1] == count:
        return
    if history.last[0] < process.age:
        # What a line doesn't tell has not changed, so all that is new is younger than that line.
        history.add(process.age, history.last[1])
    history.add(age, count)


def _now(task: _TaskAtProcess, process: _Process, age: float) -> float:
    """Busy seconds by now: what was under way at the last line of a process that is heard still is."""
    return task.busy.last[1] + (task.under_way * (age - process.age) if process.listening else 0.0)


def _key(told: TaskDemand) -> TaskKey:
    return TaskKey(told.namespace, told.task_model)


def _date(moment: float, clock: float, now: datetime) -> datetime:
    return now - timedelta(seconds=clock - moment)
