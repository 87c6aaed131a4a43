"""The results of an evaluation as tables for a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskfleet.api.evaluation import EvaluationReport, Figures, Measured

if TYPE_CHECKING:  # the evaluator's libraries are an extra that other commands do without
    from taskfleet.evaluation.run import Result
    from taskfleet.evaluation.scoring import Outcome, Scored

MAX_WORST = 10
_SHOWN_LENGTH = 60


def show(result: "Result", *, model: str, baseline: str | None, objection: str | None, console: Console) -> None:
    """Figures of the models, the difference between them, the examples with the lowest scores, and the verdict."""
    report = result.report
    if report.outcome is Measured.UNMEASURABLE:
        console.print(f"[bold red]not measured:[/] {escape(report.message)}")
    else:
        console.print(_figures(report, model, baseline))
        if report.difference_percent is not None:
            console.print(
                f"difference {report.difference_percent:+.2f} points, 95 % interval"
                f" {report.difference_lower_percent:+.2f} to {report.difference_upper_percent:+.2f}"
            )
    worst = sorted((outcome for outcome in result.outcomes if _is_worth_showing(outcome)), key=_score)[:MAX_WORST]
    if worst:
        console.print(_examples(worst, compared=baseline is not None))
    if report.outcome is Measured.MEASURED:
        console.print("[bold green]within the limits[/]" if objection is None else f"[bold red]{escape(objection)}[/]")


def _figures(report: EvaluationReport, model: str, baseline: str | None) -> Table:
    table = Table(title=f"{report.metric}, {report.samples} examples, {report.errors} without an answer", title_justify="left")
    for heading in ("model", "score", "p50", "p95", "prompt tokens", "completion tokens"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, figures in ((model, report.candidate), (baseline or "", report.stable)):
        if figures is not None:
            table.add_row(escape(name), *_cells(figures))
    return table


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.score_percent:.2f} %",
        f"{figures.latency_p50_ms} ms",
        f"{figures.latency_p95_ms} ms",
        str(figures.prompt_tokens),
        str(figures.completion_tokens),
    )


def _examples(outcomes: "list[Outcome]", *, compared: bool) -> Table:
    table = Table(title="examples with the lowest scores", title_justify="left")
    for heading in ("id", "score", "answer", *(("baseline", "its answer") if compared else ())):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        reference = (_number(outcome.stable), _said(outcome.stable)) if outcome.stable is not None else ()
        table.add_row(escape(outcome.id), _number(outcome.candidate), _said(outcome.candidate), *reference)
    return table


def _is_worth_showing(outcome: "Outcome") -> bool:
    return outcome.candidate.score is None or outcome.candidate.score < 1


def _score(outcome: "Outcome") -> float:
    return -1.0 if outcome.candidate.score is None else outcome.candidate.score


def _number(scored: "Scored") -> str:
    return "-" if scored.score is None else f"{scored.score:.2f}"


def _said(scored: "Scored") -> str:
    """An answer in one line. What a terminal would take for a command is shown as an escape."""
    text = scored.reply.text if scored.reply.text is not None and not scored.error else f"({scored.error})"
    plain = " ".join(text.split())[:_SHOWN_LENGTH]
    return escape("".join(character if character.isprintable() else repr(character)[1:-1] for character in plain))
