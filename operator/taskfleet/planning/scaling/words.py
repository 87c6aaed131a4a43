"""Why a pool has its pods, for people who see one for the first time.

A message says what was done, what is asked for over which window and what that needs, and the limit that has a say beside it: whose it is, by the name of its field.
"""

from collections.abc import Mapping

from taskfleet.planning.scaling.demand import FAST_WINDOW_SECONDS
from taskfleet.planning.scaling.look import QUEUE_SHARE, Look
from taskfleet.planning.scaling.need import pods_above
from taskfleet.planning.scaling.replicas import Bounds, Origin, TaskScaling

# Below these a figure would be printed as nothing at all.
_FEW_REQUESTS = 0.1
_LITTLE_OF_A_POD = 0.01


def sentence(present: int, replicas: int, *clauses: str, holder: str = "") -> str:
    """`raised from 1 to 2: …; …`. The `holder` says who asks for the number, and so says it all where the number stays."""
    told = "; ".join(clause for clause in (holder, *clauses) if clause)
    return told if holder and present == replicas else f"{_change(present, replicas)}: {told}"


def _change(present: int, replicas: int) -> str:
    if replicas == present:
        return f"kept at {present}" if present else "asleep"
    if present == 0:
        return f"woken from zero to {replicas}"
    return f"{'raised' if replicas > present else 'lowered'} from {present} to {replicas}" if replicas else "put to sleep"


def signal(requests: float, pods: float, *, window: int, target: int | None) -> str:
    """`35.0 requests at a time over the last 6 s need 3.50 pods at targetConcurrency 10`."""
    if not requests:
        return f"no request in the last {window} s"
    many = f"{requests:.1f}" if requests >= _FEW_REQUESTS else f"fewer than {_FEW_REQUESTS}"
    much = f"{pods:.2f}" if pods >= _LITTLE_OF_A_POD else f"less than {_LITTLE_OF_A_POD}"
    each = f"at targetConcurrency {target}" if target is not None else "by each task's targetConcurrency"
    return f"{many} requests at a time over the last {window} s need {much} pods {each}"


def fewest_by(wishes: Mapping[str, TaskScaling], bounds: Bounds, serving_class: str) -> str:
    """Whose minimum is the pool's: what somebody has to change who wants fewer."""
    if not wishes:
        return "a pool without tasks"
    return _by("minReplicas", {task: wish.fewest_by for task, wish in wishes.items() if wish.fewest == bounds.fewest}, serving_class)


def most_by(wishes: Mapping[str, TaskScaling], bounds: Bounds, serving_class: str) -> str:
    """Whose maximum is the pool's. Any task's greater one would be the pool's, so one is named."""
    if not wishes:
        return "a pool without tasks"
    return _by("maxReplicas", {task: wish.most_by for task, wish in wishes.items() if wish.most == bounds.most}, serving_class)


def most_of(task: str, wish: TaskScaling, serving_class: str) -> str:
    """What keeps one task from having more, while its pool may."""
    return f"{_by('maxReplicas', {task: wish.most_by}, serving_class)} gives {task} no more than {wish.most}"


def _by(field: str, origins: Mapping[str, Origin], serving_class: str) -> str:
    # The class first: as long as its default holds, no task's own field makes a difference.
    if Origin.CLASS in origins.values():
        return f"{field} of ServingClass {serving_class}"
    named = {origin: task for task, origin in sorted(origins.items(), reverse=True)}
    if Origin.TASK in named:
        return f"{field} of {named[Origin.TASK]}"
    if Origin.WISH in named:
        return f"minReplicas of {named[Origin.WISH]} or its schedules, above maxReplicas of ServingClass {serving_class},"
    return f"{named[Origin.FROZEN]}, which is suspended or can't be read,"


def in_words(look: Look, *, fast: bool = False, spare: bool = True) -> str:
    """What is asked for over one of the windows. `spare`: and what is kept beyond that."""
    need = look.load
    requests, asked, pods, capped = (
        (need.requests_fast, need.asked_fast, need.fast, need.capped)
        if fast
        else (need.requests_stable, need.asked_stable, need.stable, need.capped_stable)
    )
    said = signal(requests, asked, window=FAST_WINDOW_SECONDS if fast else _stable_window(look), target=need.target)
    if len(look.wishes) > 1 and requests and need.greatest:
        said += f", most of it for {need.greatest}"
    if capped and look.wishes[capped].most < look.bounds.most:
        said += f"; {most_of(capped, look.wishes[capped], look.serving_class)}"
    beyond = (look.need.fast if fast else look.need.stable) - pods
    if spare and beyond > 0:
        said += f"; {round(beyond, 2):g} kept spare{' beyond that' if requests else ''} (spareReplicas)"
    return said


def _stable_window(look: Look) -> int:
    """What was before the window was full is known where requests are counted; that there were none can be said of what was heard."""
    if look.is_known or look.load.requests_stable or look.demand is None:
        return look.scaling.stable_window_seconds
    return max(1, min(look.scaling.stable_window_seconds, int((look.now - look.demand.heard_since).total_seconds())))


def waiting_in_words(count: int) -> str:
    """`1 request waits`."""
    return "1 request waits" if count == 1 else f"{count} requests wait"


def limit_upwards(look: Look, need: float, wanted: int) -> str:
    """What keeps a pool that is raised to the `wanted` pods from having all that it is asked for."""
    if wanted >= look.bounds.most and pods_above(max(look.load.asked_fast, look.load.asked_stable), look.tolerance) > wanted:
        return f"{most_by(look.wishes, look.bounds, look.serving_class)} allows no more"
    if look.enough < need and pods_above(look.enough, look.tolerance) < pods_above(need, look.tolerance):
        is_arriving = look.is_warming or look.need.arriving + QUEUE_SHARE * look.load.arriving >= look.enough
        return f"those that wait bring at most half as many pods again as {'what arrives needs' if is_arriving else 'there are'}"
    return ""


def steadiness(look: Look) -> tuple[bool, str]:
    """By which window there are enough pods, the fast one or not, and what keeps the other from raising or lowering them."""
    stable, fast = pods_above(look.need.stable), pods_above(look.need.fast)
    greatest = max(look.need.stable, look.load.asked_stable)
    if pods_above(greatest, look.tolerance) > look.present:
        window = look.scaling.stable_window_seconds
        return True, f"the mean of {window} s, {look.load.requests_stable:.1f}, still holds a peak that is over"
    if pods_above(look.need.fast, look.tolerance) > look.present:
        return True, f"a few seconds raise it only if they need {100 * look.step_share:.0f} % more than there is"
    limit = f"within tolerancePercent {look.scaling.tolerance_percent}" if look.seen > look.present else ""
    return fast > stable and fast >= look.present, limit


def heard_in_words(look: Look) -> str:
    """That not enough is known to take pods away."""
    heard = (look.now - look.demand.heard_since).total_seconds() if look.demand is not None else 0.0
    return f"requests have been counted for {heard:.0f} s only (stableWindowSeconds {look.scaling.stable_window_seconds})"


def share_in_words(look: Look) -> str:
    """That pods go one after the other."""
    return f"of {look.history.had.greatest} pods at most {look.scaling.max_scale_down_percent} % go in a minute (maxScaleDownPercent)"
