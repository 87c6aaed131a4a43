"""A pool under load, for stories about its replicas: the autoscaler is the real one, time, gateways and pods are played.

Requests are a fluid: `per_second` of a task come in, each pod answers its target's number at a time, what is too much waits. `run()` looks once a second and writes down
each change of replicas or reason, as a person would see it.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.autoscaling import ScalingDecision, ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS, PoolDemand, TaskDemandView
from tests.unit.planning.builders import NOW, key_for, pool_of, task_model

# Below it nothing is left of a fluid that drains.
_NOTHING = 0.05


@dataclass(slots=True, kw_only=True)
class Load:
    """One task's requests."""

    per_second: float = 0.0
    seconds: float = 2.0  # what an answer takes
    open: float = 0.0  # requests that wait or are being answered
    past: list[float] = field(default_factory=list)  # `open`, by the second
    came: list[float] = field(default_factory=list)
    last: datetime | None = None


@dataclass(slots=True, kw_only=True)
class ScalingWorld:
    """`starting` holds when each pod that is not Ready will be."""

    scaling: ScalingDefaults
    tasks: dict[str, Scaling | None] = field(default_factory=lambda: {"total": Scaling()})
    replicas: int = 1
    start_seconds: int = 20
    startup_seconds: int = 900  # what the class allows
    devices: int = 256
    awake_because: str = ""
    now: datetime = NOW
    loads: dict[str, Load] = field(default_factory=lambda: defaultdict(Load))
    complete: bool = True
    listening_since: datetime = NOW - timedelta(hours=1)
    memory: ScalingMemory = field(default_factory=ScalingMemory)
    ready: int = 1
    starting: list[datetime] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)
    shown: tuple[int, str] = (-1, "")
    decision: ScalingDecision | None = None  # the last one

    def says(self, title: str) -> None:
        self.transcript.append(f"== {title}" if not self.transcript else f"\n== {title}")
        self.shown = (-1, "")

    def restart_operator(self) -> None:
        self.memory = ScalingMemory()
        self.listening_since = self.now

    def hear_all_again(self) -> None:
        self.complete = True
        self.listening_since = self.now

    def burst(self, task: str, requests: int) -> None:
        self.loads[task].open += requests
        self.loads[task].last = self.now

    def give_up(self) -> None:
        """Whoever waits closes the connection."""
        for load in self.loads.values():
            load.open = 0.0

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self._answer()
            self._look()
            self.now += timedelta(seconds=1)

    def _answer(self) -> None:
        """One second of arrivals and answers."""
        self.ready += sum(at <= self.now for at in self.starting)
        self.starting = [at for at in self.starting if at > self.now]
        waiting = sum(load.open for load in self.loads.values())
        room = self.ready * self.scaling.target_concurrency
        share = min(1.0, room / waiting) if waiting else 1.0
        for load in self.loads.values():
            load.open += load.per_second - share * load.open / load.seconds
            load.open = 0.0 if load.open < _NOTHING and not load.per_second else load.open
            load.past.append(load.open)
            load.came.append(load.per_second)
            if load.open or load.per_second:
                load.last = self.now

    def demand(self) -> PoolDemand:
        heard = max(1, int((self.now - self.listening_since).total_seconds()) + 1)
        return PoolDemand(
            tasks=tuple(self._view(task, load, heard) for task, load in sorted(self.loads.items())),
            heard_since=self.listening_since,
            complete=self.complete,
        )

    def _view(self, task: str, load: Load, heard: int) -> TaskDemandView:
        def mean(values: list[float], window: int) -> float:
            known = values[-min(window, heard) :]
            return sum(known) / len(known)

        return TaskDemandView(
            task=task,
            fast=mean(load.past, FAST_WINDOW_SECONDS),
            stable=mean(load.past, self.scaling.stable_window_seconds),
            held=0 if self.ready else round(load.open),
            arrivals_per_second=mean(load.came, FAST_WINDOW_SECONDS),
            last_request_at=load.last,
        )

    def _look(self) -> None:
        decision = decide(
            ScalingSnapshot(
                pool=pool_of(key=key_for(task_model()), replicas=self.replicas),
                scaling=self.scaling,
                startup_seconds=self.startup_seconds,
                tasks=self.tasks,
                demand=self.demand(),
                ready_replicas=self.ready,
                pending_replicas=self.replicas - self.ready,
                awake_because=self.awake_because,
            ),
            self.memory,
            now=self.now,
        )
        self.memory, self.decision = decision.memory, decision
        self._show(decision)
        self.replicas = decision.replicas
        self.ready = min(self.ready, self.replicas)
        wanted = min(self.replicas, self.devices) - self.ready
        self.starting = self.starting[:wanted] + [self.now + timedelta(seconds=self.start_seconds)] * (wanted - len(self.starting))

    def _show(self, decision: ScalingDecision) -> None:
        found = (decision.replicas, decision.reason.value)
        if found == self.shown:
            return
        change = f"{self.replicas} → {decision.replicas}" if decision.replicas != self.replicas else f"{decision.replicas}"
        at = int((self.now - NOW).total_seconds())
        self.transcript.append(
            f"   {at // 60:3}:{at % 60:02}  {self.ready} Ready  {change:>7}  {decision.reason.value}: {decision.message}"
        )
        self.shown = found
