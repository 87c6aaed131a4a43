"""How many pods a pool is to have: the replicas follow demand, to zero and back.

Up at once on a step (the fast window) or by tolerance (the stable window); down only after a delay, by a share a minute; to zero when every task has been idle for its
`idleSeconds`, and from zero with the first request that waits. What is not known takes nothing away. The bounds hold always: they are people's, not the demand's.
A chain of named rules over one record, of which the first that answers decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from taskfleet.api.modelpool import ModelPool, ScalingReason
from taskfleet.api.servingclass import Autoscaler, ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.demand import FAST_WINDOW_SECONDS, PoolDemand
from taskfleet.planning.idleness import idle_left, is_busy
from taskfleet.planning.need import Need, need_of, pods_above
from taskfleet.planning.replicas import Bounds, TaskScaling, bounds_of, scaling_of
from taskfleet.planning.stabilization import History
from taskfleet.planning.warmup import Warmup

# How far above what the present pods aim at the fast window must be to be a step, where the tolerance is not wider: a mean of seconds always swings a little.
STEP_PERCENT = 25
LOOK_AGAIN_SECONDS = 1.0
# Where another autoscaler decides.
LOOK_AGAIN_EXTERNAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSnapshot:
    """Everything that decides about one pool's replicas."""

    pool: ModelPool
    scaling: ScalingDefaults  # the class's
    tasks: Mapping[str, Scaling | None]  # the members' wishes; None: frozen (suspended or unreadable), it keeps what there is
    demand: PoolDemand | None = None  # None: nobody listens yet
    ready_replicas: int = 0
    pending_replicas: int = 0
    awake_because: str = ""  # why it must not sleep; empty: it may


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingMemory:
    """What the caller keeps from one decision to the next. The empty one is always safe: nothing goes down before the windows have been seen."""

    history: History = field(default_factory=History)
    warmup: Warmup = field(default_factory=Warmup)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDecision:
    """What `spec.replicas` is to be, and why: `message` is one sentence with the figures, which change with each look."""

    replicas: int
    reason: ScalingReason
    message: str
    memory: ScalingMemory
    look_again_seconds: float = LOOK_AGAIN_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look at a pool, with what follows from it."""

    snapshot: ScalingSnapshot
    wishes: Mapping[str, TaskScaling]
    bounds: Bounds
    need: Need
    warmup: Warmup
    history: History
    lower: int  # pods that are enough by all that is known
    is_first: bool  # nothing is known from before this look
    now: datetime

    @property
    def present(self) -> int:
        return self.snapshot.pool.spec.replicas

    @property
    def fewest(self) -> int:
        """What must be there without any request."""
        return max(self.bounds.fewest, 1 if self.snapshot.awake_because else 0)

    @property
    def tolerance(self) -> float:
        return self.snapshot.scaling.tolerance_percent / 100

    @property
    def is_warming(self) -> bool:
        return self.warmup.until is not None


@dataclass(frozen=True, slots=True)
class _Answer:
    """Not bounded yet."""

    replicas: int
    reason: ScalingReason
    message: str


def decide(snapshot: ScalingSnapshot, memory: ScalingMemory, *, now: datetime) -> ScalingDecision:
    """The replicas of one pool. A pure function; the caller keeps the memory, and looks again after `look_again_seconds` or when demand has changed."""
    if snapshot.scaling.autoscaler is Autoscaler.EXTERNAL:
        return _external(snapshot)
    look = _look(snapshot, memory, now)
    answer = _bounded(next(found for rule in RULES if (found := rule(look)) is not None), look)
    warmup = look.warmup
    if snapshot.demand is not None and snapshot.demand.complete:
        warmup = warmup.learned(snapshot.demand, snapshot.tasks, look.need, ready=snapshot.ready_replicas)
    return ScalingDecision(
        replicas=answer.replicas,
        reason=answer.reason,
        message=answer.message,
        memory=ScalingMemory(history=look.history, warmup=warmup),
    )


def _look(snapshot: ScalingSnapshot, memory: ScalingMemory, now: datetime) -> _Look:
    present, scaling, demand = snapshot.pool.spec.replicas, snapshot.scaling, snapshot.demand
    wishes = {task: scaling_of(wish, scaling, present=present) for task, wish in snapshot.tasks.items()}
    need = need_of(demand, wishes, memory.warmup.known) if demand is not None else Need()
    lower = max(pods_above(need.fast), pods_above(need.stable)) if _is_known(snapshot, now) else present
    history = memory.history.looked(needed=lower, had=present, delay_seconds=scaling.scale_down_delay_seconds, now=now)
    return _Look(
        snapshot=snapshot,
        wishes=wishes,
        bounds=bounds_of(wishes.values()),
        need=need,
        warmup=memory.warmup.looked(
            need,
            ready=snapshot.ready_replicas,
            pending=snapshot.pending_replicas,
            window_seconds=scaling.stable_window_seconds,
            now=now,
        ),
        history=history,
        lower=lower,
        is_first=history.is_first(now),
        now=now,
    )


def _is_known(snapshot: ScalingSnapshot, now: datetime) -> bool:
    """Is demand known well enough to take pods away, from all gateways and throughout the stable window?"""
    demand = snapshot.demand
    return demand is not None and demand.complete and (now - demand.heard_since).total_seconds() >= snapshot.scaling.stable_window_seconds


def _external(snapshot: ScalingSnapshot) -> ScalingDecision:
    """Its memory is forgotten: whoever comes back from there has seen nothing."""
    present = snapshot.pool.spec.replicas
    asleep = present == 0 and snapshot.awake_because
    waits = f"; it is at zero, and {snapshot.awake_because}" if asleep else ""
    return ScalingDecision(
        replicas=present,
        reason=ScalingReason.EXTERNAL,
        message=f"another autoscaler writes the replicas{waits}",
        memory=ScalingMemory(),
        look_again_seconds=LOOK_AGAIN_EXTERNAL_SECONDS,
    )


# Rules


def woken(look: _Look) -> _Answer | None:
    if look.present > 0:
        return None
    if look.need.held:
        wanted = max(1, pods_above(look.need.fast, look.tolerance))
        return _Answer(wanted, ScalingReason.WOKEN, f"woken from zero: {_requests(look.need.held)} waited at the gateway")
    if look.snapshot.awake_because:
        return _Answer(1, ScalingReason.KEPT_AWAKE, f"woken from zero: {look.snapshot.awake_because}")
    return _Answer(0, ScalingReason.AT_ZERO, "asleep: every task is idle, and the next request wakes it")


def raised_on_a_step(look: _Look) -> _Answer | None:
    need = look.need
    step = need.fast > look.present * (1 + max(look.tolerance, STEP_PERCENT / 100))
    wanted = pods_above(min(need.fast, need.arriving) if look.is_warming else need.fast, look.tolerance)
    if not step or wanted <= look.present:
        return None
    return _Answer(wanted, ScalingReason.STEP, f"raised from {look.present}: {_in_words(look, fast=True)}")


def raised(look: _Look) -> _Answer | None:
    need = look.need
    wanted = pods_above(min(need.stable, need.arriving) if look.is_warming else need.stable, look.tolerance)
    if wanted <= look.present:
        return None
    return _Answer(wanted, ScalingReason.RAISED, f"raised from {look.present}: {_in_words(look)}")


def starting(look: _Look) -> _Answer | None:
    """More waits than there are pods for, and pods for all that arrives have been asked for."""
    if not look.is_warming or pods_above(max(look.need.fast, look.need.stable), look.tolerance) <= look.present:
        return None
    message = f"pods for all that arrives are starting; {_in_words(look, fast=True)} until they have caught up"
    return _Answer(look.present, ScalingReason.STARTING, message)


def demand_unknown(look: _Look) -> _Answer | None:
    demand = look.snapshot.demand
    if demand is not None and demand.complete:
        return None
    who = "no gateway is heard yet" if demand is None else "a gateway is not heard"
    return _Answer(look.present, ScalingReason.DEMAND_UNKNOWN, f"kept at {look.present}: {who}, so nothing is taken away")


def needed(look: _Look) -> _Answer | None:
    if max(look.lower, look.fewest) < look.present:
        return None
    return _Answer(min(look.lower, look.present), ScalingReason.STEADY, _in_words(look))


def lowered(look: _Look) -> _Answer | None:
    """The last pod is another rule's."""
    present, scaling = look.present, look.snapshot.scaling
    wanted = max(1, look.lower, look.fewest)
    if wanted >= present:
        return None
    left = look.history.delay_left(below=present, delay_seconds=scaling.scale_down_delay_seconds, now=look.now)
    if look.is_first or left > 0:
        return _Answer(present, ScalingReason.DOWN_DELAYED, f"{_in_words(look)}; {wanted} would do if that stays so for {left:.0f} s")
    lowest = look.history.lowest(scaling.max_scale_down_percent)
    target = max(wanted, look.history.needed.greatest, lowest)
    if target >= present:
        return _Answer(
            present,
            ScalingReason.DOWN_LIMITED,
            f"{_in_words(look)}; of {look.history.had.greatest} pods at most {scaling.max_scale_down_percent} % go in a minute",
        )
    return _Answer(target, ScalingReason.LOWERED, f"lowered from {present}: {_in_words(look)}")


def asleep(look: _Look) -> _Answer:
    demand, scaling = look.snapshot.demand, look.snapshot.scaling
    if demand is None or is_busy(demand):
        return _Answer(1, ScalingReason.NOT_IDLE, "kept at 1: requests are being answered")
    left, task = idle_left(demand, look.wishes, now=look.now)
    if left > 0:
        return _Answer(1, ScalingReason.NOT_IDLE, f"kept at 1: {task} is idle for its idleSeconds in {left:.0f} s")
    if look.is_first:
        return _Answer(1, ScalingReason.DOWN_DELAYED, "kept at 1: nothing is known from before this look")
    if look.history.lowest(scaling.max_scale_down_percent) > 0:
        return _Answer(1, ScalingReason.DOWN_LIMITED, "kept at 1: it was more within the last minute")
    return _Answer(0, ScalingReason.AT_ZERO, "put to sleep: every task has been idle for its idleSeconds")


RULES: tuple[Callable[[_Look], _Answer | None], ...] = (
    woken,  # at zero nothing but a waiting request or a rollout counts
    raised_on_a_step,  # users wait now
    raised,  # as the stable window says
    starting,  # before anything is taken away from a pool that has not caught up
    demand_unknown,  # what is known may raise, and nothing lowers
    needed,  # all that is there
    lowered,  # to one at least
    asleep,  # the last pod
)


def _bounded(answer: _Answer, look: _Look) -> _Answer:
    """Within the bounds, and awake where it must be; says which of them held."""
    if answer.replicas > look.bounds.most:
        return replace(
            answer,
            replicas=look.bounds.most,
            reason=ScalingReason.AT_MAXIMUM,
            message=f"at maxReplicas {look.bounds.most}: {answer.message}",
        )
    if answer.replicas >= look.fewest:
        return answer
    if look.bounds.fewest == 0:
        return replace(answer, replicas=1, reason=ScalingReason.KEPT_AWAKE, message=f"kept at 1: {look.snapshot.awake_because}")
    if look.bounds.frozen:
        return replace(
            answer,
            replicas=look.fewest,
            reason=ScalingReason.FROZEN,
            message=f"kept at {look.fewest}: a suspended or unreadable task holds it",
        )
    return replace(answer, replicas=look.fewest, reason=ScalingReason.AT_MINIMUM, message=f"at minReplicas {look.fewest}: {answer.message}")


def _in_words(look: _Look, *, fast: bool = False) -> str:
    need, window = look.need, FAST_WINDOW_SECONDS if fast else look.snapshot.scaling.stable_window_seconds
    requests, pods = (need.requests_fast, need.fast) if fast else (need.requests_stable, need.stable)
    most = f", most of it for {need.greatest}" if need.greatest and len(look.wishes) > 1 else ""
    return f"{requests:.1f} requests at a time over {window} s need {pods:.2f} pods{most}"


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
