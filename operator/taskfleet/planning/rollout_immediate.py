"""The Immediate way from one revision to the next: resolve, prove, switch all traffic at once, drain.

    Resolving → Proving → Draining → Done
         └─────────┴──→ Failed: what serves goes on; another try of the agents, or another spec, leads out of it

The state is what is observed; the only memory is `status.traffic` and `status.rollout`. Traffic is replaced, never removed, and only by a revision that is proven on every
Ready pod of its pool. While not every gateway is known to act on the traffic that was written last, the phase is Draining and packing keeps all members of the task.
"""

from dataclasses import dataclass

from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import RolloutStatus, TaskModelStatus, TrafficTarget
from taskfleet.planning.placement import Placement
from taskfleet.planning.rollout_phase import RolloutPhase
from taskfleet.planning.snapshot import GatewayView

Traffic = tuple[TrafficTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the rollout of one task is decided from.

    `target` is the revision of the spec (None: not accepted, suspended, or not seen yet), `place` its place on a pool of the right key. `traffic` is what the status says, or
    what it said before it was lost. `gateways` is None where they were not asked.
    """

    status: TaskModelStatus
    traffic: Traffic
    target: TaskModelRevision | None
    place: Placement | None
    gateways: tuple[GatewayView, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What follows. `revision` is the one that `phase` is about; both None where nothing was ever rolled."""

    traffic: Traffic
    revision: str | None
    phase: RolloutPhase | None
    message: str = ""
    switched: bool = False
    ask_gateways: bool = False


def step(situation: Situation) -> Step:
    """The next step of the rollout."""
    target = situation.target
    if target is None:
        return _held(situation)
    route = _route(situation)
    if route is not None and situation.traffic == (route,):
        return _following(situation, target.metadata.name)
    if route is not None and situation.place is not None and situation.place.proven:
        return Step(
            traffic=(route,),
            revision=target.metadata.name,
            phase=RolloutPhase.DRAINING,
            message=f"all traffic goes to {target.metadata.name} on pool {route.pool}; waiting until every gateway acts on it",
            switched=True,
            ask_gateways=True,
        )
    if _draining(situation.status) and not _all_follow(situation):
        return _held(situation)
    return _on_its_way(situation, target)


def _on_its_way(situation: Situation, target: TaskModelRevision) -> Step:
    name, place = target.metadata.name, situation.place
    if place is not None and place.failed and place.status is not None:
        return Step(traffic=situation.traffic, revision=name, phase=RolloutPhase.FAILED, message=f"{name}: {place.status.message}")
    unresolved = target.spec.adapter is not None and target.status.digest is None
    phase = RolloutPhase.RESOLVING if unresolved else RolloutPhase.PROVING
    message = f"{name}: {place.status.message}" if place is not None and place.status is not None else f"{name} waits for a pool"
    return Step(traffic=situation.traffic, revision=name, phase=phase, message=message)


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


def _held(situation: Situation) -> Step:
    """No change of course; a switch that was begun is brought to its end."""
    rollout = situation.status.rollout
    if rollout is None:
        return Step(traffic=situation.traffic, revision=None, phase=None)
    phase, message = RolloutPhase(rollout.phase), rollout.message or ""
    if phase is not RolloutPhase.DRAINING:
        return Step(traffic=situation.traffic, revision=rollout.revision, phase=phase, message=message)
    if _all_follow(situation):
        return Step(traffic=situation.traffic, revision=rollout.revision, phase=RolloutPhase.DONE, message=f"{rollout.revision} serves")
    return Step(traffic=situation.traffic, revision=rollout.revision, phase=phase, message=message, ask_gateways=True)


def _route(situation: Situation) -> TrafficTarget | None:
    if situation.target is None or situation.place is None:
        return None
    metadata = situation.target.metadata
    return TrafficTarget(revision=metadata.name, uid=metadata.uid, pool=situation.place.pool.metadata.name, weight_percent=100)


def _draining(status: TaskModelStatus) -> bool:
    return status.rollout is not None and status.rollout.phase == RolloutPhase.DRAINING


def _all_follow(situation: Situation) -> bool:
    """Does every gateway act on the traffic? With no gateway at all nobody acts on another one."""
    return situation.gateways is not None and all(
        view.traffic is not None and _comparable(view.traffic) == _comparable(situation.traffic) for view in situation.gateways
    )


def _comparable(traffic: Traffic) -> frozenset[tuple[str, str, str, int]]:
    return frozenset((target.revision, target.uid, target.pool, target.weight_percent) for target in traffic)


def rollout_status(before: RolloutStatus | None, next_step: Step, *, at: str) -> RolloutStatus | None:
    """The step as the status says it. A rollout begins when another revision is on its way, or when one that was done moves again."""
    if next_step.revision is None or next_step.phase is None:
        return before
    goes_on = (
        before is not None
        and before.revision == next_step.revision
        and (before.phase != RolloutPhase.DONE or next_step.phase is RolloutPhase.DONE)
    )
    return RolloutStatus(
        revision=next_step.revision,
        phase=next_step.phase.value,
        started_at=before.started_at if goes_on and before is not None else at,
        message=next_step.message[:1024],
    )
