"""What an evaluation hands back: a report of a few hundred bytes for the gate, and a line of JSON for each example, for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from taskfleet import __version__
from taskfleet.api.evaluation import MAX_REPORT_BYTES, EvaluationReport, Figures, Measured
from taskfleet.api.taskmodel import Evaluation
from taskfleet.evaluation.asking import Subject
from taskfleet.evaluation.scoring import Outcome, Scored
from taskfleet.evaluation.settings import settings_digest
from taskfleet.evaluation.statistics import paired_difference, percentile

MAX_MESSAGE_LENGTH = 512
MAX_SHOWN_LENGTH = 500  # characters of an answer in an outcome
# Examples without a score are left out of it, and need not be like the others: with more of them than this the score is that of a chosen few.
MAX_UNMEASURED_PERCENT = 5.0


def measured(
    outcomes: Sequence[Outcome],
    *,
    evaluation: Evaluation,
    candidate: Subject,
    stable: Subject | None,
    dataset_digest: str,
    examples: int,
    now: datetime,
) -> EvaluationReport:
    """The report of outcomes; Unmeasurable where too many of all `examples` have none. A request that a model refused counts in `errors`, and in its score with 0."""
    counted = [outcome for outcome in outcomes if outcome.is_measured]
    unmeasured = examples - len(counted)
    refused = sum(1 for outcome in counted if any(scored.reply.refused for scored in _both(outcome)))
    known: dict[str, Any] = {"samples": len(counted), "errors": unmeasured + refused}
    if len(counted) < evaluation.min_samples or unmeasured > examples * MAX_UNMEASURED_PERCENT / 100:
        why = f"{len(counted)} of {examples} examples were measured (minSamples {evaluation.min_samples}){_first_error(outcomes)}"
        return unmeasurable(
            why, evaluation=evaluation, dataset_digest=dataset_digest, now=now, permanent=examples < evaluation.min_samples, **known
        )
    known["candidate"] = _figures(candidate.name, [outcome.candidate for outcome in counted])
    if stable is not None:
        references = [outcome.stable for outcome in counted if outcome.stable is not None]
        known["stable"] = _figures(stable.name, references)
        difference = paired_difference(_scores([outcome.candidate for outcome in counted]), _scores(references))
        known["difference_percent"] = _percent(difference.mean)
        known["difference_lower_percent"] = _percent(difference.lower)
        known["difference_upper_percent"] = _percent(difference.upper)
    return _report(Measured.MEASURED, evaluation=evaluation, dataset_digest=dataset_digest, now=now, **known)


def unmeasurable(
    message: str, *, evaluation: Evaluation, dataset_digest: str | None, now: datetime, permanent: bool = False, **known: Any
) -> EvaluationReport:
    """The report of a failure, which says nothing about the revision."""
    readable = "".join(character if character.isprintable() else " " for character in message)[:MAX_MESSAGE_LENGTH]
    return _report(
        Measured.UNMEASURABLE,
        evaluation=evaluation,
        dataset_digest=dataset_digest,
        now=now,
        message=readable,
        permanent=permanent,
        **known,
    )


def encoded(report: EvaluationReport) -> bytes:
    """The report as JSON that the kubelet does not cut: what is too long goes from its message."""
    text = orjson.dumps(report.to_json())
    while len(text) > MAX_REPORT_BYTES and report.message:
        report = report.model_copy(update={"message": report.message[: len(report.message) // 2]})
        text = orjson.dumps(report.to_json())
    return text


def outcome_line(outcome: Outcome) -> bytes:
    """One example as a line of JSON."""
    parts = {"candidate": outcome.candidate, "stable": outcome.stable}
    return orjson.dumps({"id": outcome.id} | {name: _shown(scored) for name, scored in parts.items() if scored is not None})


def _report(outcome: Measured, *, evaluation: Evaluation, dataset_digest: str | None, now: datetime, **known: Any) -> EvaluationReport:
    return EvaluationReport(
        outcome=outcome,
        evaluator_version=__version__,
        metric=evaluation.metric.value,
        dataset_digest=dataset_digest,
        settings_digest=settings_digest(evaluation),
        finished_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **known,
    )


def _figures(name: str, scored: Sequence[Scored]) -> Figures:
    answered = [one.reply for one in scored if one.reply.text is not None]
    latencies = [reply.latency_ms for reply in answered]
    return Figures(
        revision=name,
        score_percent=_percent(sum(_scores(scored)) / len(scored)),
        latency_p50_ms=int(percentile(latencies, 50)),
        latency_p95_ms=int(percentile(latencies, 95)),
        prompt_tokens=sum(reply.prompt_tokens for reply in answered),
        completion_tokens=sum(reply.completion_tokens for reply in answered),
    )


def _scores(scored: Sequence[Scored]) -> list[float]:
    return [one.score for one in scored if one.score is not None]


def _percent(share: float) -> float:
    return round(100 * share, 4)


def _both(outcome: Outcome) -> list[Scored]:
    return [scored for scored in (outcome.candidate, outcome.stable) if scored is not None]


def _first_error(outcomes: Sequence[Outcome]) -> str:
    errors = (scored.error for outcome in outcomes if not outcome.is_measured for scored in _both(outcome) if scored.score is None)
    return next((f"; {error}" for error in errors if error), "")


def _shown(scored: Scored) -> dict[str, Any]:
    reply = scored.reply
    text = reply.text if reply.text is None or len(reply.text) <= MAX_SHOWN_LENGTH else reply.text[:MAX_SHOWN_LENGTH] + "…"
    shown = {
        "answer": text,
        "score": scored.score,
        "latencyMs": reply.latency_ms,
        "promptTokens": reply.prompt_tokens,
        "completionTokens": reply.completion_tokens,
        "error": scored.error or None,
    }
    return {name: value for name, value in shown.items() if value is not None}
