"""The gate: what its measurements come to, when it tries again, and which Jobs are kept."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.api.evaluation import EvaluationReport, Figures, Measured
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import Evaluation
from taskfleet.evaluation.settings import settings_digest
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.planning.rollout import gate
from taskfleet.planning.rollout.gate import Decision, Failed, Gate, Hold, Passed, Retry, Running
from taskfleet.planning.snapshot import DatasetView, EvaluationView
from tests.unit.planning.builders import NOW, digest, later, revision_of, task_model

CANDIDATE = revision_of(task_model(version="v2"), digest=digest("b"))
STABLE = "total-0000000001"
GOLDEN = DatasetView(digest=digest("d"), examples=60)


def evaluation(**fields: Any) -> Evaluation:
    return Evaluation.model_validate({"dataset": {"configMapName": "golden"}, "minSamples": 50, **fields})


def at_the_gate(*views: EvaluationView, stable: str | None = STABLE, dataset: DatasetView | None = GOLDEN, **fields: Any) -> Gate:
    return Gate(evaluation=evaluation(**fields), candidate=CANDIDATE, stable=stable, dataset=dataset, evaluations=views)


def report(stable: str | None = STABLE, **fields: Any) -> EvaluationReport:
    """Measured, and as good as the stable revision."""
    compared: dict[str, Any] = {}
    if stable is not None:
        compared = {f"difference_{which}percent": 0.0 for which in ("", "lower_", "upper_")}
        compared["stable"] = Figures(revision=stable, score_percent=98)
    found = {
        "outcome": Measured.MEASURED,
        "metric": "ExactMatch",
        "samples": 60,
        "candidate": Figures(revision=CANDIDATE.metadata.name, score_percent=98),
        "dataset_digest": GOLDEN.digest,
        "settings_digest": settings_digest(evaluation()),
        **compared,
        **fields,
    }
    return EvaluationReport.model_validate(found)


def unmeasurable(message: str = "no judge", **fields: Any) -> EvaluationReport:
    return EvaluationReport(outcome=Measured.UNMEASURABLE, message=message, **fields)


def figures(score: float) -> Figures:
    return Figures(revision=CANDIDATE.metadata.name, score_percent=score)


def started(draft: EvaluationDraft) -> EvaluationView:
    """The Job of a draft, as it is seen while it runs."""
    return EvaluationView(
        job=draft.name, revision=draft.revision, compared_with=draft.compared_with, attempt=draft.attempt, fingerprint=draft.fingerprint
    )


def running(decision: Decision) -> EvaluationDraft:
    assert isinstance(decision, Running), decision
    return decision.draft


def ended(front: Gate, found: EvaluationReport | None, *, message: str = "", seconds: float = 0) -> Gate:
    """The gate after one more Job, which ended `seconds` after NOW."""
    draft = running(gate.decide(front, now=later(100_000)))
    view = replace(started(draft), finished=True, report=found, message=message, finished_at=later(seconds))
    return replace(front, evaluations=(*front.evaluations, view))


def with_status(front: Gate, **fields: Any) -> Gate:
    status = front.candidate.status.model_copy(update=fields)
    return replace(front, candidate=front.candidate.model_copy(update={"status": status}))


def test_the_first_measurement_is_a_job_that_names_what_it_measures() -> None:
    draft = running(gate.decide(at_the_gate(), now=NOW))
    assert (draft.name, draft.revision, draft.revision_uid) == (
        f"{CANDIDATE.metadata.name}-eval-1",
        CANDIDATE.metadata.name,
        CANDIDATE.metadata.uid,
    )
    assert (draft.compared_with, draft.attempt, draft.dataset_digest) == (STABLE, 1, GOLDEN.digest)


def test_a_job_that_runs_is_waited_for_and_says_what_keeps_it() -> None:
    draft = running(gate.decide(at_the_gate(), now=NOW))
    waiting = at_the_gate(replace(started(draft), message="no node can take its pod"))
    assert gate.decide(waiting, now=later(1_000)) == Running(draft=draft, message="no node can take its pod")


def test_a_good_report_passes_and_keeps_the_limits_that_it_passed_under() -> None:
    decision = gate.decide(ended(at_the_gate(), report()), now=NOW)
    assert isinstance(decision, Passed)
    assert decision.report.policy == "at least 95 % over at least 50 examples, at most 1 points worse than the stable revision"
    assert decision.message == (
        f"{CANDIDATE.metadata.name} scores 98 % by ExactMatch over 60 examples, {STABLE} 98 % (difference +0.00 points, 95 % interval +0.00 to +0.00)"
    )


def test_the_first_revision_passes_without_a_comparison() -> None:
    decision = gate.decide(ended(at_the_gate(stable=None), report(stable=None)), now=NOW)
    assert isinstance(decision, Passed)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"candidate": figures(94.9)},
            f"misses minScorePercent, which asks for 95 %: scores 94.9 % by ExactMatch over 60 examples, {STABLE} 98 % (difference ",
        ),
        (
            {"difference_percent": -0.5, "difference_lower_percent": -1.25, "difference_upper_percent": 0.25},
            "may be 1.25 points worse than the stable revision, maxRegressionPercent allows 1: ",
        ),
    ],
    ids=["score too low", "worse than the stable one"],
)
def test_a_bad_report_fails_with_its_figures(fields: dict[str, Any], why: str) -> None:
    decision = gate.decide(ended(at_the_gate(), report(**fields)), now=NOW)
    assert isinstance(decision, Failed)
    assert why in decision.message


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (unmeasurable(), "no judge"),
        (None, "the Job ended without a report"),
        (report(samples=49, errors=11), "49 of 60 examples were answered, minSamples asks for 50"),
        (report(stable=None), "the report does not compare with the stable revision"),
        (report(dataset_digest=digest("e")), "its report is about something else"),
        (report(stable="total-0000000009"), "its report is about something else"),
    ],
    ids=["unmeasurable", "no report", "too few answers", "nothing compared", "another golden set", "another stable revision"],
)
def test_what_could_not_be_measured_is_neither_passed_nor_failed_but_tried_again(found: EvaluationReport | None, why: str) -> None:
    tried = ended(at_the_gate(), found)
    decision = gate.decide(tried, now=later(9))
    assert isinstance(decision, Retry)
    assert (decision.at, decision.message) == (later(10), f"could not be measured (1 of 5 tries): {why}")
    assert running(gate.decide(tried, now=later(10))).attempt == 2


def test_pauses_double_and_the_fifth_failure_holds() -> None:
    front, ends, pauses = at_the_gate(), 0.0, []
    for _ in range(4):
        front = ended(front, unmeasurable(), seconds=ends)
        decision = gate.decide(front, now=later(ends))
        assert isinstance(decision, Retry)
        pauses.append((decision.at - later(ends)).total_seconds())
        ends += 1_000
    assert pauses == [10, 20, 40, 80]
    assert gate.decide(ended(front, unmeasurable()), now=later(100_000)) == Hold(
        message="could not be measured 5 times: no judge", last=ended(front, unmeasurable()).evaluations[-1]
    )


def test_three_failures_to_measure_do_not_keep_the_fourth_from_passing() -> None:
    front = at_the_gate()
    for _ in range(3):
        front = ended(front, None)
    assert isinstance(gate.decide(ended(front, report()), now=NOW), Passed)


def test_what_another_try_would_not_change_holds_at_once() -> None:
    decision = gate.decide(ended(at_the_gate(), unmeasurable("no such model", permanent=True)), now=later(100_000))
    assert isinstance(decision, Hold)
    assert decision.message == "could not be measured: no such model"


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (None, "has not been read yet"),
        (DatasetView(error="the namespace has no ConfigMap golden"), "spec.evaluation.dataset: the namespace has no ConfigMap golden"),
        (replace(GOLDEN, examples=49), "ConfigMap golden, key golden.jsonl has 49 examples, minSamples asks for 50"),
    ],
    ids=["unread", "missing", "too small"],
)
def test_without_a_golden_set_nothing_is_started_and_it_is_looked_at_again(dataset: DatasetView | None, why: str) -> None:
    decision = gate.decide(at_the_gate(dataset=dataset), now=NOW)
    assert isinstance(decision, Hold)
    assert why in decision.message
    assert decision.look_again_seconds == gate.LOOK_AGAIN_SECONDS


def test_a_golden_set_from_an_artifact_is_the_evaluator_s_to_read() -> None:
    from_artifact = evaluation(dataset={"source": "oci://registry.example/golden", "digest": digest("f")})
    draft = running(gate.decide(Gate(evaluation=from_artifact, candidate=CANDIDATE, stable=STABLE), now=NOW))
    assert draft.dataset_digest is None


def test_a_recorded_report_is_used_again() -> None:
    decision = gate.decide(with_status(at_the_gate(), evaluation=report()), now=NOW)
    assert isinstance(decision, Passed)


def test_a_recorded_report_is_judged_by_the_limits_of_now() -> None:
    decision = gate.decide(with_status(at_the_gate(minScorePercent=99), evaluation=report()), now=NOW)
    assert isinstance(decision, Failed)


@pytest.mark.parametrize(
    "front",
    [
        at_the_gate(stable="total-0000000009"),
        at_the_gate(dataset=replace(GOLDEN, digest=digest("e"))),
        at_the_gate(metric="FieldF1"),
        at_the_gate(stable=None),
    ],
    ids=["another stable revision", "another golden set", "another scorer", "no stable revision any more"],
)
def test_evidence_about_something_else_is_measured_again(front: Gate) -> None:
    assert running(gate.decide(with_status(front, evaluation=report()), now=NOW)).attempt == 1


def test_a_corrected_evaluation_leads_out_of_a_hold() -> None:
    front = at_the_gate()
    for _ in range(5):
        front = ended(front, None)
    corrected = replace(front, evaluation=evaluation(timeoutSeconds=3600))
    assert running(gate.decide(corrected, now=NOW)).attempt == 6


def test_a_retry_measures_again_under_a_name_of_its_own() -> None:
    failed = ended(at_the_gate(), report(candidate=figures(50)))
    assert isinstance(gate.decide(failed, now=NOW), Failed)
    assert running(gate.decide(with_status(failed, retried="total-1@2"), now=NOW)).attempt == 2


def test_the_status_says_the_attempt_and_when_the_next_one_is() -> None:
    front = ended(at_the_gate(), None)
    status = gate.gate_status(front, gate.decide(front, now=NOW))
    assert status is not None
    assert (status.attempt, status.job, status.compared_with) == (1, f"{CANDIDATE.metadata.name}-eval-1", STABLE)
    assert status.retry_at == "2026-01-01T12:00:10Z"


def test_of_a_revision_the_last_job_that_ended_is_kept_for_its_log() -> None:
    front = ended(ended(at_the_gate(), None), report())
    name = CANDIDATE.metadata.name
    other = EvaluationView(job="other-eval-1", revision="other", compared_with=None, attempt=1)
    assert gate.unneeded_jobs((*front.evaluations, other), None) == ("other-eval-1", f"{name}-eval-1")


def test_while_a_gate_tries_again_its_earlier_jobs_are_kept_because_they_are_counted() -> None:
    front = ended(ended(at_the_gate(), None), None)
    assert gate.unneeded_jobs(front.evaluations, front) == ()


def test_a_job_that_measures_something_that_has_changed_is_stopped() -> None:
    draft = running(gate.decide(at_the_gate(), now=NOW))
    changed = at_the_gate(started(draft), dataset=replace(GOLDEN, digest=digest("e")))
    assert gate.unneeded_jobs(changed.evaluations, changed) == (draft.name,)


outcomes = st.sampled_from(
    [report(), report(candidate=figures(10)), report(samples=3), unmeasurable(), unmeasurable(permanent=True), report(stable=None), None]
)


@given(found=st.lists(outcomes, max_size=7), seconds=st.floats(0, 10_000), stable=st.sampled_from([STABLE, "total-0000000009"]))
def test_only_a_sufficient_measurement_beside_the_present_stable_revision_passes(
    found: list[EvaluationReport | None], seconds: float, stable: str
) -> None:
    front = at_the_gate(stable=stable)
    for one in found:
        if isinstance(gate.decide(front, now=later(100_000)), Running):
            front = ended(front, one)
    decision = gate.decide(front, now=later(seconds))
    measured = [view.report for view in front.evaluations if view.report in (report(), report(candidate=figures(10)))]
    assert len(front.evaluations) <= gate.MAX_TRIES
    if stable == STABLE and measured:
        assert isinstance(decision, Passed if measured[0] == report() else Failed)
    else:
        assert isinstance(decision, Running | Retry | Hold)


OTHER_TAG = revision_of(task_model(version="v2-final"), digest=digest("b"))
OTHER_BYTES = revision_of(task_model(version="v3"), digest=digest("c"))
OTHER_PROMPT = revision_of(task_model(version="v2", task={"systemPrompt": "Answer with the total alone."}), digest=digest("b"))
UNRESOLVED = revision_of(task_model(version="v4"))


def measured_as(other: TaskModelRevision, **fields: Any) -> TaskModelRevision:
    """The other revision, with a good report about itself."""
    found = report(candidate=Figures(revision=other.metadata.name, score_percent=98), **fields)
    return other.model_copy(update={"status": other.status.model_copy(update={"evaluation": found})})


def test_report_about_the_same_content_under_another_name_is_used_again() -> None:
    decision = gate.decide(replace(at_the_gate(), revisions=(OTHER_BYTES, measured_as(OTHER_TAG))), now=NOW)
    assert isinstance(decision, Passed)
    assert decision.job is None
    assert decision.report.candidate is not None
    assert decision.report.candidate.revision == CANDIDATE.metadata.name
    assert decision.report.message == f"measured as {OTHER_TAG.metadata.name} beside {STABLE}"
    # Recorded, it stands by itself when the other revision is gone.
    assert isinstance(gate.decide(with_status(at_the_gate(), evaluation=decision.report), now=NOW), Passed)
    assert gate.is_standing(with_status(at_the_gate(), evaluation=decision.report))


def test_report_about_the_same_content_is_judged_by_the_present_limits() -> None:
    front = replace(at_the_gate(minScorePercent=99), revisions=(measured_as(OTHER_TAG),))
    assert isinstance(gate.decide(front, now=NOW), Failed)


@pytest.mark.parametrize(
    "other",
    [
        measured_as(OTHER_BYTES),
        measured_as(OTHER_PROMPT),
        measured_as(UNRESOLVED),
        measured_as(OTHER_TAG, dataset_digest=digest("e")),
        measured_as(OTHER_TAG, settings_digest="another scorer"),
        measured_as(OTHER_TAG, stable="total-0000000002"),
    ],
    ids=["other bytes", "other prompt", "no digest", "other golden set", "other scorer", "other stable revision"],
)
def test_report_about_another_question_is_not_used(other: TaskModelRevision) -> None:
    running(gate.decide(replace(at_the_gate(), revisions=(other,)), now=NOW))


def test_retried_revision_is_measured_anew_whatever_others_came_to() -> None:
    running(gate.decide(with_status(replace(at_the_gate(), revisions=(measured_as(OTHER_TAG),)), retried="total-x@1"), now=NOW))


def test_stable_revision_of_another_name_and_the_same_content_is_the_same_comparison() -> None:
    was, now_named = (revision_of(task_model(version=version), digest=digest("a")) for version in ("v1", "v1-final"))
    front = replace(at_the_gate(stable=now_named.metadata.name), revisions=(was, now_named))
    assert isinstance(gate.decide(with_status(front, evaluation=report(stable=was.metadata.name)), now=NOW), Passed)


def test_revision_that_was_made_again_is_the_same_question_as_long_as_its_bytes_are_the_same() -> None:
    front = at_the_gate()
    made_again = front.candidate.model_copy(update={"metadata": front.candidate.metadata.model_copy(update={"uid": "another"})})
    assert gate.fingerprint(replace(front, candidate=made_again)) == gate.fingerprint(front)
    assert gate.fingerprint(with_status(front, digest=digest("c"))) != gate.fingerprint(front)
    done = ended(front, report())
    assert isinstance(gate.decide(replace(done, candidate=made_again), now=NOW), Passed)
