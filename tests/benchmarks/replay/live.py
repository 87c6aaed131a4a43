"""A scenario in real time: what was seen of a pool on a cluster while its requests came, as the same figures that a simulation gives.

Nobody tells when an engine began with a request, but how long an answer takes there is chosen, so what an answer took beyond that is its wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.benchmarks.replay.engine import Flight, Timings
from tests.benchmarks.replay.scenarios import Scenario
from tests.benchmarks.replay.simulation import Outcome
from tests.cluster.api import Object, is_true
from tests.cluster.load import Outcome as Answer


@dataclass(slots=True)
class Life:
    """One pod, in seconds since the beginning: when it was first seen, when it was Ready, told to go, and gone. None: not until the end."""

    created: float
    ready: float | None = None
    leaving: float | None = None
    gone: float | None = None


@dataclass(slots=True)
class Watched:
    """What is seen of a pool, look by look. `scales`: the replicas as they were written, each from its time on."""

    lives: dict[str, Life] = field(default_factory=dict)
    scales: list[tuple[float, int]] = field(default_factory=list)

    def look(self, at: float, *, replicas: int, pods: Sequence[Object]) -> None:
        if not self.scales or self.scales[-1][1] != replicas:
            self.scales.append((at, replicas))
        found = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid, pod in found.items():
            life = self.lives.setdefault(uid, Life(at))
            if life.ready is None and is_true(pod, "Ready"):
                life.ready = at
            if life.leaving is None and "deletionTimestamp" in pod["metadata"]:
                life.leaving = at
        for uid, life in self.lives.items():
            if uid not in found and life.gone is None:
                life.gone = at

    def replica_seconds(self, seconds: float) -> float:
        """Of all pods from their creation until they were gone, within so many seconds from the beginning."""
        return sum(_within(life.gone, seconds) - _within(life.created, seconds) for life in self.lives.values())

    def starts(self) -> list[float]:
        """Seconds from a pod's creation until it was Ready, of those that were seen to be created."""
        first = min((life.created for life in self.lives.values()), default=0.0)
        return [life.ready - life.created for life in self.lives.values() if life.ready is not None and life.created > first]

    def ends(self) -> list[float]:
        """Seconds from when a pod was told to go until it was gone."""
        return [life.gone - life.leaving for life in self.lives.values() if life.gone is not None and life.leaving is not None]


def outcome(scenario: Scenario, answers: Iterable[Answer], watched: Watched, timings: Timings, *, began: float) -> Outcome:
    """What came of the requests that were answered. `began`: the beginning, by the clock of the answers."""
    return Outcome(
        rule="cluster",
        flights=tuple(_flight(scenario, answer, timings, began) for answer in answers if not answer.error),
        replica_seconds=watched.replica_seconds(scenario.seconds),
        scales=tuple(watched.scales[1:]),
    )


def _flight(scenario: Scenario, answer: Answer, timings: Timings, began: float) -> Flight:
    """A request counts from when it was due: a sender that comes late would hide waits."""
    request = scenario.requests[answer.number]
    ended = answer.started + answer.seconds - began
    work = timings.work(request.prompt_tokens, request.answer_tokens)
    return Flight(request, started=max(request.at, ended - work), ended=ended)


def over_time(scales: Sequence[tuple[float, int]], *, begin_with: int, seconds: float, every: float) -> list[int]:
    """The replicas as they were written, at the end of each stretch of so many seconds."""
    return [_at(scales, begin_with, (stretch + 1) * every) for stretch in range(int(seconds // every))]


def difference(one: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]], *, begin_with: int, seconds: float) -> float:
    """By how many replicas two runs differ, as the mean over the time."""
    moments = sorted({0.0, *(min(at, seconds) for at, _ in (*one, *other)), seconds})
    apart = sum((end - begin) * abs(_at(one, begin_with, begin) - _at(other, begin_with, begin)) for begin, end in pairwise(moments))
    return apart / seconds


def _at(scales: Sequence[tuple[float, int]], begin_with: int, moment: float) -> int:
    return next((count for at, count in reversed(scales) if at <= moment), begin_with)


def _within(moment: float | None, seconds: float) -> float:
    return seconds if moment is None else min(moment, seconds)


def paced(work_seconds: float, *, tokens: int) -> Mapping[str, object]:
    """What a request says to the engine simulator so that an answer of so many tokens takes this long."""
    return {"sim": {"token_ms": 1000 * work_seconds / (tokens - 1)}}
