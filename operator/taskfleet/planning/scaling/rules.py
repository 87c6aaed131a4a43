"""The rules by which a pool's replicas are decided: a chain over one record, of which the first that answers decides. `autoscaling` makes the record, and keeps the bounds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from taskfleet.api.modelpool import ScalingReason
from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS
from taskfleet.planning.scaling.idleness import Since, idle_left, is_busy
from taskfleet.planning.scaling.look import Look
from taskfleet.planning.scaling.need import pods_above
from taskfleet.planning.scaling.words import heard_in_words, in_words, limit_upwards, most_by, share_in_words, steadiness, waiting_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Not bounded yet. The message is made of `holder`, `signal` and `limit`."""

    replicas: int
    reason: ScalingReason
    signal: str  # what is asked for, and what that needs
    limit: str = ""  # what has a say beside it
    holder: str = ""  # who asks for this number whatever is needed


def woken(look: Look) -> Answer | None:
    if look.present > 0:
        return None
    if look.need.held:
        wanted = max(1, pods_above(look.need.fast, look.tolerance))
        return Answer(replicas=wanted, reason=ScalingReason.WOKEN, signal=f"{waiting_in_words(look.need.held)} at the gateway")
    if look.awake_because:
        return Answer(replicas=1, reason=ScalingReason.KEPT_AWAKE, signal=look.awake_because)
    return Answer(replicas=0, reason=ScalingReason.AT_ZERO, signal="every task is idle, and the next request wakes it")


def raised_on_a_step(look: Look) -> Answer | None:
    need = look.need
    step = need.fast > look.present * (1 + look.step_share)
    wanted = pods_above(min(need.fast, look.enough), look.tolerance)
    if not step or wanted <= look.present:
        return None
    return Answer(
        replicas=wanted, reason=ScalingReason.STEP, signal=in_words(look, fast=True), limit=limit_upwards(look, need.fast, wanted)
    )


def raised(look: Look) -> Answer | None:
    """By the stable window, as far as the last seconds bear it out: it still holds a peak that is over."""
    need = look.need
    wanted = pods_above(min(need.stable, need.fast, look.enough), look.tolerance)
    if wanted <= look.present:
        return None
    is_fast_less = need.fast < min(need.stable, look.enough)
    limit = (
        f"the last {FAST_WINDOW_SECONDS} s need {look.load.asked_fast:.2f}" if is_fast_less else limit_upwards(look, need.stable, wanted)
    )
    return Answer(replicas=wanted, reason=ScalingReason.RAISED, signal=in_words(look), limit=limit)


def at_a_maximum(look: Look) -> Answer | None:
    """A task needs more than it may have, and the pool has what all may have together."""
    task = look.need.capped_arriving if look.is_warming else look.need.capped
    if not task or look.lower < look.present or look.present < look.wishes[task].most:
        return None
    is_the_pools = look.present >= look.bounds.most
    holder = f"{most_by(look.wishes, look.bounds, look.serving_class)} allows {look.present}" if is_the_pools else ""
    return Answer(replicas=look.present, reason=ScalingReason.AT_MAXIMUM, signal=in_words(look, fast=True), holder=holder)


def starting(look: Look) -> Answer | None:
    """More waits than there are pods for, and as many as what arrives and its queue justify have been asked for."""
    waits = max(look.need.fast, look.need.stable)
    if look.lower >= look.present:
        waits = max(waits, look.load.asked_fast, look.load.asked_stable)
    if not look.is_warming or pods_above(waits, look.tolerance) <= look.present:
        return None
    more = "no more are asked for until they have caught up"
    if look.present >= look.bounds.most:
        more = f"{most_by(look.wishes, look.bounds, look.serving_class)} allows no more"
    limit = f"pods for all that arrives are starting, and {more}"
    return Answer(replicas=look.present, reason=ScalingReason.STARTING, signal=in_words(look, fast=True), limit=limit)


def demand_unknown(look: Look) -> Answer | None:
    demand = look.demand
    if demand is not None and demand.complete:
        return None
    who = "no gateway is heard yet" if demand is None else "a gateway is not heard"
    limit = "nothing is taken away until all are"
    return Answer(replicas=look.present, reason=ScalingReason.DEMAND_UNKNOWN, signal=who, limit=limit)


def needed(look: Look) -> Answer | None:
    """Where not enough is known, by what was seen: that no more is there than somebody asks for anyway can be said at once."""
    if max(look.seen, look.fewest) < look.present:
        return None
    spare = look.resting and (look.present <= look.resting or pods_above(max(look.load.fast, look.load.stable)) < look.present)
    reason = ScalingReason.SPARE if spare else ScalingReason.STEADY
    fast, limit = steadiness(look)
    return Answer(replicas=min(look.seen, look.present), reason=reason, signal=in_words(look, fast=fast), limit=limit)


def lowered(look: Look) -> Answer | None:
    """The last pod is another rule's."""
    present, scaling = look.present, look.scaling
    wanted = max(1, look.seen, look.fewest)
    if wanted >= present:
        return None
    stays = Answer(replicas=present, reason=ScalingReason.DOWN_DELAYED, signal=in_words(look))
    if not look.is_known:
        return replace(stays, limit=f"{wanted} would do, but {heard_in_words(look)}")
    delay = scaling.scale_down_delay_seconds
    left = look.history.delay_left(below=present, delay_seconds=delay, now=look.now)
    if look.is_first or left > 0:
        return replace(stays, limit=f"{wanted} would do if that stays so for {left:.0f} s (scaleDownDelaySeconds {delay})")
    lowest = look.history.lowest(scaling.max_scale_down_percent)
    target = max(wanted, look.history.needed.greatest, lowest)
    if target >= present:
        return replace(stays, reason=ScalingReason.DOWN_LIMITED, limit=share_in_words(look))
    limit = share_in_words(look) if target == lowest > wanted else ""
    if target > max(wanted, lowest):
        limit = f"{target} were needed within the last {delay} s (scaleDownDelaySeconds)"
    return replace(stays, replicas=target, reason=ScalingReason.LOWERED, limit=limit)


def coming_up(look: Look) -> Answer | None:
    left = look.uptime.start_left(look.startup_seconds, now=look.now)
    if left <= 0:
        return None
    limit = f"its first pod may take {left:.0f} s more to be Ready (engine.startupSeconds {look.startup_seconds})"
    return Answer(replicas=1, reason=ScalingReason.STARTING, signal=in_words(look), limit=limit)


def asleep(look: Look) -> Answer:
    demand = look.demand
    if demand is None or is_busy(demand):
        return Answer(replicas=1, reason=ScalingReason.NOT_IDLE, signal="requests are being answered")
    stays = Answer(replicas=1, reason=ScalingReason.DOWN_DELAYED, signal=in_words(look))
    idleness = idle_left(demand, look.wishes, look.uptime, now=look.now)
    if idleness.seconds > 0:
        since = "" if idleness.since is Since.REQUEST else f", counted {idleness.since.value}"
        asked = look.wishes[idleness.task].idle_seconds
        limit = f"{idleness.task} has to be idle for {idleness.seconds:.0f} s more (idleSeconds {asked}{since})"
        return replace(stays, reason=ScalingReason.NOT_IDLE, limit=limit)
    if not look.is_known:
        return replace(stays, limit=f"it may sleep, but {heard_in_words(look)}")
    if look.is_first:
        return replace(stays, limit="it may sleep, but nothing is known from before this look")
    if look.history.lowest(look.scaling.max_scale_down_percent) > 0:
        return replace(stays, reason=ScalingReason.DOWN_LIMITED, limit=share_in_words(look))
    return Answer(replicas=0, reason=ScalingReason.AT_ZERO, signal="every task has been idle for its idleSeconds")


RULES: tuple[Callable[[Look], Answer | None], ...] = (
    woken,  # at zero nothing but a waiting request or a rollout counts
    raised_on_a_step,  # users wait now
    raised,  # as the stable window says
    at_a_maximum,  # what people allow is there
    starting,  # before anything is taken away from a pool that has not caught up
    demand_unknown,  # what is known may raise, and nothing lowers
    needed,  # all that is there
    lowered,  # to one at least
    coming_up,  # the last pod, until it could answer
    asleep,  # the last pod
)
