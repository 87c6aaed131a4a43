"""What is counted of a rollout, and that it is counted once."""

import pytest
from prometheus_client import REGISTRY

from taskfleet.api.revision import TaskModelRevisionStatus
from taskfleet.api.taskmodel import TaskModelStatus
from taskfleet.controller import rollout_figures
from taskfleet.planning.plans import TaskPlan
from tests.unit.planning.builders import later

SHARED = [
    {"revision": "total-1", "uid": "u-1", "pool": "tiny", "weightPercent": 90},
    {"revision": "total-2", "uid": "u-2", "pool": "tiny", "weightPercent": 10},
]


def status(phase: str, *, shared: bool = False) -> TaskModelStatus:
    rollout = {"revision": "total-2", "phase": phase, "startedAt": "2026-01-01T12:00:00Z"}
    return TaskModelStatus.model_validate({"rollout": rollout, "traffic": SHARED if shared else []})


def rejected(reason: str) -> TaskModelRevisionStatus:
    verdict = {"outcome": "Rejected", "reason": reason, "message": "why", "at": "2026-01-01T12:00:00Z"}
    return TaskModelRevisionStatus.model_validate({"phase": "Rejected", "verdict": verdict})


def plan(phase: str, reason: str | None = None) -> TaskPlan:
    return TaskPlan(status=status(phase), revision_statuses={"total-2": rejected(reason)} if reason is not None else {})


class _Change:
    """How much a sample has grown since."""

    def __init__(self, name: str, **labels: str) -> None:
        self._sample = (name, labels)
        self._before = self._now()

    def _now(self) -> float:
        return REGISTRY.get_sample_value(*self._sample) or 0.0

    def __call__(self) -> float:
        return self._now() - self._before


def test_a_promotion_is_counted_with_its_duration() -> None:
    ended, seconds = _Change("taskfleet_rollouts_total", outcome="Promoted"), _Change("taskfleet_rollout_seconds_sum", outcome="Promoted")
    rollout_figures.count(status("Draining"), plan("Done"), now=later(90), seconds=0.1)
    assert (ended(), seconds()) == (1, 90)


def test_a_rollback_is_counted_by_its_reason_with_the_time_from_the_verdict() -> None:
    ended, rollback = _Change("taskfleet_rollouts_total", outcome="AnalysisBreached"), _Change("taskfleet_rollback_seconds_sum")
    rollout_figures.count(status("Stepping", shared=True), plan("Rejected", "AnalysisBreached"), now=later(30), seconds=0.25)
    assert (ended(), rollback()) == (1, 0.25)


def test_a_candidate_without_traffic_needs_no_rollback() -> None:
    ended, rollback = _Change("taskfleet_rollouts_total", outcome="GateFailed"), _Change("taskfleet_rollback_seconds_count")
    rollout_figures.count(status("Evaluating"), plan("Rejected", "GateFailed"), now=later(30), seconds=0.25)
    assert (ended(), rollback()) == (1, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [(status("Done"), "Done"), (status("Proving"), "Stepping"), (TaskModelStatus(), "Done")],
    ids=["counted before", "goes on", "after a lost status"],
)
def test_nothing_else_is_counted(before: TaskModelStatus, after: str) -> None:
    ended = _Change("taskfleet_rollouts_total", outcome="Promoted")
    rollout_figures.count(before, plan(after), now=later(1), seconds=0.1)
    assert ended() == 0
