"""The operator's side of autoscaling: what is known of a pool goes to `planning.autoscaling`, and a decision for another number of pods to packing, the only writer of specs.

A pool is looked at when requests for its tasks come, when its pods change, and when the decision asks for it: each look is a key of the queue, so only the leader looks, and
a thousand requests are one look. What is remembered is lost with the process; without it nothing is taken away for a while.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from taskfleet.api.modelpool import ModelPool, ScalingReason
from taskfleet.api.servingclass import Autoscaler as AutoscalerKind
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import Scaling, TaskModel
from taskfleet.controller import metrics
from taskfleet.controller.devicetime import DeviceTime
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey, ScalingKey, TaskKey
from taskfleet.logs import fields
from taskfleet.planning.packing_key import PackingKey, key_of_pool
from taskfleet.planning.scaling.autoscaling import ScalingDecision, ScalingMemory, ScalingSnapshot, decide
from taskfleet.planning.scaling.awake import awake_because
from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.demandhistory import DemandHistory
from taskfleet.planning.scaling.devicetime import holds_device
from taskfleet.planning.scaling.status import seconds_until_told
from taskfleet.planning.snapshot import AgentView, PodView, ResolutionFailure
from taskfleet.resources.observed import pod_view

log = logging.getLogger(__name__)

# Requests that come one after the other are one look; the first one that waits for a pool at zero is one at once.
GATHER_SECONDS = 0.5
# A pool without any request is looked at more and more seldom: what can change its size is heard of, or can wait for so long.
QUIET_SECONDS = 10.0
# So is one that can't get smaller either.
RESTING_SECONDS = 60.0
_RESTING = frozenset({ScalingReason.AT_ZERO, ScalingReason.AT_MINIMUM, ScalingReason.SPARE})
# Pods that could not be closed are asked again.
POSTPONED_SECONDS = 10.0


class Demand(Protocol):
    """`controller.demand.GatewayDemand` has it."""

    def of(self, namespace: str, tasks: tuple[str, ...], *, stable_seconds: float) -> PoolDemand | None: ...


class Records(Protocol):
    """`controller.demandrecords.DemandRecords` has them."""

    def seen(self, namespace: str, tasks: tuple[str, ...], demand: PoolDemand | None, *, now: datetime) -> Mapping[str, DemandHistory]: ...

    async def write(self, namespace: str, tasks: tuple[str, ...], *, now: datetime) -> None: ...


class Enqueue(Protocol):
    """`controller.queue.WorkQueue.add` is it."""

    def __call__(self, key: ScalingKey | PoolKey | PackingKey, *, after: float = 0.0) -> None: ...


@dataclass(slots=True)
class _Pool:
    """What is remembered of one pool."""

    uid: str
    memory: ScalingMemory = field(default_factory=ScalingMemory)
    decision: ScalingDecision | None = None
    change: ScalingDecision | None = None  # the last one for another number than there was
    since: float = 0.0  # when this number and reason were decided first
    pause: float = 0.0  # until the next look
    postponed: float = 0.0  # fewer pods are not written before that


class Autoscaler:
    """`agents` and `failures` tell by pool what its agents say, and which digests could not be looked up; `refresh` asks busy agents anew. `clock`: monotonic seconds."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        demand: Demand,
        records: Records,
        agents: Callable[[PoolKey], tuple[AgentView, ...]],
        refresh: Callable[[PoolKey], Awaitable[None]],
        failures: Callable[[str], tuple[ResolutionFailure, ...]],
        device_time: DeviceTime,
        enqueue: Enqueue,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._demand = demand
        self._records = records
        self._agents = agents
        self._refresh = refresh
        self._failures = failures
        self._device_time = device_time
        self._enqueue = enqueue
        self._now = now
        self._clock = clock
        self._pools: dict[PoolKey, _Pool] = {}

    async def reconcile(self, key: ScalingKey) -> float | None:
        """One look at a pool; in how many seconds the next one is due."""
        pool = self._fleet.pool(key.pool)
        if not isinstance(pool, ModelPool) or pool.metadata.deletion_timestamp is not None or self._fleet.is_ending(key.namespace):
            self._pools.pop(key.pool, None)
            self._device_time.forget(key.pool)
            metrics.forget_pool(key.namespace, key.name)
            return None
        serving_class = self._fleet.serving_class(pool.spec.serving_class_name)
        if not isinstance(serving_class, ServingClass):
            # What runs goes on; the class's return is told.
            return None
        pods = [pod_view(body) for body in self._fleet.pods(key.pool, pool.metadata.uid)]
        self._account(key.pool, pool, serving_class, pods)
        known = self._pools.get(key.pool)
        if known is None or known.uid != pool.metadata.uid:
            known = self._pools[key.pool] = _Pool(pool.metadata.uid)
        snapshot = self._snapshot(key.pool, pool, serving_class, pods)
        if _disagree(snapshot.demand):
            await self._refresh(key.pool)
            snapshot = self._snapshot(key.pool, pool, serving_class, pods)
        now = self._now()
        if snapshot.scaling.autoscaler is not AutoscalerKind.EXTERNAL:
            snapshot = replace(snapshot, histories=self._records.seen(key.namespace, tuple(snapshot.tasks), snapshot.demand, now=now))
        pause = self._decide(key.pool, snapshot, known, now)
        await self._records.write(key.namespace, tuple(snapshot.histories), now=now)
        return pause

    def decided(self, pool: ModelPool) -> int | None:
        """The pods that the pool is to have; None where that is nobody's decision here, or was not looked at yet."""
        known = self._known(pool)
        if known is None or known.decision is None or known.decision.reason is ScalingReason.EXTERNAL:
            return None
        if known.decision.replicas < pool.spec.replicas and self._clock() < known.postponed:
            return None
        return known.decision.replicas

    def to_tell(self, pool: ModelPool) -> ScalingDecision | None:
        """What the pool's status is to say; None: what it says. What is not written yet is not told: it may be refused."""
        known = self._known(pool)
        if known is None:
            return None
        written = [found for found in (known.change, known.decision) if found is not None and found.replicas == pool.spec.replicas]
        before = pool.status.scaling
        if before is None or before.desired_replicas != pool.spec.replicas:
            return written[0] if written else None
        if not written or written[-1] is not known.decision:
            return None
        wait = seconds_until_told(before, written[-1])
        return written[-1] if wait is not None and self._clock() - known.since >= wait else None

    def postpone(self, pool: ModelPool) -> None:
        """Fewer pods could not be prepared: the number stays for a while."""
        known = self._known(pool)
        if known is not None:
            known.postponed = self._clock() + POSTPONED_SECONDS

    def demanded(self, task: TaskKey) -> None:
        """Requests for a task have come."""
        for key in self._fleet.pools_of(task):
            pool = self._fleet.pool(key)
            sleeps = isinstance(pool, ModelPool) and pool.spec.replicas == 0
            self._enqueue(ScalingKey(key.namespace, key.name), after=0.0 if sleeps else GATHER_SECONDS)

    def heard(self, all_gateways: bool) -> None:  # noqa: FBT001  a callback with one fact
        """All gateways are heard from now on, or no longer are."""
        log.info("all gateways are heard" if all_gateways else "not all gateways are heard, no pool gets smaller")
        for key in self._fleet.pool_keys():
            self._enqueue(ScalingKey(key.namespace, key.name), after=GATHER_SECONDS)

    def _account(self, key: PoolKey, pool: ModelPool, serving_class: ServingClass, pods: Sequence[PodView]) -> None:
        """A pod of a class without accelerator counts as a device."""
        accelerator = serving_class.spec.accelerator
        holders = sum(holds_device(pod) for pod in pods)
        tasks = {member.task_model for member in pool.spec.members}
        self._device_time.look(key, pool.metadata.uid, devices=holders * (accelerator.count if accelerator else 1), tasks=tasks)

    def _known(self, pool: ModelPool) -> _Pool | None:
        known = self._pools.get(PoolKey(pool.metadata.namespace, pool.metadata.name))
        return known if known is not None and known.uid == pool.metadata.uid else None

    def _decide(self, key: PoolKey, snapshot: ScalingSnapshot, known: _Pool, now: datetime) -> float:
        pool, before, clock = snapshot.pool, known.decision, self._clock()
        requests = sum(view.fast for view in snapshot.demand.tasks) if snapshot.demand is not None else 0.0
        metrics.POOL_REQUESTS.labels(key.namespace, key.name).set(requests)
        decision = decide(snapshot, known.memory, now=now)
        known.memory, known.decision = decision.memory, decision
        if decision.replicas != pool.spec.replicas:
            known.change = decision
        is_same = before is not None and (before.replicas, before.reason) == (decision.replicas, decision.reason)
        if not is_same:
            known.since = clock
        if self.decided(pool) not in {None, pool.spec.replicas}:
            if not is_same:
                log.info(decision.message, extra=fields(pool=pool.metadata.key, replicas=decision.replicas, reason=decision.reason))
            self._enqueue(key_of_pool(pool))
        if self.to_tell(pool) is not None:
            self._enqueue(key)
        known.pause = _pause(snapshot, decision, known.pause if is_same else 0.0)
        told_in = seconds_until_told(pool.status.scaling, decision)
        pause = min(known.pause, max(0.1, known.since + told_in - clock)) if told_in else known.pause
        # An edge between two looks would be kept late.
        return min(pause, max(0.1, (decision.edge - now).total_seconds())) if decision.edge is not None else pause

    def _snapshot(self, key: PoolKey, pool: ModelPool, serving_class: ServingClass, pods: Sequence[PodView]) -> ScalingSnapshot:
        scaling = serving_class.spec.scaling
        tasks = self._wishes(pool)
        demand = self._demand.of(key.namespace, tuple(tasks), stable_seconds=scaling.stable_window_seconds)
        ready = sum(pod.serving for pod in pods)
        frozen = frozenset(task for task, wish in tasks.items() if wish is None)
        return ScalingSnapshot(
            pool=pool,
            scaling=scaling,
            startup_seconds=serving_class.spec.engine.startup_seconds,
            tasks=tasks,
            demand=replace(demand, in_flight_at_pods=self._in_flight(key)) if demand is not None else None,
            ready_replicas=ready,
            pending_replicas=max(0, pool.spec.replicas - ready),
            awake_because=awake_because(pool, self._failures(pool.metadata.uid), frozen=frozen),
        )

    def _wishes(self, pool: ModelPool) -> Mapping[str, Scaling | None]:
        """Of every task that is a member; one that was deleted wishes nothing any more."""
        found: dict[str, Scaling | None] = {}
        for name in sorted({member.task_model for member in pool.spec.members}):
            task = self._fleet.task(TaskKey(pool.metadata.namespace, name))
            if task is not None:
                found[name] = task.spec.scaling if isinstance(task, TaskModel) and not task.spec.suspend else None
        return found

    def _in_flight(self, key: PoolKey) -> int | None:
        """What agents said that their pods are working on, when they were heard last."""
        views = self._agents(key)
        if any(view.state is None or view.error for view in views):
            return None
        return sum(view.state.in_flight for view in views if view.state is not None)


def _disagree(demand: PoolDemand | None) -> bool:
    """Do agents tell of requests of which no gateway knows? Agents tell when something else changes, so theirs may have ended up to a minute ago."""
    return demand is not None and bool(demand.in_flight_at_pods) and not any(view.held or view.fast > 0 for view in demand.tasks)


def _pause(snapshot: ScalingSnapshot, decision: ScalingDecision, before: float) -> float:
    """Seconds until the next look. `before`: the pause before this look, if it came to the same as the one before."""
    demand = snapshot.demand
    quiet = demand is not None and demand.complete and not any(view.held or view.stable for view in demand.tasks)
    if not quiet or decision.replicas != snapshot.pool.spec.replicas:
        return decision.look_again_seconds
    longest = RESTING_SECONDS if decision.reason in _RESTING else QUIET_SECONDS
    return max(decision.look_again_seconds, min(2 * before, longest))
