"""`taskfleet rollout history`: every revision that is kept, with its verdict, figures and times."""

from rich.table import Table
from rich.text import Text

from taskfleet.api.evaluation import EvaluationReport
from taskfleet.cli.rollout.figures import clock, percent, points
from taskfleet.cli.rollout.report import RevisionReport, RolloutReport

_COLUMNS = ("REVISION", "VERSION", "PHASE", "CREATED", "PROMOTED", "SCORE", "VS STABLE", "VERDICT")


def table(report: RolloutReport) -> Table:
    """One row for each revision, the newest first, times in UTC."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        drawn.add_column(column, overflow="fold", no_wrap=column != "VERDICT")
    for revision in report.revisions:
        drawn.add_row(*_row(revision))
    return drawn


def _row(revision: RevisionReport) -> tuple[Text | str, ...]:
    verdict = revision.verdict
    words = Text("-")
    if verdict is not None:
        style = "red" if verdict.outcome == "Rejected" else "green"
        words = Text.assemble((verdict.outcome, style), f" {clock(verdict.at)} {verdict.reason}: {verdict.message}")
    return (
        revision.name,
        revision.version or "-",
        revision.phase or "Pending",
        clock(revision.created_at),
        clock(revision.promoted_at),
        *_figures(revision.evaluation),
        words,
    )


def _figures(evaluation: EvaluationReport | None) -> tuple[str, str]:
    if evaluation is None or evaluation.candidate is None:
        return "-", "-"
    difference = evaluation.difference_percent
    return percent(evaluation.candidate.score_percent), "-" if difference is None else points(difference)
