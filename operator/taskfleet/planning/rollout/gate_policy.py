"""What a report of an evaluation comes to under the limits of `spec.evaluation`.

Two chains of small named checks: whether there is a measurement at all, and, of a measurement, whether the revision is good enough.
"""

from collections.abc import Callable

from taskfleet.api.evaluation import EvaluationReport, Measured
from taskfleet.api.taskmodel import Evaluation


def unmeasured(report: EvaluationReport, evaluation: Evaluation, *, compared: bool) -> str | None:
    """Why the report says nothing about the revision; None where it does. `compared`: there is a stable revision to compare with."""
    if report.outcome is Measured.UNMEASURABLE:
        return report.message or "the evaluator gave no reason"
    if report.candidate is None:
        return "the report has no figures"
    if compared and (report.stable is None or report.difference_lower_percent is None):
        return "the report does not compare with the stable revision"
    if report.samples < evaluation.min_samples:
        # A score over a handful of answers says nothing, good or bad.
        return f"{report.samples} of {report.samples + report.errors} examples were answered, minSamples asks for {evaluation.min_samples}"
    return None


Check = Callable[[Evaluation, EvaluationReport], str | None]


def good_enough(evaluation: Evaluation, report: EvaluationReport) -> str | None:
    score = report.candidate.score_percent if report.candidate is not None else 0.0
    if score >= evaluation.min_score_percent:
        return None
    return f"misses minScorePercent, which asks for {_figure(evaluation.min_score_percent)} %: {verdict_in_words(report)}"


def not_worse_than_stable(evaluation: Evaluation, report: EvaluationReport) -> str | None:
    # Non-inferiority, not superiority: a candidate that ties on every example is as good as the stable one.
    lower = report.difference_lower_percent
    if lower is None or lower >= -evaluation.max_regression_percent:
        return None
    allowed = _figure(evaluation.max_regression_percent)
    return (
        f"may be {_figure(-lower)} points worse than the stable revision, maxRegressionPercent allows {allowed}: {verdict_in_words(report)}"
    )


CHECKS: tuple[Check, ...] = (
    good_enough,  # the floor that the task's owner set, whatever serves today
    not_worse_than_stable,  # only asked of candidates that are good in themselves
)


def objection(evaluation: Evaluation, report: EvaluationReport) -> str | None:
    """Of a measurement: the first objection among `CHECKS`, in words that follow the revision's name; None: it passes."""
    return next((why for check in CHECKS if (why := check(evaluation, report)) is not None), None)


def verdict_in_words(report: EvaluationReport) -> str:
    """The scores, in words that follow the revision's name."""
    words = f"scores {_figure(report.candidate.score_percent if report.candidate is not None else 0.0)} %{_over(report)}"
    if report.stable is None or report.difference_percent is None:
        return words
    words += f", {report.stable.revision} {_figure(report.stable.score_percent)} % (difference {report.difference_percent:+.2f} points"
    if report.difference_lower_percent is not None and report.difference_upper_percent is not None:
        words += f", 95 % interval {report.difference_lower_percent:+.2f} to {report.difference_upper_percent:+.2f}"
    return f"{words})"


def policy_in_words(evaluation: Evaluation, *, compared: bool) -> str:
    """The limits in force, as the report keeps them."""
    words = f"at least {_figure(evaluation.min_score_percent)} % over at least {evaluation.min_samples} examples"
    return f"{words}, at most {_figure(evaluation.max_regression_percent)} points worse than the stable revision" if compared else words


def _over(report: EvaluationReport) -> str:
    return f" by {report.metric} over {report.samples} examples" if report.metric else f" over {report.samples} examples"


def _figure(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
