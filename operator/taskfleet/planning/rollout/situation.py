"""What a rollout is decided from, and what a decision is. The decisions stand in `machine` and `steps`."""

from dataclasses import dataclass
from datetime import datetime

from taskfleet.api.conditions import Reason
from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import GateStatus, TaskModel, TaskModelStatus, TrafficTarget
from taskfleet.planning.placement import Placement
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.planning.revisions import Phase
from taskfleet.planning.rollout.gate import Gate
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.verbs import Verbs
from taskfleet.planning.snapshot import DatasetView, EvaluationView, Evidence, GatewayView

Traffic = tuple[TrafficTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the rollout of one task is decided from.

    `target` is the revision of the spec (None: not accepted, suspended, or not seen yet). `goal` is where all traffic is to end: the target, or what serves instead of one
    that was rejected. `place` is the goal's place on a pool. `traffic` is what the status says, or what it said before it was lost; the stable revision stands first.
    `gateways` is None where they were not asked.
    """

    task: TaskModel
    traffic: Traffic
    target: TaskModelRevision | None
    goal: TaskModelRevision | None
    place: Placement | None
    gateways: tuple[GatewayView, ...] | None
    verbs: Verbs
    dataset: DatasetView | None
    evaluations: tuple[EvaluationView, ...]
    evidence: Evidence | None
    revisions: tuple[TaskModelRevision, ...]  # the living ones of the task
    now: datetime

    @property
    def status(self) -> TaskModelStatus:
        return self.task.status

    @property
    def stable(self) -> TrafficTarget | None:
        """The route of the revision that serves."""
        return self.traffic[0] if self.traffic else None

    @property
    def route(self) -> TrafficTarget | None:
        """All traffic to the goal."""
        if self.goal is None or self.place is None:
            return None
        metadata = self.goal.metadata
        return TrafficTarget(revision=metadata.name, uid=metadata.uid, pool=self.place.pool.metadata.name, weight_percent=100)

    @property
    def slot_is_wanted(self) -> bool:
        """Does one that can go on wait for the goal's candidate slot?"""
        return self.place is not None and self.place.member.slot_wanted is True

    @property
    def target_is_rejected(self) -> bool:
        return self.target is not None and self.target.status.phase == Phase.REJECTED

    def gate(self, candidate: TaskModelRevision) -> Gate | None:
        """The candidate in front of its gate; None where the spec asks for none."""
        evaluation = self.task.spec.evaluation
        if evaluation is None:
            return None
        return Gate(
            evaluation=evaluation,
            candidate=candidate,
            stable=self.stable.revision if self.stable is not None else None,
            dataset=self.dataset,
            evaluations=self.evaluations,
            revisions=self.revisions,
        )


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the target gets no traffic any more."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What follows. `revision` is the one that `phase` is about; both None where nothing was ever rolled."""

    traffic: Traffic
    revision: str | None
    phase: RolloutPhase | None
    message: str = ""
    switched: bool = False
    ask_gateways: bool = False
    # Where it stands among the steps, counted from 1; `begins`: from this moment on.
    step: int | None = None
    steps: int | None = None
    begins: bool = False
    hold: Reason | None = None
    gate: GateStatus | None = None
    evaluate: EvaluationDraft | None = None
    read_dataset: bool = False
    # What is recorded in the target's status.
    report: EvaluationReport | None = None
    rejection: Rejection | None = None
    retried: str | None = None
    requeue_after: float | None = None


def whole(target: TrafficTarget) -> TrafficTarget:
    """All traffic to a revision that has a part of it."""
    return target.model_copy(update={"weight_percent": 100, "shadow_percent": None})


def stable_only(situation: Situation) -> Traffic:
    """All traffic to what serves."""
    return (whole(situation.traffic[0]),) if situation.traffic else ()


def rejected(situation: Situation, target: TaskModelRevision, rejection: Rejection) -> Step:
    """The target gets no traffic from now on."""
    return Step(
        traffic=stable_only(situation),
        revision=target.metadata.name,
        phase=RolloutPhase.REJECTED,
        message=rejection.message,
        rejection=rejection,
    )
