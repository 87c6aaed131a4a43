"""The traffic that is replayed, in five shapes, each cut into tasks of one pool; and a short one for a replay in real time."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from tests.benchmarks.replay.trace import Profile, Recorded, Request, at_rate

SEED = 20231116
BUSY_TASKS = 8
SPARSE_TASKS = 200
SHORT_TASKS = 4
SHORT_STEP_SECONDS = 60.0
# In pods. The quiet one is long enough to fall asleep in.
SHORT_STEPS = (0.5, 2.5, 1.0, 3.5, 0.5, 0.0, 0.5)
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`seconds`: how long replica-hours are counted; all requests come in this time."""

    name: str
    what: str
    tasks: int
    seconds: float
    requests: tuple[Request, ...]


def all_of(recorded: Sequence[Recorded], *, pod_rate: float) -> list[Scenario]:
    """The scenarios, made of this trace. `pod_rate`: requests a second that one pod answers at its target. The same trace and rate give the same scenarios."""
    return [
        _busy("steps", "work for 0.5, 3, 1, 6 and 0.5 pods, for 10 minutes each", recorded, lambda at: pod_rate * steps(at), 3000.0),
        _busy(
            "bursts", "work for 0.5 pods; for 5 pods in the last 90 s of every 7 minutes", recorded, lambda at: pod_rate * bursts(at), HOUR
        ),
        _busy("diurnal", "a day in two hours, from work for 0.1 pods to 5", recorded, lambda at: pod_rate * diurnal(at), 2 * HOUR),
        _recorded(recorded, pod_rate),
        sparse(recorded),
    ]


def short(recorded: Sequence[Recorded], *, pod_rate: float) -> Scenario:
    """Steps of a minute each, down to nothing and up again, in tasks of one pool."""
    seconds = len(SHORT_STEPS) * SHORT_STEP_SECONDS
    requests = at_rate(recorded, lambda at: pod_rate * SHORT_STEPS[int(at // SHORT_STEP_SECONDS)], seconds)
    told = ", ".join(f"{pods:g}" for pods in SHORT_STEPS)
    return Scenario("short", f"work for {told} pods, for a minute each", SHORT_TASKS, seconds, _cut(requests, SHORT_TASKS))


def steps(at: float) -> float:
    return (0.5, 3.0, 1.0, 6.0, 0.5)[min(4, int(at // 600))]


def bursts(at: float) -> float:
    return 5.0 if at % 420 >= 330 else 0.5


def diurnal(at: float) -> float:
    return 0.1 + 4.9 * math.pow(0.5 - 0.5 * math.cos(2 * math.pi * at / (2 * HOUR)), 1.5)


def sparse_sessions(at: float) -> float:
    """Sessions a second of all 200 tasks together: working hours and nights, an hour and a half each."""
    return 60 / HOUR if at % (3 * HOUR) < 1.5 * HOUR else 4 / HOUR


def sparse(recorded: Sequence[Recorded]) -> Scenario:
    """200 tasks of which each is used in short sessions, once in four hours or so: somebody asks three times, with half a minute between."""
    seconds, random = 6 * HOUR, Random(SEED)  # noqa: S311  the same on every run
    times: list[tuple[float, int]] = []
    for beginning in at_random(sparse_sessions, seconds, random):
        at, task = beginning, random.randrange(SPARSE_TASKS)
        while at < seconds:
            times.append((at, task))
            if random.random() < 1 / 3:
                break
            at += random.expovariate(1 / 30)
    sizes = (recorded[number % len(recorded)] for number in range(len(times)))
    requests = tuple(
        Request(at, task, size.prompt_tokens, size.answer_tokens) for (at, task), size in zip(sorted(times), sizes, strict=True)
    )
    return Scenario("sparse", "200 tasks with a few requests in some hours; nights", SPARSE_TASKS, seconds, requests)


def at_random(rate: Profile, seconds: float, random: Random) -> list[float]:
    """Moments of a Poisson process with this rate per second, by thinning one of the greatest rate."""
    most = max(rate(second) for second in range(int(seconds)))
    found, at = [], random.expovariate(most)
    while at < seconds:
        if random.random() * most < rate(at):
            found.append(at)
        at += random.expovariate(most)
    return found


def _busy(name: str, what: str, recorded: Sequence[Recorded], rate: Profile, seconds: float) -> Scenario:
    return Scenario(name, what, BUSY_TASKS, seconds, _cut(at_rate(recorded, rate, seconds), BUSY_TASKS))


def _recorded(recorded: Sequence[Recorded], pod_rate: float) -> Scenario:
    """The hour as it was, with its own ups and downs, for as many tenants as make work for 3 pods or more, each a little later than the one before."""
    end = recorded[-1].at
    tenants = max(1, round(3 * pod_rate * end / len(recorded)))
    shifted = [
        [Recorded((one.at + 7.3 * tenant) % end, one.prompt_tokens, one.answer_tokens) for one in recorded] for tenant in range(tenants)
    ]
    merged = list(heapq.merge(*(sorted(copies, key=_moment) for copies in shifted), key=_moment))
    return Scenario("recorded", f"the trace's hour itself, {tenants} times", BUSY_TASKS, end, _cut(merged, BUSY_TASKS))


def _cut(requests: Sequence[Recorded], tasks: int) -> tuple[Request, ...]:
    """Cut into tasks of unequal size: the second has half the requests of the first, the third a third."""
    random = Random(SEED)  # noqa: S311  the same on every run
    weights = list(accumulate(1 / (1 + number) for number in range(tasks)))
    drawn = random.choices(range(tasks), cum_weights=weights, k=len(requests))
    return tuple(Request(one.at, task, one.prompt_tokens, one.answer_tokens) for one, task in zip(requests, drawn, strict=True))


def _moment(one: Recorded) -> float:
    return one.at
