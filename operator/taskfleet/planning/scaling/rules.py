"""The rules by which a pool's replicas are decided: a chain over one record, of which the first that answers decides. `autoscaling` makes the record, and keeps the bounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from taskfleet.api.modelpool import ScalingReason
from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS, PoolDemand
from taskfleet.planning.scaling.floor import Floor
from taskfleet.planning.scaling.idleness import idle_left, is_busy
from taskfleet.planning.scaling.need import Need, pods_above
from taskfleet.planning.scaling.replicas import Bounds, TaskScaling
from taskfleet.planning.scaling.stabilization import History
from taskfleet.planning.scaling.warmup import Warmup

# How far above what the present pods aim at the fast window must be to be a step, where the tolerance is not wider: a mean of seconds always swings a little.
STEP_PERCENT = 25
# How many pods a queue may bring, as a share of those that there must be without it: enough to catch up, and few that are idle once they have.
QUEUE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a pool, with what follows from it."""

    present: int  # replicas now
    scaling: ScalingDefaults
    demand: PoolDemand | None
    awake_because: str
    wishes: Mapping[str, TaskScaling]
    bounds: Bounds
    load: Need  # what the requests need
    need: Need  # and with what is kept spare
    resting: int  # pods that are kept where nobody asks
    warmup: Warmup
    history: History
    lower: int  # pods that are enough by all that is known
    is_first: bool  # nothing is known from before this look
    now: datetime
    floor: tuple[str, Floor] | None = None  # what raises the fewest pods above all minimums, and for which task

    @property
    def fewest(self) -> int:
        """What must be there without any request."""
        return max(self.bounds.fewest, 1 if self.awake_because else 0, self.resting)

    @property
    def tolerance(self) -> float:
        return self.scaling.tolerance_percent / 100

    @property
    def is_warming(self) -> bool:
        return self.warmup.until is not None

    @property
    def enough(self) -> float:
        """The most pods that a queue can justify: half as many again as what arrives needs, or, where none is on its way, as there are."""
        arriving = self.need.arriving + QUEUE_SHARE * self.load.arriving
        return arriving if self.is_warming else max(arriving, (1 + QUEUE_SHARE) * self.present)


@dataclass(frozen=True, slots=True)
class Answer:
    """Not bounded yet."""

    replicas: int
    reason: ScalingReason
    message: str


def woken(look: Look) -> Answer | None:
    if look.present > 0:
        return None
    if look.need.held:
        wanted = max(1, pods_above(look.need.fast, look.tolerance))
        return Answer(wanted, ScalingReason.WOKEN, f"woken from zero: {requests_in_words(look.need.held)} waited at the gateway")
    if look.awake_because:
        return Answer(1, ScalingReason.KEPT_AWAKE, f"woken from zero: {look.awake_because}")
    return Answer(0, ScalingReason.AT_ZERO, "asleep: every task is idle, and the next request wakes it")


def raised_on_a_step(look: Look) -> Answer | None:
    need = look.need
    step = need.fast > look.present * (1 + max(look.tolerance, STEP_PERCENT / 100))
    wanted = pods_above(min(need.fast, look.enough), look.tolerance)
    if not step or wanted <= look.present:
        return None
    return Answer(wanted, ScalingReason.STEP, f"raised from {look.present}: {in_words(look, fast=True)}")


def raised(look: Look) -> Answer | None:
    """By the stable window, as far as the last seconds bear it out: it still holds a peak that is over."""
    need = look.need
    wanted = pods_above(min(need.stable, need.fast, look.enough), look.tolerance)
    if wanted <= look.present:
        return None
    return Answer(wanted, ScalingReason.RAISED, f"raised from {look.present}: {in_words(look)}")


def at_a_maximum(look: Look) -> Answer | None:
    """A task needs more than it may have, and the pool has what all may have together."""
    task = look.need.capped_arriving if look.is_warming else look.need.capped
    if not task or look.lower < look.present:
        return None
    return Answer(
        look.present, ScalingReason.AT_MAXIMUM, f"{task} has its maxReplicas {look.wishes[task].most}: {in_words(look, fast=True)}"
    )


def starting(look: Look) -> Answer | None:
    """More waits than there are pods for, and as many as what arrives and its queue justify have been asked for."""
    if not look.is_warming or pods_above(max(look.need.fast, look.need.stable), look.tolerance) <= look.present:
        return None
    message = f"pods for all that arrives are starting; {in_words(look, fast=True)} until they have caught up"
    return Answer(look.present, ScalingReason.STARTING, message)


def demand_unknown(look: Look) -> Answer | None:
    demand = look.demand
    if demand is not None and demand.complete:
        return None
    who = "no gateway is heard yet" if demand is None else "a gateway is not heard"
    return Answer(look.present, ScalingReason.DEMAND_UNKNOWN, f"kept at {look.present}: {who}, so nothing is taken away")


def needed(look: Look) -> Answer | None:
    if max(look.lower, look.fewest) < look.present:
        return None
    # The stable window may still hold a peak that is over, which explains nothing.
    over = pods_above(look.need.stable, look.tolerance) > look.present
    spare = look.resting and (look.present <= look.resting or pods_above(max(look.load.fast, look.load.stable)) < look.present)
    reason = ScalingReason.SPARE if spare else ScalingReason.STEADY
    return Answer(min(look.lower, look.present), reason, in_words(look, fast=over))


def lowered(look: Look) -> Answer | None:
    """The last pod is another rule's."""
    present, scaling = look.present, look.scaling
    wanted = max(1, look.lower, look.fewest)
    if wanted >= present:
        return None
    left = look.history.delay_left(below=present, delay_seconds=scaling.scale_down_delay_seconds, now=look.now)
    if look.is_first or left > 0:
        return Answer(present, ScalingReason.DOWN_DELAYED, f"{in_words(look)}; {wanted} would do if that stays so for {left:.0f} s")
    lowest = look.history.lowest(scaling.max_scale_down_percent)
    target = max(wanted, look.history.needed.greatest, lowest)
    if target >= present:
        return Answer(
            present,
            ScalingReason.DOWN_LIMITED,
            f"{in_words(look)}; of {look.history.had.greatest} pods at most {scaling.max_scale_down_percent} % go in a minute",
        )
    return Answer(target, ScalingReason.LOWERED, f"lowered from {present}: {in_words(look)}")


def asleep(look: Look) -> Answer:
    demand, scaling = look.demand, look.scaling
    if demand is None or is_busy(demand):
        return Answer(1, ScalingReason.NOT_IDLE, "kept at 1: requests are being answered")
    left, task = idle_left(demand, look.wishes, now=look.now)
    if left > 0:
        return Answer(1, ScalingReason.NOT_IDLE, f"kept at 1: {task} is idle for its idleSeconds in {left:.0f} s")
    if look.is_first:
        return Answer(1, ScalingReason.DOWN_DELAYED, "kept at 1: nothing is known from before this look")
    if look.history.lowest(scaling.max_scale_down_percent) > 0:
        return Answer(1, ScalingReason.DOWN_LIMITED, "kept at 1: it was more within the last minute")
    return Answer(0, ScalingReason.AT_ZERO, "put to sleep: every task has been idle for its idleSeconds")


RULES: tuple[Callable[[Look], Answer | None], ...] = (
    woken,  # at zero nothing but a waiting request or a rollout counts
    raised_on_a_step,  # users wait now
    raised,  # as the stable window says
    at_a_maximum,  # what people allow is there
    starting,  # before anything is taken away from a pool that has not caught up
    demand_unknown,  # what is known may raise, and nothing lowers
    needed,  # all that is there
    lowered,  # to one at least
    asleep,  # the last pod
)


def in_words(look: Look, *, fast: bool = False) -> str:
    need, window = look.load, FAST_WINDOW_SECONDS if fast else look.scaling.stable_window_seconds
    requests, pods = (need.requests_fast, need.fast) if fast else (need.requests_stable, need.stable)
    most = f", most of it for {need.greatest}" if need.greatest and len(look.wishes) > 1 else ""
    spare = (look.need.fast if fast else look.need.stable) - pods
    kept = f", and {round(spare, 2):g} beyond that kept spare" if look.resting and spare > 0 else ""
    return f"{requests:.1f} requests at a time over {window} s need {pods:.2f} pods{most}{kept}"


def requests_in_words(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
