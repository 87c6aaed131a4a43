"""taskfleet's own rule: the very function that the operator calls, with what the operator would know.

The windows' means are taken from the counters that gateways keep, at every look, once a second.
"""

from datetime import UTC, datetime, timedelta

from taskfleet.api.fields import Metadata
from taskfleet.api.modelpool import ModelPool, ModelPoolSpec
from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Base, Scaling
from taskfleet.planning.scaling.autoscaling import ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS, PoolDemand, TaskDemandView
from tests.benchmarks.replay.rules import Demand, Observation, Target, TaskDemand, Window

BEGINNING = datetime(2023, 11, 16, 18, 15, tzinfo=UTC)
# Where nothing is asked and nothing was throughout the stable window, a look tells only whether to sleep.
QUIET_LOOK_SECONDS = 5.0


class Taskfleet:
    """Its state is the decision's memory and the counters' windows."""

    name = "taskfleet"
    wakes_after = 0.0  # a gateway tells at once of a request that wakes a pool

    def __init__(self, target: Target, scaling: ScalingDefaults | None = None) -> None:
        chosen = scaling or ScalingDefaults()
        self._scaling = chosen.model_copy(update={"min_replicas": 0, "max_replicas": target.most, "target_concurrency": target.concurrency})
        self._wishes: dict[str, Scaling | None] = {name: Scaling() for name in target.tasks.values()}
        self._names = target.tasks
        self._memory = ScalingMemory()
        self._windows: dict[int, _Windows] = {}
        self.interval = 1.0

    def replicas(self, seen: Observation) -> int:
        now = BEGINNING + timedelta(seconds=seen.now)
        views = self._views(seen.demand, seen.now)
        decision = decide(
            ScalingSnapshot(
                pool=_pool(seen.replicas),
                scaling=self._scaling,
                startup_seconds=900,
                tasks=self._wishes,
                demand=PoolDemand(tasks=views, heard_since=BEGINNING, complete=True, in_flight_at_pods=seen.demand.total.in_flight),
                ready_replicas=seen.ready,
                pending_replicas=seen.starting,
            ),
            self._memory,
            now=now,
        )
        self._memory = decision.memory
        quiet = not any(view.stable or view.held for view in views)
        self.interval = QUIET_LOOK_SECONDS if quiet else decision.look_again_seconds
        return decision.replicas

    def _views(self, demand: Demand, now: float) -> tuple[TaskDemandView, ...]:
        for number in demand.tasks.keys() - self._windows.keys():
            self._windows[number] = _Windows(self._names[number], self._scaling.stable_window_seconds)
        return tuple(self._windows[number].view(counted, now) for number, counted in demand.tasks.items())


class _Windows:
    """Of one task."""

    def __init__(self, name: str, stable_seconds: float) -> None:
        self._name, self._stable_seconds = name, stable_seconds
        self._fast, self._stable, self._arrivals = Window(FAST_WINDOW_SECONDS), Window(stable_seconds), Window(FAST_WINDOW_SECONDS)
        self._view = TaskDemandView(task=name, fast=0.0, stable=0.0)

    def view(self, counted: TaskDemand, now: float) -> TaskDemandView:
        last = counted.last_request
        if last is not None and last < now - 2 * self._stable_seconds and not self._view.stable:
            return self._view  # nothing has changed since
        self._view = TaskDemandView(
            task=self._name,
            fast=self._fast.mean(now, counted.busy_seconds),
            stable=self._stable.mean(now, counted.busy_seconds),
            held=counted.held,
            arrivals_per_second=self._arrivals.mean(now, counted.arrivals),
            last_request_at=None if last is None else BEGINNING + timedelta(seconds=last),
        )
        return self._view


_POOL = ModelPool(
    metadata=Metadata(name="replay", namespace="replay"),
    spec=ModelPoolSpec(serving_class_name="replay", base=Base(source="hf://replay/base", revision="main")),
)


def _pool(replicas: int) -> ModelPool:
    return _POOL.model_copy(update={"spec": _POOL.spec.model_copy(update={"replicas": replicas})})
