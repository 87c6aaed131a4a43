"""How many pods a pool is to have: the replicas follow demand, to zero and back.

Up at once on a step (the fast window) or by tolerance (the stable window); down only after a delay, by a share a minute; to zero when every task has been idle for its
`idleSeconds`, and from zero with the first request that waits. What is not known takes nothing away. The bounds hold always: they are people's, not the demand's.
The rules, of which the first that answers decides, are in `rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from taskfleet.api.modelpool import FloorSource, ModelPool, ScalingFloor, ScalingReason
from taskfleet.api.servingclass import Autoscaler, ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.demandhistory import DemandHistory
from taskfleet.planning.scaling.floor import Floor
from taskfleet.planning.scaling.forecast import Pattern, forecast_floor, next_quarter, pattern
from taskfleet.planning.scaling.idleness import Uptime
from taskfleet.planning.scaling.look import Look
from taskfleet.planning.scaling.need import Need, need_of, pods_above
from taskfleet.planning.scaling.replicas import Bounds, TaskScaling, bounds_of, floor_of, scaling_of
from taskfleet.planning.scaling.rules import RULES, Answer
from taskfleet.planning.scaling.schedules import Timetable, timetable
from taskfleet.planning.scaling.stabilization import History
from taskfleet.planning.scaling.warmup import Warmup
from taskfleet.planning.scaling.words import fewest_by, in_words, most_by, sentence

LOOK_AGAIN_SECONDS = 1.0
# Where another autoscaler decides.
LOOK_AGAIN_EXTERNAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSnapshot:
    """Everything that decides about one pool's replicas."""

    pool: ModelPool
    scaling: ScalingDefaults  # the class's
    startup_seconds: int  # the class's, of its engine
    tasks: Mapping[str, Scaling | None]  # the members' wishes; None: frozen (suspended or unreadable), it keeps what there is
    demand: PoolDemand | None = None  # None: nobody listens yet
    ready_replicas: int = 0
    pending_replicas: int = 0
    awake_because: str = ""  # why it must not sleep; empty: it may
    histories: Mapping[str, DemandHistory] = field(default_factory=dict)  # of tasks with a forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingMemory:
    """What the caller keeps from one decision to the next. The empty one is always safe: nothing goes down before the windows have been seen."""

    history: History = field(default_factory=History)
    warmup: Warmup = field(default_factory=Warmup)
    uptime: Uptime = field(default_factory=Uptime)
    timetables: Mapping[str, Timetable] = field(default_factory=dict)  # of tasks with schedules, each until its next edge
    patterns: Mapping[str, Pattern] = field(default_factory=dict)  # of tasks with a forecast, for today


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDecision:
    """What `spec.replicas` is to be, and why: `message` is one sentence with the figures, which change with each look."""

    replicas: int
    reason: ScalingReason
    message: str
    memory: ScalingMemory
    look_again_seconds: float = LOOK_AGAIN_SECONDS
    floor: ScalingFloor | None = None  # what raises the fewest pods now
    edge: datetime | None = None  # when a schedule begins or ends next, or the forecast may be another one


def decide(snapshot: ScalingSnapshot, memory: ScalingMemory, *, now: datetime) -> ScalingDecision:
    """The replicas of one pool. A pure function; the caller keeps the memory, and looks again after `look_again_seconds` or when demand has changed."""
    if snapshot.scaling.autoscaler is Autoscaler.EXTERNAL:
        return _external(snapshot)
    timetables, patterns = _timetables(snapshot, memory, now), _patterns(snapshot, memory, now)
    look = _look(snapshot, memory, timetables, patterns, now)
    answer = _bounded(_at_rest(next(found for rule in RULES if (found := rule(look)) is not None), look), look)
    warmup = look.warmup
    if snapshot.demand is not None and snapshot.demand.complete:
        warmup = warmup.learned(snapshot.demand, snapshot.tasks, look.load, ready=snapshot.ready_replicas)
    return ScalingDecision(
        replicas=answer.replicas,
        reason=answer.reason,
        message=sentence(look.present, answer.replicas, answer.signal, answer.limit, holder=answer.holder),
        memory=ScalingMemory(history=look.history, warmup=warmup, uptime=look.uptime, timetables=timetables, patterns=patterns),
        floor=look.floor[1].told(look.floor[0]) if look.floor is not None else None,
        edge=_edge(timetables, patterns, now),
    )


def _timetables(snapshot: ScalingSnapshot, memory: ScalingMemory, now: datetime) -> Mapping[str, Timetable]:
    """A pool is looked at each second, and a timetable has an edge now and then."""
    found = {}
    for task, wish in snapshot.tasks.items():
        if wish is not None and wish.schedules:
            before = memory.timetables.get(task)
            found[task] = before if before is not None and before.holds(wish.schedules, now) else timetable(wish.schedules, now=now)
    return found


def _patterns(snapshot: ScalingSnapshot, memory: ScalingMemory, now: datetime) -> Mapping[str, Pattern]:
    found = {}
    for task, history in snapshot.histories.items():
        wish, before = snapshot.tasks.get(task), memory.patterns.get(task)
        if wish is not None and wish.forecast is not None:
            is_kept = before is not None and before.holds(wish.forecast, now)
            found[task] = before if before is not None and is_kept else pattern(history, wish.forecast, now=now)
    return found


def _edge(timetables: Mapping[str, Timetable], patterns: Mapping[str, Pattern], now: datetime) -> datetime | None:
    edges = [found.until for found in timetables.values() if found.until is not None]
    return min([*edges, next_quarter(now)] if patterns else edges, default=None)


def _floor(
    bounds: Bounds, wishes: Mapping[str, TaskScaling], patterns: Mapping[str, Pattern], *, tolerance: float, now: datetime
) -> tuple[Bounds, tuple[str, Floor] | None]:
    """What raises the fewest pods above all minimums: a schedule, or the forecast where that is more; and the bounds with it."""
    forecast = forecast_floor(patterns, wishes, most=bounds.most, tolerance=tolerance, now=now) if patterns else None
    if forecast is None or forecast[1].replicas <= bounds.fewest:
        return bounds, floor_of(wishes, bounds)
    return replace(bounds, fewest=forecast[1].replicas, frozen=False), forecast


def _look(
    snapshot: ScalingSnapshot,
    memory: ScalingMemory,
    timetables: Mapping[str, Timetable],
    patterns: Mapping[str, Pattern],
    now: datetime,
) -> Look:
    present, scaling, demand = snapshot.pool.spec.replicas, snapshot.scaling, snapshot.demand
    floors = {task: found.floor for task, found in timetables.items()}
    wishes = {task: scaling_of(wish, scaling, present=present, floor=floors.get(task)) for task, wish in snapshot.tasks.items()}
    window = scaling.stable_window_seconds
    tolerance = scaling.tolerance_percent / 100
    bounds, floor = _floor(bounds_of(wishes.values()), wishes, patterns, tolerance=tolerance, now=now)
    known = memory.warmup.known
    load = need_of(demand, wishes, known, window_seconds=window, tolerance=tolerance) if demand is not None else Need()
    spare = scaling.spare_replicas if any(not wish.frozen for wish in wishes.values()) else 0
    need = load.with_spare(spare, most=bounds.most)
    is_known = _is_known(snapshot, now)
    lower = max(pods_above(need.fast), pods_above(need.stable)) if is_known else present
    history = memory.history.looked(needed=lower, had=present, delay_seconds=scaling.scale_down_delay_seconds, now=now)
    return Look(
        present=present,
        serving_class=snapshot.pool.spec.serving_class_name,
        scaling=scaling,
        demand=demand,
        awake_because=snapshot.awake_because,
        wishes=wishes,
        bounds=bounds,
        floor=floor,
        load=load,
        need=need,
        resting=min(spare, bounds.most),
        warmup=memory.warmup.looked(
            load,
            ready=snapshot.ready_replicas,
            pending=snapshot.pending_replicas,
            window_seconds=window,
            now=now,
        ),
        uptime=memory.uptime.looked(present=present, ready=snapshot.ready_replicas, now=now),
        startup_seconds=snapshot.startup_seconds,
        history=history,
        lower=lower,
        is_known=is_known,
        is_first=history.is_first(now),
        now=now,
    )


def _is_known(snapshot: ScalingSnapshot, now: datetime) -> bool:
    """Is demand known well enough to take pods away, from all gateways and throughout the stable window?"""
    demand = snapshot.demand
    return demand is not None and demand.complete and (now - demand.heard_since).total_seconds() >= snapshot.scaling.stable_window_seconds


def _external(snapshot: ScalingSnapshot) -> ScalingDecision:
    """Its memory is forgotten: whoever comes back from there has seen nothing."""
    spec = snapshot.pool.spec
    asleep = spec.replicas == 0 and snapshot.awake_because
    waits = f"; it is at zero, and {snapshot.awake_because}" if asleep else ""
    return ScalingDecision(
        replicas=spec.replicas,
        reason=ScalingReason.EXTERNAL,
        message=f"another autoscaler writes the replicas (autoscaler of ServingClass {spec.serving_class_name}){waits}",
        memory=ScalingMemory(),
        look_again_seconds=LOOK_AGAIN_EXTERNAL_SECONDS,
    )


def _at_rest(answer: Answer, look: Look) -> Answer:
    """With the spare pods, where nothing else asks for as many."""
    if answer.replicas > look.resting or look.resting <= max(look.bounds.fewest, 1 if look.awake_because else 0):
        return answer
    if answer.replicas == look.resting:
        raised = answer.reason in {ScalingReason.STEP, ScalingReason.RAISED}
        return replace(answer, reason=ScalingReason.SPARE) if raised else answer
    holder = f"spareReplicas of ServingClass {look.serving_class} keeps {look.resting}"
    return Answer(replicas=look.resting, reason=ScalingReason.SPARE, signal=_load(look, spare=False), holder=holder)


def _bounded(answer: Answer, look: Look) -> Answer:
    """Within the bounds, and awake where it must be; says which of them held."""
    if answer.replicas > look.bounds.most:
        holder = f"{most_by(look.wishes, look.bounds, look.serving_class)} allows {look.bounds.most}"
        return Answer(replicas=look.bounds.most, reason=ScalingReason.AT_MAXIMUM, signal=answer.signal, holder=holder)
    # As much as a bound asks for, and no more needed: then the bound is what will still hold when requests cease, and they come and go.
    by_a_bound = answer.reason is ScalingReason.STEADY and answer.replicas == look.bounds.fewest and look.seen <= answer.replicas
    if answer.replicas >= look.fewest and not by_a_bound:
        return answer
    if look.bounds.fewest == 0:
        return Answer(replicas=1, reason=ScalingReason.KEPT_AWAKE, signal=look.awake_because, limit=_load(look))
    reason, holder = _holder(look)
    return Answer(replicas=look.fewest, reason=reason, signal=_load(look), holder=holder)


def _holder(look: Look) -> tuple[ScalingReason, str]:
    """Who asks for the fewest pods."""
    if look.floor is not None and not look.bounds.frozen:
        task, floor = look.floor
        reason = ScalingReason.SCHEDULED if floor.source is FloorSource.SCHEDULE else ScalingReason.FORECAST
        return reason, floor.in_words(task, now=look.now)
    holder = f"{fewest_by(look.wishes, look.bounds, look.serving_class)} keeps {look.fewest}"
    return ScalingReason.FROZEN if look.bounds.frozen else ScalingReason.AT_MINIMUM, holder


def _load(look: Look, *, spare: bool = True) -> str:
    """What is asked for, as far as anybody hears it."""
    return in_words(look, spare=spare) if look.demand is not None else "no gateway is heard yet"
