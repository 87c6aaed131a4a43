"""A candidate before it gets traffic: in front of its gate, or held there. What it is measured by, and when, is the gate's to decide (`gate`)."""

from dataclasses import replace

from taskfleet.api.conditions import Reason
from taskfleet.api.revision import TaskModelRevision
from taskfleet.planning.rollout.gate import Failed, Gate, Hold, Retry, Running, decide, gate_status
from taskfleet.planning.rollout.phase import UNDECIDED, RolloutPhase
from taskfleet.planning.rollout.situation import Rejection, Situation, Step, rejected, stable_only
from taskfleet.planning.rollout.slots import in_words


def at_the_gate(situation: Situation, target: TaskModelRevision, gate: Gate, decision: Failed | Running | Retry | Hold) -> Step:
    """What follows from a gate that is not passed."""
    name = target.metadata.name
    if isinstance(decision, Failed):
        return replace(rejected(situation, target, Rejection(decision.reason, decision.message)), report=decision.report)
    unread = gate.evaluation.dataset.config_map_name is not None and situation.dataset is None
    found = Step(
        traffic=stable_only(situation),
        revision=name,
        phase=RolloutPhase.EVALUATING,
        message=f"{name}: {decision.message}",
        gate=gate_status(gate, decision),
        read_dataset=unread,
    )
    if isinstance(decision, Running):
        return replace(found, evaluate=decision.draft)
    if isinstance(decision, Retry):
        return replace(found, requeue_after=max(1.0, (decision.at - situation.now).total_seconds()))
    return replace(found, hold=Reason.GATE_UNMEASURABLE, requeue_after=decision.look_again_seconds)


def paused(situation: Situation, target: TaskModelRevision) -> Step:
    """Held by a person, past its gate or without one."""
    phase = RolloutPhase.PROVING if situation.task.spec.evaluation is None else RolloutPhase.EVALUATING
    message = f"{target.metadata.name} is paused before it gets traffic"
    return Step(traffic=stable_only(situation), revision=target.metadata.name, phase=phase, message=message, hold=Reason.PAUSED)


def gives_way(situation: Situation, target: TaskModelRevision, hold: Reason) -> Step:
    """Its step had all its time and came to no verdict, and another waits for its candidate slot: the share goes back, and packing takes the slot once it has."""
    phase = RolloutPhase.PROVING if situation.task.spec.evaluation is None else RolloutPhase.EVALUATING
    why = "too few requests" if hold is Reason.NO_TRAFFIC else "figures that prove nothing"
    message = f"{target.metadata.name} gave its share back for one that can go on: its step ended with {why}, and begins anew when a candidate slot is left over"
    return Step(traffic=stable_only(situation), revision=target.metadata.name, phase=phase, message=message, hold=hold)


def held_meanwhile(situation: Situation, target: TaskModelRevision) -> Step | None:
    """It was held when it was proven, and nothing has changed that would let it go on. Kept, because one that is held must not get a slot before others (`slots`)."""
    rollout, place = situation.status.rollout, situation.place
    if rollout is None or rollout.revision != target.metadata.name or place is None:
        return None
    if rollout.hold == Reason.PAUSED and situation.verbs.paused:
        held = paused(situation, target)
    elif rollout.hold == Reason.GATE_UNMEASURABLE and (gate := situation.gate(target)) is not None:
        decision = decide(gate, now=situation.now)
        if not isinstance(decision, Hold):
            return None
        held = at_the_gate(situation, target, gate, decision)
    elif rollout.hold in UNDECIDED and not situation.verbs.promote_to:
        held = gives_way(situation, target, Reason(rollout.hold))
    else:
        return None
    before = place.member.waits_behind
    return held if before is None else replace(held, message=f"{held.message}; it {in_words(place.pool.metadata.name, before)}")
