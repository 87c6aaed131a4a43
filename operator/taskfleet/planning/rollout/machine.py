"""The way from one revision to the next.

    Resolving → Proving → Evaluating → Stepping → Draining → Done
         │          │          │           └→ Rejected: all traffic to the stable revision, at once
         └──────────┴→ Failed  └→ Rejected: it never had traffic

Evaluating only with a gate, Stepping only with canary steps; what serves goes on in every case. Failed: no engine can load it; another try of the agents, or another spec,
leads out of it. Rejected: by its gate, by the analysis of its traffic or by a person; a retry, or another spec, leads out of it.

The state is what is observed; the only memory is `status.traffic`, `status.rollout` and the statuses of the revisions. Traffic is replaced, never removed, and only by a
revision that is proven on every Ready pod of its pool. While not every gateway is known to act on a switch, the phase is Draining and packing keeps all members of the task.
A rejected revision leaves the pool at once: its agents refuse it from then on, and nobody waits for a gateway that has not heard of it.
"""

from dataclasses import replace

from taskfleet.api.conditions import Reason
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import Rollout, RolloutStatus, Strategy, TrafficTarget
from taskfleet.planning.conditions import timestamp
from taskfleet.planning.revisions import Phase
from taskfleet.planning.rollout.before_traffic import at_the_gate, held_meanwhile, paused
from taskfleet.planning.rollout.gate import Passed, decide, is_standing
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.situation import Rejection, Situation, Step, Traffic, rejected, stable_only
from taskfleet.planning.rollout.steps import advance


def step(situation: Situation) -> Step:
    """The next step of the rollout."""
    target = situation.target
    if target is None:
        return _held(situation)
    if (again := _retried(situation, target)) is not None:
        return again
    if situation.target_is_rejected:
        return _after_rejection(situation, target)
    return _ordered(situation, target) or _toward(situation, target)


# The target is on its way


def _toward(situation: Situation, target: TaskModelRevision) -> Step:
    route, stable = situation.route, situation.stable
    if route is not None and situation.traffic == (route,):
        return _following(situation, target.metadata.name)
    if route is not None and stable is not None and _same_place(stable, route):
        return _switch(route, f"{route.revision} keeps all traffic: it is what the spec asks for again")
    if route is not None and situation.place is not None and situation.place.proven:
        return _through_the_gate(situation, target, route)
    if _draining(situation) and not _all_follow(situation):
        return _held(situation)
    return _on_its_way(situation, target)


def _on_its_way(situation: Situation, target: TaskModelRevision) -> Step:
    name, place = target.metadata.name, situation.place
    if place is not None and place.failed and place.status is not None:
        return Step(traffic=stable_only(situation), revision=name, phase=RolloutPhase.FAILED, message=f"{name}: {place.status.message}")
    rollout = situation.status.rollout
    if rollout is not None and rollout.revision == name and rollout.phase == RolloutPhase.STEPPING and _has_share(situation, name):
        # A pod that starts in mid-canary has yet to prove it; requests that meet it there are answered elsewhere.
        message = f"{name} waits on its step until it is proven on every Ready pod again"
        return Step(
            traffic=situation.traffic,
            revision=name,
            phase=RolloutPhase.STEPPING,
            message=message,
            step=rollout.step,
            steps=rollout.steps,
            gate=rollout.gate,
        )
    if (held := held_meanwhile(situation, target)) is not None:
        return held
    unresolved = target.spec.adapter is not None and target.status.digest is None
    phase = RolloutPhase.RESOLVING if unresolved else RolloutPhase.PROVING
    message = f"{name}: {place.status.message}" if place is not None and place.status is not None else f"{name} waits for a pool"
    return Step(traffic=stable_only(situation), revision=name, phase=phase, message=message)


def _through_the_gate(situation: Situation, target: TaskModelRevision, route: TrafficTarget) -> Step:
    """It is proven. What serves in another place, or served not long ago, has been through all this."""
    stable, rollout = situation.stable, situation.task.spec.rollout or Rollout()
    if (stable is not None and stable.revision == target.metadata.name) or _in_the_window(target, rollout):
        return _switch(route)
    gate = situation.gate(target)
    passed = None
    if gate is not None and not (_stepping(situation, target) and is_standing(gate)):
        decision = decide(gate, now=situation.now)
        if not isinstance(decision, Passed):
            return at_the_gate(situation, target, gate, decision)
        passed = decision
    return _recorded(_past_the_gate(situation, target, route, rollout), passed)


def _past_the_gate(situation: Situation, target: TaskModelRevision, route: TrafficTarget, rollout: Rollout) -> Step:
    stable = situation.stable
    if situation.slot_is_wanted and not _stepping(situation, target) and (held := held_meanwhile(situation, target)) is not None:
        return held
    if situation.verbs.paused and not _stepping(situation, target):
        return paused(situation, target)
    if stable is None or rollout.strategy is Strategy.IMMEDIATE:
        return _switch(route)
    return advance(situation, target, stable, route) or _switch(route)


def _recorded(found: Step, passed: Passed | None) -> Step:
    return found if passed is None else replace(found, report=passed.report)


def _switch(route: TrafficTarget, message: str = "") -> Step:
    return Step(
        traffic=(route,),
        revision=route.revision,
        phase=RolloutPhase.DRAINING,
        message=message or f"all traffic goes to {route.revision} on pool {route.pool}; waiting until every gateway acts on it",
        switched=True,
        ask_gateways=True,
    )


def _following(situation: Situation, name: str) -> Step:
    """The target has the traffic. Once every gateway was seen to act on it, a gateway that starts later changes nothing."""
    rollout = situation.status.rollout
    written = tuple(situation.status.traffic) == situation.traffic
    settled = written and rollout is not None and rollout.phase == RolloutPhase.DONE and rollout.revision == name
    if settled or (written and _all_follow(situation)):
        return Step(traffic=situation.traffic, revision=name, phase=RolloutPhase.DONE, message=f"{name} serves")
    return Step(
        traffic=situation.traffic,
        revision=name,
        phase=RolloutPhase.DRAINING,
        message=f"all traffic goes to {name} on pool {situation.traffic[0].pool}; waiting until every gateway acts on it",
        ask_gateways=True,
    )


# The target is rejected


def _ordered(situation: Situation, target: TaskModelRevision) -> Step | None:
    """What a person has ordered against the target, if that can be done."""
    name, verbs = target.metadata.name, situation.verbs
    serves = situation.stable is not None and situation.stable.revision == name
    if verbs.undone and serves and situation.goal is not None and situation.goal.metadata.name != name:
        message = f"{name} was undone in favour of {situation.goal.metadata.name}"
        return Step(
            traffic=situation.traffic,
            revision=name,
            phase=RolloutPhase.REJECTED,
            message=message,
            rejection=Rejection(Reason.ABORTED, message),
        )
    if verbs.aborted and not serves:
        return rejected(situation, target, Rejection(Reason.ABORTED, f"{name} was aborted"))
    return None


def _retried(situation: Situation, target: TaskModelRevision) -> Step | None:
    """From its gate on, once for each value of the annotation: a revision that was rejected, or one whose gate could not be measured."""
    asked, rollout = situation.verbs.retry, situation.status.rollout
    unmeasured = rollout is not None and rollout.revision == target.metadata.name and rollout.hold == Reason.GATE_UNMEASURABLE
    if asked is None or asked == target.status.retried or not (situation.target_is_rejected or unmeasured):
        return None
    if situation.verbs.aborted or situation.verbs.undone:
        return None
    name = target.metadata.name
    return Step(traffic=stable_only(situation), revision=name, phase=RolloutPhase.PROVING, message=f"{name} is tried again", retried=asked)


def _after_rejection(situation: Situation, target: TaskModelRevision) -> Step:
    name, stable, goal = target.metadata.name, situation.stable, situation.goal
    verdict = target.status.verdict
    message = verdict.message if verdict is not None else f"{name} was rejected"
    if stable is None or goal is None or stable.revision == goal.metadata.name:
        if stable is not None and _draining(situation) and not _all_follow(situation):
            return replace(_held(situation), traffic=stable_only(situation))
        return Step(traffic=stable_only(situation), revision=name, phase=RolloutPhase.REJECTED, message=message)
    # The one that serves was undone: it goes on until the one before it is proven again.
    if situation.place is not None and situation.place.proven and situation.route is not None:
        return _switch(situation.route)
    return replace(_on_its_way(situation, goal), traffic=situation.traffic)


# Nothing is decided


def _held(situation: Situation) -> Step:
    """No change of course; a switch that was begun is brought to its end."""
    rollout = situation.status.rollout
    if rollout is None:
        return Step(traffic=situation.traffic, revision=None, phase=None)
    phase, message = RolloutPhase(rollout.phase), rollout.message or ""
    as_it_is = Step(
        traffic=situation.traffic,
        revision=rollout.revision,
        phase=phase,
        message=message,
        step=rollout.step,
        steps=rollout.steps,
        hold=Reason(rollout.hold) if rollout.hold in set(Reason) else None,
        gate=rollout.gate,
    )
    if phase is not RolloutPhase.DRAINING:
        return as_it_is
    if _all_follow(situation):
        return Step(traffic=situation.traffic, revision=rollout.revision, phase=RolloutPhase.DONE, message=f"{rollout.revision} serves")
    return replace(as_it_is, ask_gateways=True)


def _has_share(situation: Situation, name: str) -> bool:
    return any(target.revision == name for target in situation.traffic[1:])


def _same_place(one: TrafficTarget, other: TrafficTarget) -> bool:
    return (one.revision, one.uid, one.pool) == (other.revision, other.uid, other.pool)


def _in_the_window(target: TaskModelRevision, rollout: Rollout) -> bool:
    """Of those that served, only the newest are kept (`revisions.unneeded`)."""
    return rollout.rollback_window_revisions > 0 and target.status.phase == Phase.SUPERSEDED


def _stepping(situation: Situation, target: TaskModelRevision) -> bool:
    rollout = situation.status.rollout
    return rollout is not None and rollout.phase == RolloutPhase.STEPPING and rollout.revision == target.metadata.name


def _draining(situation: Situation) -> bool:
    rollout = situation.status.rollout
    return rollout is not None and rollout.phase == RolloutPhase.DRAINING


def _all_follow(situation: Situation) -> bool:
    """Does every gateway act on the traffic? With no gateway at all nobody acts on another one."""
    return situation.gateways is not None and all(
        view.traffic is not None and _comparable(view.traffic) == _comparable(situation.traffic) for view in situation.gateways
    )


def _comparable(traffic: Traffic) -> frozenset[tuple[str, str, str, int]]:
    return frozenset((target.revision, target.uid, target.pool, target.weight_percent) for target in traffic)


def rollout_status(before: RolloutStatus | None, found: Step, situation: Situation) -> RolloutStatus | None:
    """The step as the status says it. A rollout begins when another revision is on its way, or when one that was done or rejected moves again."""
    if found.revision is None or found.phase is None:
        return before
    ended = {RolloutPhase.DONE, RolloutPhase.REJECTED}
    goes_on = before is not None and before.revision == found.revision and (before.phase not in ended or found.phase in ended)
    at = timestamp(situation.now)
    same_step = goes_on and before is not None and before.step == found.step and not found.begins
    return RolloutStatus(
        revision=found.revision,
        phase=found.phase.value,
        started_at=before.started_at if goes_on and before is not None else at,
        step=found.step,
        steps=found.steps,
        step_started_at=None if found.step is None else before.step_started_at if same_step and before is not None else at,
        hold=found.hold.value if found.hold is not None else None,
        gate=found.gate,
        message="; ".join(filter(None, (found.message, situation.verbs.mistake)))[:1024],
    )
