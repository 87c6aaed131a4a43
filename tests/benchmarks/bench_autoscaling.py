"""Replays a recorded hour of LLM requests against rules for the number of replicas, and prints what each cost and how long requests waited.

    python -m tests.benchmarks.bench_autoscaling [--trace FILE] [--scenario steps …] [--target 16] [--cold-start SECONDS]

A simulation in which only time is simulated: taskfleet's rule is the function that the operator calls, pods are chosen by the gateway's function, and the engines take what engines
were measured to take. The other rules are written by their projects' documentation; each has a module in `replay/` that says it. The committed trace is every fifth request of
the hour (`replay/data/ATTRIBUTION.md`); `--trace` takes the whole file.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.replay.engine import Timings
from tests.benchmarks.replay.figures import Figures, figures, peak_replicas, table
from tests.benchmarks.replay.hpa import HorizontalPodAutoscaler
from tests.benchmarks.replay.kpa import KnativePodAutoscaler
from tests.benchmarks.replay.moving_average import MovingAverage
from tests.benchmarks.replay.ours import Taskfleet
from tests.benchmarks.replay.rules import Rule, Target
from tests.benchmarks.replay.scenarios import Scenario, all_of
from tests.benchmarks.replay.simulation import Outcome, replay
from tests.benchmarks.replay.static import Static
from tests.benchmarks.replay.timings import FIGURES, pod_rate, timings
from tests.benchmarks.replay.trace import COMMITTED, read

RULES = (Static.name, HorizontalPodAutoscaler.name, KnativePodAutoscaler.name, MovingAverage.name, Taskfleet.name)
MOST = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One replay to be made."""

    scenario: Scenario
    rule: str
    target: int
    timings: Timings

    def figures(self) -> Figures:
        target = Target(concurrency=self.target, most=MOST, tasks={number: f"task-{number}" for number in range(self.scenario.tasks)})
        if self.rule != Static.name:
            return figures(replay(self.scenario, made(self.rule, target), self.timings))
        return figures(self._static())

    def _static(self) -> Outcome:
        """The fewest pods that have no more than the target each in the busiest minute. With fewer pods each is slower, so a first guess may not do."""
        count = 0
        while True:
            outcome = replay(self.scenario, Static(max(1, count)), self.timings, begin_with=max(1, count))
            needed = peak_replicas(outcome, target=self.target)
            if needed <= max(1, count):
                return outcome
            count += 1


def made(rule: str, target: Target) -> Rule:
    rules: dict[str, type[HorizontalPodAutoscaler | KnativePodAutoscaler | MovingAverage | Taskfleet]] = {
        one.name: one for one in (HorizontalPodAutoscaler, KnativePodAutoscaler, MovingAverage, Taskfleet)
    }
    return rules[rule](target)


def report(scenarios: Sequence[Scenario], *, target: int, engine: Timings) -> None:
    runs = [Run(scenario, rule, target, engine) for scenario in scenarios for rule in RULES]
    # The longest first: two processes end at about the same time.
    longest = sorted(runs, key=lambda run: -len(run.scenario.requests) - run.scenario.tasks * 1000)
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        found = dict(zip(((run.scenario.name, run.rule) for run in longest), processes.map(Run.figures, longest), strict=True))
    for scenario in scenarios:
        rows = [found[scenario.name, rule] for rule in RULES]
        print(
            f"\n{scenario.name}: {scenario.what}; {len(scenario.requests)} requests of {scenario.tasks} tasks in {scenario.seconds / 3600:.1f} h"
        )
        print(table(rows))
        waited = "   ".join(f"{row.rule} {row.waited_percent:.1f} %" for row in rows)
        print(f"requests that waited at all: {waited}")
    print("\n*: on the Pareto front: no other row has replica-hours and p95 wait that are both no more, and one of them less")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=COMMITTED, help="a trace with the columns TIMESTAMP, ContextTokens, GeneratedTokens")
    parser.add_argument("--scenario", nargs="*", help="only these")
    parser.add_argument("--target", type=int, default=16, help="requests per replica that all rules aim at")
    parser.add_argument("--cold-start", type=float, help="seconds from a pod's creation until it is Ready, instead of the table's")
    given = parser.parse_args()
    recorded, engine = read(given.trace), timings(cold_start_seconds=given.cold_start)
    rate = pod_rate(recorded, engine, given.target)
    for figure in FIGURES:
        print(f"{figure.what:40} {figure.value:7.2f} {figure.unit:13} {figure.source}")
    print(f"a pod answers {rate:.2f} requests/s at its target of {given.target}")
    scenarios = [scenario for scenario in all_of(recorded, pod_rate=rate) if not given.scenario or scenario.name in given.scenario]
    report(scenarios, target=given.target, engine=engine)


if __name__ == "__main__":
    main()
