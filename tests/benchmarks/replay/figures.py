"""The figures of a replay, and which rules are on the Pareto front of cost and waiting."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.replay.simulation import Outcome

LONG_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Waits in seconds, from a request's coming until an engine began with it; `answer_p95` until its last token. Rounded as they are printed, so that what looks the same is."""

    rule: str
    replica_hours: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    long_waits: int
    waited_percent: float  # share of requests that waited at all
    answer_p95: float
    scales: int


def figures(outcome: Outcome) -> Figures:
    waits = sorted(flight.wait for flight in outcome.flights)
    answers = sorted(flight.ended - flight.request.at for flight in outcome.flights)
    return Figures(
        rule=outcome.rule,
        replica_hours=round(outcome.replica_seconds / 3600, 2),
        wait_p50=round(percentile(waits, 50), 1),
        wait_p95=round(percentile(waits, 95), 1),
        wait_p99=round(percentile(waits, 99), 1),
        long_waits=sum(wait > LONG_WAIT_SECONDS for wait in waits),
        waited_percent=round(100 * sum(wait > 0 for wait in waits) / len(waits), 2),
        answer_p95=round(percentile(answers, 95), 1),
        scales=len(outcome.scales),
    )


def peak_replicas(outcome: Outcome, *, target: int) -> int:
    """Replicas that have no more than the target each in the busiest minute of a replay."""
    busy: defaultdict[int, float] = defaultdict(float)
    for flight in outcome.flights:
        for minute in range(int(flight.started // 60), int(flight.ended // 60) + 1):
            busy[minute] += min(flight.ended, 60.0 * minute + 60) - max(flight.started, 60.0 * minute)
    return max(1, math.ceil(max(busy.values()) / 60 / target))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the ordered values that so many percent do not exceed."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def on_front(one: Figures, rows: Sequence[Figures]) -> bool:
    """Whether no other row has replica-hours and p95 wait that are both no more, and one of them less."""
    return not any(_better(other, one) for other in rows)


def _better(one: Figures, other: Figures) -> bool:
    ours, theirs = (one.replica_hours, one.wait_p95), (other.replica_hours, other.wait_p95)
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


def table(rows: Sequence[Figures]) -> str:
    """The rows in Markdown; an asterisk stands before those on the front."""
    head = "| | rule | replica-hours | wait p50 / p95 / p99 | waits over 2 s | answer p95 | scale changes |\n|---|---|---|---|---|---|---|"
    lines = [
        f"| {'*' if on_front(row, rows) else ''} | {row.rule} | {row.replica_hours:.2f} | {row.wait_p50:.1f} / {row.wait_p95:.1f} / {row.wait_p99:.1f} s "
        f"| {row.long_waits} | {row.answer_p95:.1f} s | {row.scales} |"
        for row in rows
    ]
    return "\n".join([head, *lines])
