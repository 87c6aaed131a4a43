"""What is seen of an evaluation's Job and pod."""

from datetime import UTC, datetime
from typing import Any

import pytest

from taskfleet import names
from taskfleet.planning.snapshot import EvaluationView
from taskfleet.resources.evaluation import evaluation_job
from taskfleet.resources.observed_evaluation import evaluation_view
from tests.unit.resources.test_evaluation import SETTINGS, draft

Json = dict[str, Any]

END = "2026-01-01T12:00:30Z"
REPORT = '{"outcome": "Measured", "samples": 60, "candidate": {"revision": "total-0123456789", "scorePercent": 97.5}}'


def job(*conditions: tuple[str, str]) -> Json:
    """The Job as the API server gives it; `conditions` as type and message."""
    made = evaluation_job(draft(), SETTINGS)
    found = [{"type": kind, "status": "True", "message": message, "lastTransitionTime": END} for kind, message in conditions]
    return {**made, "metadata": {**made["metadata"], "uid": "uid-job"}, "status": {"conditions": found}}


def pod(phase: str, *, state: Json | None = None, job_uid: str = "uid-job", **status: Any) -> Json:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": job_uid, "controller": True}
    containers = [{"name": "evaluator", "state": state}] if state else []
    return {
        "metadata": {"name": "x-1", "uid": "uid-pod", "ownerReferences": [owner]},
        "status": {"phase": phase, "containerStatuses": containers, **status},
    }


def ended(message: str = "", **fields: Any) -> Json:
    return {"terminated": {"exitCode": 0, "finishedAt": END, **({"message": message} if message else {}), **fields}}


def view(of: Json, *pods: Json) -> EvaluationView:
    found = evaluation_view(of, pods)
    assert found is not None
    return found


def test_a_job_says_what_it_measures() -> None:
    found = view(job())
    wanted = draft()
    assert (found.job, found.revision, found.compared_with, found.attempt, found.fingerprint) == (
        wanted.name,
        wanted.revision,
        wanted.compared_with,
        wanted.attempt,
        wanted.fingerprint,
    )


def test_a_job_without_the_operator_s_word_on_it_is_not_seen() -> None:
    stripped = job()
    stripped["metadata"]["annotations"] = {names.ANNOTATION_ATTEMPT: "two"}
    assert evaluation_view(stripped, ()) is None


def test_the_report_is_the_last_word_of_the_pod_also_before_the_job_has_noticed() -> None:
    found = view(job(), pod("Succeeded", state=ended(REPORT)))
    assert found.finished
    assert found.report is not None
    assert found.report.candidate is not None
    assert found.report.candidate.score_percent == 97.5
    assert found.finished_at == datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def test_a_job_that_is_ahead_of_its_pod_is_waited_for() -> None:
    assert not view(job(("Complete", "")), pod("Running")).finished


def test_another_pod_s_words_are_not_the_job_s() -> None:
    assert not view(job(), pod("Succeeded", state=ended(REPORT), job_uid="uid-other")).finished


@pytest.mark.parametrize(
    ("of", "pods", "why"),
    [
        (job(), [pod("Failed", state=ended('{"outcome": "Great"}'))], "the report can't be read: outcome: "),
        (job(), [pod("Failed", state=ended("no settings", exitCode=1))], "the evaluator ended with: no settings"),
        (
            job(),
            [pod("Failed", state=ended(exitCode=137, reason="OOMKilled"))],
            "the evaluator ended without a report (OOMKilled, exit code 137)",
        ),
        (job(), [pod("Failed", reason="Evicted", message="The node was low on memory")], "without a report: The node was low on memory"),
        (job(("Failed", "Job was active longer than specified deadline")), [], "without a report: Job was active longer than"),
        (
            job(("Failed", "deadline")),
            [{**pod("Running"), "metadata": {**pod("Running")["metadata"], "deletionTimestamp": END}}],
            "deadline",
        ),
        (job(), [pod("Succeeded", state=ended())], "the Job ended without a report"),
    ],
    ids=["not a report", "words", "out of memory", "evicted", "deadline", "deadline, pod leaving", "nothing"],
)
def test_an_end_without_a_report_says_why(of: Json, pods: list[Json], why: str) -> None:
    found = view(of, *pods)
    assert found.finished
    assert found.report is None
    assert why in found.message


@pytest.mark.parametrize(
    ("pods", "why"),
    [
        ([], "`kubectl describe job total-0123456789-eval-2` says why"),
        (
            [pod("Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})],
            "its container does not start: ImagePullBackOff: not found",
        ),
        (
            [pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}])],
            "no node can take its pod: 0/3 nodes",
        ),
    ],
    ids=["no pod", "image", "no node"],
)
def test_a_job_that_does_not_start_says_what_keeps_it(pods: list[Json], why: str) -> None:
    found = view(job(), *pods)
    assert not found.finished
    assert why in found.message


def test_a_pod_that_starts_or_runs_is_nothing_to_tell_of() -> None:
    assert not view(job(), pod("Pending", state={"waiting": {"reason": "ContainerCreating"}})).message
    assert not view(job(), pod("Running", state={"running": {}})).message
