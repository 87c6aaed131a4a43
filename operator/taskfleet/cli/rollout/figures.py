"""Figures and times as people read them."""

from datetime import UTC, datetime

from taskfleet.api.evaluation import EvaluationReport, Measured


def percent(value: float) -> str:
    """`97.5 %`, `100 %`."""
    return f"{round(value, 1):g} %"


def points(value: float) -> str:
    """A difference of two percentages, with its sign."""
    return f"{round(value, 1):+g}"


def since(at: str | None, now: datetime) -> str:
    """How long ago: `42 s`, `5 min`, `3 h`, `9 d`; empty where the time is not known."""
    if not at:
        return ""
    seconds = max(0, int((now - moment(at)).total_seconds()))
    for size, unit, limit in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def clock(at: str | None) -> str:
    """A time of the API, to the second, in UTC."""
    return moment(at).strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def moment(at: str) -> datetime:
    """A time as the API writes it."""
    found = datetime.fromisoformat(at)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def measured(evaluation: EvaluationReport) -> str:
    """What an evaluation found, in one line."""
    if evaluation.outcome is Measured.UNMEASURABLE or evaluation.candidate is None:
        return f"could not be measured: {evaluation.message}"
    parts = [f"score {percent(evaluation.candidate.score_percent)} ({evaluation.metric})"]
    if evaluation.stable is not None:
        parts.append(f"stable {percent(evaluation.stable.score_percent)}")
    if evaluation.difference_percent is not None:
        parts.append(f"difference {points(evaluation.difference_percent)}{_interval(evaluation)} points")
    parts.append(f"{_counted(evaluation.samples, 'sample')}, {_counted(evaluation.errors, 'error')}")
    return ", ".join(parts)


def _interval(evaluation: EvaluationReport) -> str:
    lower, upper = evaluation.difference_lower_percent, evaluation.difference_upper_percent
    return f" [{points(lower)}, {points(upper)}]" if lower is not None and upper is not None else ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
