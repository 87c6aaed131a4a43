"""The gate that a revision passes before it gets traffic: what is known of it, and what follows.

    a report of this very question ──→ Passed, or Failed
    no report ──→ Running: a Job measures ──→ its report
                     ↑        └──→ could not be measured: Retry after a pause, four times, then Hold
    nothing to measure with ──→ Hold, until there is

What can't be measured says nothing about the revision: it neither passes nor fails. How scores come about is the business of `evaluation`, what follows for the traffic that of
the rollout.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from taskfleet import names
from taskfleet.api.conditions import Reason
from taskfleet.api.evaluation import EvaluationReport, Measured
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import Evaluation, GateStatus
from taskfleet.evaluation.settings import settings_digest
from taskfleet.planning.conditions import timestamp
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.planning.rollout.gate_policy import objection, policy_in_words, unmeasured, verdict_in_words
from taskfleet.planning.rollout.gate_reuse import adopted, names_alike, same_content
from taskfleet.planning.snapshot import DatasetView, EvaluationView

MAX_TRIES = 5
# Seconds to the second try; each further pause is twice as long.
FIRST_PAUSE_SECONDS = 10
# ConfigMaps of tenants are not watched: one that is missing or too small is looked at again after so many seconds.
LOOK_AGAIN_SECONDS = 30.0

_MESSAGE_LENGTH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One revision in front of its gate.

    `stable` is the revision that it is compared with, None for the first one. `evaluations` are the Jobs of the whole TaskModel, `revisions` its living revisions. The report
    of an earlier measurement is taken from the candidate's status, or from that of a revision of the same content. Whoever retries a revision wants it measured anew.
    """

    evaluation: Evaluation
    candidate: TaskModelRevision
    stable: str | None
    dataset: DatasetView | None = None
    evaluations: tuple[EvaluationView, ...] = ()
    revisions: tuple[TaskModelRevision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """`report` goes into the revision's status."""

    report: EvaluationReport
    message: str
    job: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Measured, and not good enough: the revision is to be rejected. `report` goes into its status."""

    report: EvaluationReport
    message: str
    reason: Reason = Reason.GATE_FAILED
    job: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The Job of `draft` measures, or is to be started. `message` says what keeps it from starting."""

    draft: EvaluationDraft
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Could not be measured, and is to be tried again at `at`."""

    at: datetime
    message: str
    last: EvaluationView


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Can't be measured before somebody acts. `look_again_seconds`: whether they have is not told by any watch; None: it is."""

    message: str
    look_again_seconds: float | None = None
    last: EvaluationView | None = None


Decision = Passed | Failed | Running | Retry | Hold


def decide(gate: Gate, *, now: datetime) -> Decision:
    """What follows now."""
    if (why := obstacle(gate)) is not None:
        return Hold(message=why, look_again_seconds=LOOK_AGAIN_SECONDS)
    if (recorded := _recorded(gate)) is not None:
        return _judged(gate, recorded, None)
    tries = _tries(gate)
    measured = next((view for view in tries if view.report is not None and _why_unmeasured(gate, view) is None), None)
    if measured is not None and measured.report is not None:
        return _judged(gate, measured.report, measured.job)
    if tries and not tries[-1].finished:
        return _running(gate, tries[-1])
    return _again(gate, tries, now=now) if tries else _next(gate)


def obstacle(gate: Gate) -> str | None:
    """Why nothing can be measured, as far as it can be seen without measuring."""
    dataset, wanted = gate.evaluation.dataset, gate.evaluation.min_samples
    if dataset.config_map_name is None:
        return None
    named = f"ConfigMap {dataset.config_map_name}, key {dataset.key}"
    if gate.dataset is None:
        return f"the golden set ({named}) has not been read yet"
    if gate.dataset.error:
        return f"spec.evaluation.dataset: {gate.dataset.error}"
    if gate.dataset.examples < wanted:
        return f"spec.evaluation.dataset: {named} has {gate.dataset.examples} examples, minSamples asks for {wanted}"
    return None


def is_current(report: EvaluationReport, gate: Gate) -> bool:
    """Is it a measurement of this content, beside what is stable now, on the present golden set, scored as the spec says now?"""
    compared_with = report.stable.revision if report.stable is not None else None
    known = [gate.candidate, *(other for other in gate.revisions if other.metadata.name != gate.candidate.metadata.name)]
    return (
        unmeasured(report, gate.evaluation, compared=gate.stable is not None) is None
        and report.candidate is not None
        and report.candidate.revision in names_alike(gate.candidate.metadata.name, known)
        and (compared_with == gate.stable or compared_with in names_alike(gate.stable, known))
        and report.settings_digest == settings_digest(gate.evaluation)
        and (gate.dataset is None or report.dataset_digest == gate.dataset.digest)
    )


def _recorded(gate: Gate) -> EvaluationReport | None:
    """A report that answers the question, of the candidate itself or of another revision with its content."""
    others = [] if gate.candidate.status.retried is not None else [other for other in gate.revisions if same_content(other, gate.candidate)]
    for revision in (gate.candidate, *others):
        report = revision.status.evaluation
        if report is not None and is_current(report, gate):
            return report
    return None


def is_standing(gate: Gate) -> bool:
    """Has the candidate passed, beside the revision that is stable now? Asked of one that has traffic already: a golden set that changes meanwhile takes none from it."""
    report = gate.candidate.status.evaluation
    return (
        report is not None
        and report.outcome is Measured.MEASURED
        and (report.stable.revision if report.stable is not None else None) == gate.stable
        and objection(gate.evaluation, report) is None
    )


def fingerprint(gate: Gate) -> str:
    """Stands for the question that a Job answers: whatever it depends on that can change while the revision has the same name. Limits that only judge its report don't count.

    A revision that was deleted and made again is the same question, as long as its version stands for the same bytes.
    """
    measuring = gate.evaluation.model_copy(update={"min_score_percent": 0, "max_regression_percent": 0})
    return names.short_hash(
        gate.candidate.metadata.name,
        gate.candidate.status.digest or "",
        gate.stable or "",
        (gate.dataset.digest if gate.dataset is not None else None) or "",
        measuring.model_dump_json(by_alias=True),
        gate.candidate.status.retried or "",
        length=16,
    )


def gate_status(gate: Gate, decision: Decision) -> GateStatus | None:
    """The decision as the TaskModel's status says it; None once there is a verdict."""
    if isinstance(decision, Passed | Failed):
        return None
    if isinstance(decision, Running):
        return GateStatus(
            attempt=decision.draft.attempt, job=decision.draft.name, compared_with=gate.stable, message=decision.message[:_MESSAGE_LENGTH]
        )
    return GateStatus(
        attempt=decision.last.attempt if decision.last is not None else _next_attempt(gate),
        job=decision.last.job if decision.last is not None else None,
        compared_with=gate.stable,
        retry_at=timestamp(decision.at) if isinstance(decision, Retry) else None,
        message=decision.message[:_MESSAGE_LENGTH],
    )


def unneeded_jobs(evaluations: Iterable[EvaluationView], gate: Gate | None) -> tuple[str, ...]:
    """Jobs to delete. Of each revision the last one that ended stays, because its log is what people read; `gate` is the one that is being measured for now, if any."""
    asked = fingerprint(gate) if gate is not None else None
    by_revision: dict[str, list[EvaluationView]] = {}
    for view in sorted(evaluations, key=lambda view: view.attempt):
        by_revision.setdefault(view.revision, []).append(view)
    unneeded: list[str] = []
    for views in by_revision.values():
        kept = {view.job for view in views if view.fingerprint == asked}
        kept = kept or {view.job for view in [view for view in views if view.finished][-1:]}
        unneeded += [view.job for view in views if view.job not in kept]
    return tuple(sorted(unneeded))


def _tries(gate: Gate) -> list[EvaluationView]:
    """The Jobs that ask this question, oldest first."""
    asked = fingerprint(gate)
    return sorted((view for view in gate.evaluations if view.fingerprint == asked), key=lambda view: view.attempt)


def _judged(gate: Gate, report: EvaluationReport, job: str | None) -> Passed | Failed:
    report = adopted(report, candidate=gate.candidate.metadata.name, stable=gate.stable)
    report = report.model_copy(update={"policy": policy_in_words(gate.evaluation, compared=gate.stable is not None)})
    why = objection(gate.evaluation, report)
    if why is not None:
        return Failed(report=report, message=f"{gate.candidate.metadata.name} {why}", job=job)
    return Passed(report=report, message=f"{gate.candidate.metadata.name} {verdict_in_words(report)}", job=job)


def _again(gate: Gate, tries: list[EvaluationView], *, now: datetime) -> Decision:
    """After tries that came to nothing."""
    last, why = tries[-1], _why_unmeasured(gate, tries[-1])
    if last.report is not None and last.report.permanent:
        return Hold(message=f"could not be measured: {why}", last=last)
    if len(tries) >= MAX_TRIES:
        return Hold(message=f"could not be measured {len(tries)} times: {why}", last=last)
    at = (last.finished_at or now) + timedelta(seconds=FIRST_PAUSE_SECONDS * 2 ** (len(tries) - 1))
    if now < at:
        return Retry(at=at, message=f"could not be measured ({len(tries)} of {MAX_TRIES} tries): {why}", last=last)
    return _next(gate)


def _why_unmeasured(gate: Gate, view: EvaluationView) -> str | None:
    if view.report is None:
        return view.message or "the Job ended without a report"
    if view.report.outcome is Measured.MEASURED and not is_current(view.report, gate):
        return unmeasured(view.report, gate.evaluation, compared=gate.stable is not None) or "its report is about something else"
    return unmeasured(view.report, gate.evaluation, compared=gate.stable is not None)


def _next(gate: Gate) -> Running:
    return Running(draft=_draft(gate, _next_attempt(gate)), message=f"the golden set is to be run{_beside(gate)}")


def _running(gate: Gate, view: EvaluationView) -> Running:
    return Running(draft=_draft(gate, view.attempt), message=view.message or f"the golden set is being run{_beside(gate)}")


def _beside(gate: Gate) -> str:
    return f" with {gate.candidate.metadata.name} and {gate.stable}" if gate.stable is not None else f" with {gate.candidate.metadata.name}"


def _next_attempt(gate: Gate) -> int:
    """Above every Job of the revision, whatever it asked: a Job can't be changed, and its name is the attempt's."""
    return 1 + max((view.attempt for view in gate.evaluations if view.revision == gate.candidate.metadata.name), default=0)


def _draft(gate: Gate, attempt: int) -> EvaluationDraft:
    metadata = gate.candidate.metadata
    return EvaluationDraft(
        name=names.evaluation_job(metadata.name, attempt),
        namespace=metadata.namespace,
        task_model=gate.candidate.spec.task_model_name,
        revision=metadata.name,
        revision_uid=metadata.uid,
        compared_with=gate.stable,
        attempt=attempt,
        evaluation=gate.evaluation,
        dataset_digest=gate.dataset.digest if gate.dataset is not None else None,
        fingerprint=fingerprint(gate),
        output_schema=gate.candidate.spec.task.output_schema,
    )
