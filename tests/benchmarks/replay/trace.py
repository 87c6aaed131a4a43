"""A recorded trace of LLM requests, and its requests at other times: whatever shape the traffic is to have, sizes and small bursts stay the recorded ones."""

import csv
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path

# Every fifth request of an hour (data/ATTRIBUTION.md).
COMMITTED = Path(__file__).parent / "data" / "azure_llm_2023_conv_every_fifth.csv"
# The trace's own rate is told from its bursts over this long.
TREND_SECONDS = 60.0

Profile = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of the trace. `at`: seconds since the first one."""

    at: float
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a scenario: `at` seconds after its beginning, of the task with this number."""

    at: float
    task: int
    prompt_tokens: int
    answer_tokens: int


def read(path: Path) -> list[Recorded]:
    """The trace in its own format: columns TIMESTAMP, ContextTokens, GeneratedTokens, in the order of time."""
    with path.open(newline="") as file:
        rows = [(_moment(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
    first = rows[0][0]
    return [Recorded((moment - first).total_seconds(), prompt, answer) for moment, prompt, answer in rows]


def levelled(recorded: Sequence[Recorded]) -> list[float]:
    """The requests' times in the unit of requests: as many pass in every minute of the trace as have come in it, so only what happens within a minute is left."""
    counts = Counter(int(one.at // TREND_SECONDS) for one in recorded)
    minutes = range(max(counts) + 1)
    before = [0, *accumulate(counts[minute] for minute in minutes)]
    return [before[minute := int(one.at // TREND_SECONDS)] + (one.at / TREND_SECONDS - minute) * counts[minute] for one in recorded]


def at_rate(recorded: Sequence[Recorded], rate: Profile, seconds: float) -> list[Recorded]:
    """The trace's requests, from its first one on and over again where it is too short, so that `rate(t)` of them come in each second t."""
    grid = [0.0, *accumulate(rate(second + 0.5) for second in range(int(seconds)))]
    positions, moved = levelled(recorded), []
    for number in range(int(grid[-1]) + 1):
        turn, index = divmod(number, len(recorded))
        position = positions[index] + turn * len(recorded)
        if position >= grid[-1]:
            break
        second = bisect_right(grid, position) - 1
        at = second + (position - grid[second]) / (grid[second + 1] - grid[second])
        moved.append(Recorded(at, recorded[index].prompt_tokens, recorded[index].answer_tokens))
    return moved


def thin(source: Path, target: Path, *, every: int) -> None:
    """Every so many lines of a trace, in its own format: how the committed cut was made."""
    lines = source.read_text().splitlines()
    target.write_text("\n".join([lines[0], *lines[1::every]]) + "\n")


def is_ordered(requests: Sequence[Request]) -> bool:
    """Whether the requests stand in the order of their times."""
    return all(earlier.at <= later.at for earlier, later in pairwise(requests))


def _moment(text: str) -> datetime:
    # Seven digits of a second, of which datetime takes six.
    return datetime.fromisoformat(text[:26])
