"""The steps of a canary: a growing share of the traffic, each step judged by what its own traffic says.

A step ends with a verdict only. Weight grows when it is good, and goes when it is bad; without enough to go by it stays where it is.
"""

from datetime import datetime

from taskfleet.api.conditions import Reason
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import OnNoTraffic, Rollout, RolloutStatus, Strategy, TrafficTarget
from taskfleet.api.taskmodel import Step as CanaryStep
from taskfleet.planning.rollout.analysis import Judgement, Outcome, judge
from taskfleet.planning.rollout.before_traffic import gives_way
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.situation import Rejection, Situation, Step, Traffic, whole

# Where the strategy is Canary and no steps are named.
DEFAULT_STEPS = (CanaryStep(weight_percent=10), CanaryStep(weight_percent=50))

_HOLDS = {
    Outcome.NO_TRAFFIC: (Reason.NO_TRAFFIC, "too few requests to judge it by"),
    Outcome.INCONCLUSIVE: (Reason.INCONCLUSIVE, "what its traffic says allows neither promotion nor rollback"),
}


def advance(situation: Situation, target: TaskModelRevision, stable: TrafficTarget, route: TrafficTarget) -> Step | None:
    """The next step of a candidate that has passed its gate; None: all traffic is its own."""
    steps = steps_of(situation.task.spec.rollout or Rollout(strategy=Strategy.CANARY))
    before = _present(situation, target, len(steps))
    if situation.verbs.promote_to > len(steps):
        return None
    if before is None or before.step is None:
        return _begin(steps, max(1, situation.verbs.promote_to), stable, route)
    if situation.verbs.promote_to > before.step:
        return _begin(steps, situation.verbs.promote_to, stable, route)
    return _judged(situation, target, steps, before.step)


def steps_of(rollout: Rollout) -> tuple[CanaryStep, ...]:
    """The steps that a canary takes."""
    return tuple(rollout.steps) or DEFAULT_STEPS


def _present(situation: Situation, target: TaskModelRevision, count: int) -> RolloutStatus | None:
    """Where the candidate stands, where both the status and the traffic say so; its steps begin anew otherwise."""
    rollout = situation.status.rollout
    if rollout is None or rollout.step is None or rollout.revision != target.metadata.name or rollout.phase != RolloutPhase.STEPPING:
        return None
    if len(situation.traffic) < 2 or situation.traffic[1].uid != target.metadata.uid:
        return None
    # Steps may have been taken out of the spec meanwhile.
    return rollout.model_copy(update={"step": min(rollout.step, count)})


def _begin(steps: tuple[CanaryStep, ...], number: int, stable: TrafficTarget, route: TrafficTarget) -> Step:
    chosen = steps[number - 1]
    return Step(
        traffic=_split(stable, route, chosen.weight_percent, chosen.shadow_percent),
        revision=route.revision,
        phase=RolloutPhase.STEPPING,
        message=_where(route.revision, number, steps),
        step=number,
        steps=len(steps),
        begins=True,
        requeue_after=1.0,
    )


def _judged(situation: Situation, target: TaskModelRevision, steps: tuple[CanaryStep, ...], number: int) -> Step | None:
    stable, present = situation.traffic[0], situation.traffic[1]
    chosen, name = steps[number - 1], target.metadata.name
    policy = (situation.task.spec.rollout or Rollout()).analysis
    found = judge(
        situation.evidence,
        policy,
        held_seconds=_held_seconds(situation),
        hold_seconds=chosen.hold_seconds,
        shadow=chosen.weight_percent == 0,
    )
    if found.outcome is Outcome.BREACH:
        message = f"{name} was rolled back at step {number} of {len(steps)}: {found.message}"
        return Step(
            traffic=(whole(stable),),
            revision=name,
            phase=RolloutPhase.REJECTED,
            message=message,
            rejection=Rejection(Reason.ANALYSIS_BREACHED, message),
        )
    if not situation.verbs.paused and _goes_on(situation, found):
        return None if number == len(steps) else _begin(steps, number + 1, stable, present)
    # A spec that names a larger share for the present step is no verdict.
    weight = min(chosen.weight_percent, present.weight_percent)
    if found.outcome in _HOLDS and not situation.verbs.paused and situation.slot_is_wanted:
        return gives_way(situation, target, _HOLDS[found.outcome][0])
    hold, why = (Reason.PAUSED, "paused") if situation.verbs.paused else _HOLDS.get(found.outcome, (None, ""))
    return Step(
        traffic=_split(stable, present, weight, chosen.shadow_percent),
        revision=name,
        phase=RolloutPhase.STEPPING,
        message=f"{_where(name, number, steps)}{f'; {why}' if why else ''}",
        step=number,
        steps=len(steps),
        hold=hold,
        requeue_after=found.retry_seconds,
    )


def _goes_on(situation: Situation, found: Judgement) -> bool:
    if found.outcome is Outcome.PASS:
        return True
    policy = (situation.task.spec.rollout or Rollout()).analysis
    # Nobody is promoted unseen: where no traffic says anything, a gate must have.
    unseen = found.outcome is Outcome.NO_TRAFFIC and policy.on_no_traffic is OnNoTraffic.PROMOTE
    return unseen and situation.task.spec.evaluation is not None


def _split(stable: TrafficTarget, candidate: TrafficTarget, weight: int, shadow: int) -> Traffic:
    return (
        stable.model_copy(update={"weight_percent": 100 - weight, "shadow_percent": None}),
        candidate.model_copy(update={"weight_percent": weight, "shadow_percent": shadow or None}),
    )


def _where(name: str, number: int, steps: tuple[CanaryStep, ...]) -> str:
    chosen = steps[number - 1]
    shares = [f"{chosen.weight_percent} % of conversations go to {name}"] if chosen.weight_percent else []
    shares += [f"{chosen.shadow_percent} % of requests are mirrored to {name}"] if chosen.shadow_percent else []
    return f"step {number} of {len(steps)}: {' and '.join(shares)}"


def _held_seconds(situation: Situation) -> float:
    """How long the step has been listened to: a new leader knows nothing of the time before it."""
    rollout, evidence = situation.status.rollout, situation.evidence
    if rollout is None or rollout.step_started_at is None:
        return 0.0
    since = datetime.fromisoformat(rollout.step_started_at)
    return max(0.0, (situation.now - (max(since, evidence.since) if evidence is not None else since)).total_seconds())
