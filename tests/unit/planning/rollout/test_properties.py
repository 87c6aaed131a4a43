"""What holds of every rollout, whatever people do and whatever goes wrong, in any order."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskfleet.api.taskmodel import TaskModel, TaskModelStatus, TrafficTarget
from taskfleet.planning import revisions
from taskfleet.planning.plans import TaskPlan
from taskfleet.planning.revisions import Phase
from taskfleet.planning.rollout.analysis import Outcome, judge
from taskfleet.planning.rollout.gate_policy import objection
from taskfleet.planning.rollout.verbs import verbs_for
from tests.unit.planning.builders import digest
from tests.unit.planning.fleet import Fleet
from tests.unit.planning.rollout.test_stories import ordered, served, version

VERSIONS = ("v1", "v2", "v3")


@dataclass
class WatchedFleet(Fleet):
    """Holds every plan to the rules before it is carried out."""

    def _carry_out(self, name: str, plan: TaskPlan) -> None:
        task = self.tasks[name]
        if plan.status is not None:
            before, after = list(task.status.traffic), plan.status.traffic
            assert sum(target.weight_percent for target in after) == (100 if after else 0)
            assert len(after) <= 2, "the stable revision, and one candidate"
            assert not before or after, "traffic is replaced, never removed"
            for target in after:
                self._may_have_it(task, plan, before, target)
        super()._carry_out(name, plan)

    def _may_have_it(self, task: TaskModel, plan: TaskPlan, before: list[TrafficTarget], target: TrafficTarget) -> None:
        was = next((other for other in before if other.revision == target.revision), None)
        status = plan.revision_statuses.get(target.revision)
        serves = bool(before) and before[0].revision == target.revision
        if status is not None and status.phase == Phase.REJECTED:
            assert serves, "a rejected revision has no traffic, but while it is the only one that serves"
        share = was.weight_percent if was is not None else 0
        if serves or target.weight_percent <= share:
            return
        known = self.revisions[target.revision].status
        if known.phase in {Phase.SUPERSEDED, Phase.STABLE}:
            return  # it was promoted before
        assert status is not None
        assert status.evaluation is not None, "nobody gets traffic without a report"
        assert task.spec.evaluation is not None
        assert objection(task.spec.evaluation, status.evaluation) is None
        if was is None or not before:
            return  # its first share, behind its gate
        self._has_a_verdict(task, target)

    def _has_a_verdict(self, task: TaskModel, target: TrafficTarget) -> None:
        rollout, spec = task.status.rollout, task.spec.rollout
        assert rollout is not None
        assert rollout.step is not None
        assert spec is not None
        if verbs_for(task, target.revision).promote_to > rollout.step:
            return
        found = judge(
            self._evidence(task.status),
            spec.analysis,
            held_seconds=1e9 if rollout.step_started_at is None else 60.0,
            hold_seconds=60,
            shadow=False,
        )
        assert found.outcome is Outcome.PASS, f"{target} grew without a verdict: {found}"


Act = Callable[[Fleet], None]


def applies(name: str) -> Act:
    return lambda fleet: fleet.apply(version(name))


def orders(verb: str, value: str) -> Act:
    def act(fleet: Fleet) -> None:
        fleet.apply(ordered(fleet.tasks["total"], **{verb: value}))

    return act


def fails(name: str, share: float) -> Act:
    return lambda fleet: fleet.failing.__setitem__(digest(name[1]), share)


def scores(name: str, score: float) -> Act:
    return lambda fleet: fleet.scores.__setitem__(digest(name[1]), score)


def cannot_be_measured(fleet: Fleet) -> None:
    fleet.unmeasurable = 2


def loses_its_status(fleet: Fleet) -> None:
    task = fleet.tasks["total"]
    fleet.tasks["total"] = task.model_copy(update={"status": TaskModelStatus()})


def becomes_quiet(fleet: Fleet) -> None:
    fleet.requests_per_second = 0.0


def becomes_busy(fleet: Fleet) -> None:
    fleet.requests_per_second = 20.0


def gateways_are_deaf(fleet: Fleet) -> None:
    fleet.gateways_follow = False


def gateways_hear(fleet: Fleet) -> None:
    fleet.gateways_follow = True


ACTS: tuple[Act, ...] = (
    *(applies(name) for name in VERSIONS),
    orders("pause", "{}"),
    orders("abort", "{}"),
    orders("undo", "{}"),
    orders("promote", "{}@2"),
    orders("promote", "{}@full"),
    orders("retry", "{}@1"),
    orders("retry", "{}@2"),
    *(fails(name, share) for name in VERSIONS for share in (0.0, 0.3)),
    *(scores(name, score) for name in VERSIONS for score in (60.0, 97.0)),
    cannot_be_measured,
    loses_its_status,
    becomes_quiet,
    becomes_busy,
    gateways_are_deaf,
    gateways_hear,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(min_value=0, max_value=200)), min_size=1, max_size=8))
def test_no_share_grows_without_a_verdict_and_no_rejected_revision_has_any(acts: list[tuple[Act, int]]) -> None:
    begun = served()
    fleet = WatchedFleet(**{name: getattr(begun, name) for name in begun.__dataclass_fields__})
    for act, seconds in acts:
        act(fleet)
        fleet.settle("", seconds=seconds)
    fleet.apply(version("v1"))
    fleet.scores.clear()
    fleet.failing.clear()
    fleet.unmeasurable = 0
    becomes_busy(fleet)
    gateways_hear(fleet)
    fleet.settle("the last good version", seconds=2000)
    asked = revisions.target_name(fleet.tasks["total"])
    rejected = fleet.revisions[asked].status.phase == Phase.REJECTED
    serving = [(target.revision, target.weight_percent) for target in fleet.tasks["total"].status.traffic]
    assert rejected or serving == [(asked, 100)], fleet.text
