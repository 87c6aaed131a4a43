"""Plays a few minutes of traffic in the simulation of `bench_autoscaling` and in real time on a cluster, and prints both side by side: does the simulation tell the truth?

    python -m tests.benchmarks.bench_replay [--cluster bench] [--startup 10]

The product as it is deployed, with two gateways, an operator and pods of the engine simulator; the requests' sizes and small bursts are the recorded trace's. How long an answer
takes in an engine is chosen, and what a pod's start and a request's way take is measured first, on the same cluster; the simulation is told these. The class's windows are shorter
than the defaults, in both. Takes about ten minutes. The cluster stays; `make down NAME=bench` ends it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from taskfleet.api.servingclass import ScalingDefaults
from tests.benchmarks.replay.engine import Timings
from tests.benchmarks.replay.figures import figures
from tests.benchmarks.replay.live import Watched, difference, outcome, over_time, paced
from tests.benchmarks.replay.ours import Taskfleet
from tests.benchmarks.replay.rules import Target
from tests.benchmarks.replay.scenarios import Scenario, short
from tests.benchmarks.replay.simulation import Outcome, replay
from tests.benchmarks.replay.timings import pod_rate
from tests.benchmarks.replay.trace import COMMITTED, Recorded, read
from tests.cluster import load
from tests.cluster.api import POD, POOL, Object, eventually
from tests.cluster.disturbance import all_ready
from tests.cluster.fleet import Artifact, Fleet, Tenant
from tests.cluster.installation import installed
from tests.cluster.load import Load, timed_load
from tests.cluster.local.backends import provide
from tests.cluster.local.progress import Progress
from tests.cluster.oracles import ready
from tests.cluster.story import tell

CLASS = "bench-replay"
CONCURRENCY, SLOTS, MOST = 8, 16, 6
TOKEN_SECONDS = 0.01
SCALING = ScalingDefaults(
    min_replicas=0,
    max_replicas=MOST,
    target_concurrency=CONCURRENCY,
    idle_seconds=15,
    stable_window_seconds=20,
    scale_down_delay_seconds=20,
    max_scale_down_percent=100,
)
# Of the engine simulator's answer, which names the adapter's bytes and the prompt's.
ANSWER_TOKENS = 10
# Pods at the end of each measured start, after the one that is there.
MEASURED_STARTS = (2, 4)
MEASURED_ANSWERS, MEASURED_SECONDS = 80, 0.5
LOOK_SECONDS = 0.2
# The chart's default instead of the tests': the simulation gives no request up either.
HOLD = "gateway.timeouts.hold=120"
LAST_ANSWER_SECONDS = 60.0
STRETCH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Team:
    """Tasks of one pool, numbered as the scenario's."""

    tenant: Tenant
    artifacts: Sequence[Artifact]

    def name(self, number: int) -> str:
        return f"task-{number}"

    def apply(self, number: int, *, fewest: int | None = None) -> None:
        wish = {} if fewest is None else {"scaling": {"minReplicas": fewest}}
        self.tenant.apply(self.name(number), self.artifacts[number], serving_class=CLASS, **wish)

    def has(self, replicas: int) -> None:
        all_ready(self.tenant.fleet.api, self.tenant.namespace, replicas, within=300)

    def target(self, number: int, work_seconds: float) -> load.Target:
        found = self.tenant.target(self.name(number), self.artifacts[number])
        return replace(found, more=paced(work_seconds, tokens=ANSWER_TOKENS))

    def pool(self) -> Object:
        (found,) = self.tenant.fleet.api.list(POOL, self.tenant.namespace)
        return found

    def look(self, watched: Watched, at: float) -> None:
        watched.look(at, replicas=self.pool()["spec"]["replicas"], pods=self.tenant.fleet.api.list(POD, self.tenant.namespace))


def compare(fleet: Fleet, recorded: Sequence[Recorded], *, startup_seconds: float) -> None:
    arguments = [f"--sim-startup-seconds={startup_seconds}", f"--max-num-seqs={SLOTS}"]
    fleet.serving_class(CLASS, engine={"args": arguments}, scaling=SCALING.to_json())
    guess = timings(cold_start_seconds=0.0, way_seconds=0.0)
    scenario = of_one_prompt_token(short(recorded, pod_rate=pod_rate(recorded, guess, CONCURRENCY)))
    with fleet.tenant("replay") as tenant:
        team = Team(tenant, [fleet.artifact(f"replay-{number}") for number in range(scenario.tasks)])
        for number in range(scenario.tasks):
            team.apply(number, fewest=1 if number == 0 else None)
        ready(fleet.api, tenant.namespace)
        cold_start = start_seconds(team)
        way = way_seconds(team)
        engine = timings(cold_start_seconds=cold_start, way_seconds=way)
        print(f"measured: {cold_start:.1f} s from a pod's creation until it is Ready, {way * 1000:.0f} ms for a request's way")
        team.apply(0, fewest=1)
        team.has(1)
        lived, watched, sent = live(team, scenario, engine)
    fleet.remove_class(CLASS)
    starts = watched.starts()
    target = Target(concurrency=CONCURRENCY, most=MOST, tasks={number: f"task-{number}" for number in range(scenario.tasks)})
    runs = {
        "simulated": replay(scenario, Taskfleet(target, SCALING), engine),
        "simulated, with the cluster's starts": replay(scenario, Taskfleet(target, SCALING), engine, starts=starts),
        "cluster": lived,
    }
    report(scenario, runs, failed=len(sent.errors()))
    for error in sorted({one.error for one in sent.errors()}):
        print(f"failed: {error[:300]}")
    print(f"the cluster's pods were Ready after {', '.join(f'{seconds:.1f}' for seconds in starts)} s")
    print(f"they were gone {statistics.median(watched.ends()):.1f} s after they were told to go (median)")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def timings(*, cold_start_seconds: float, way_seconds: float) -> Timings:
    """The engine simulator's, whose answers take as long however many it writes. A request's way through the gateway and the agent is taken for the work of its prompt."""
    pace = ((1, TOKEN_SECONDS), (SLOTS, TOKEN_SECONDS))
    return Timings(token_seconds=pace, prompt_token_seconds=way_seconds, slots=SLOTS, cold_start_seconds=cold_start_seconds)


def of_one_prompt_token(scenario: Scenario) -> Scenario:
    """So that each request's way is counted once."""
    return replace(scenario, requests=tuple(replace(request, prompt_tokens=1) for request in scenario.requests))


def start_seconds(team: Team) -> float:
    """What pods take from their creation until they are Ready, as the mean over one that starts alone and two that start together."""
    watched = Watched()
    began = time.monotonic()
    team.look(watched, 0.0)
    for replicas in MEASURED_STARTS:
        team.apply(0, fewest=replicas)

        def are_there(replicas: int = replicas) -> bool:
            team.look(watched, time.monotonic() - began)
            return sum(life.ready is not None for life in watched.lives.values()) == replicas

        eventually(
            are_there, what=f"{replicas} pods are Ready", within=180, describe=lambda: tell(team.tenant.fleet.api, team.tenant.namespace)
        )
    return statistics.mean(watched.starts())


def way_seconds(team: Team) -> float:
    """What an answer takes beyond the engine's own time, where nothing waits, as the median over some."""
    targets = [team.target(number, MEASURED_SECONDS) for number in range(len(team.artifacts))]
    requests = [(number / CONCURRENCY, targets[number % len(targets)]) for number in range(MEASURED_ANSWERS)]
    with timed_load(team.tenant.fleet.gateway_url, requests) as sent:
        sent.wait_for(len(requests))
    sent.assert_no_error()
    return statistics.median(one.seconds for one in sent.outcomes) - MEASURED_SECONDS


def live(team: Team, scenario: Scenario, engine: Timings) -> tuple[Outcome, Watched, Load]:
    """The scenario in real time, from one Ready pod on, which the class alone keeps or not."""
    requests = [(request.at, team.target(request.task, request.answer_tokens * TOKEN_SECONDS)) for request in scenario.requests]
    watched = Watched()
    team.look(watched, 0.0)
    team.apply(0)
    with timed_load(team.tenant.fleet.gateway_url, requests) as sent:
        while (at := time.monotonic() - sent.began) < scenario.seconds or len(sent.outcomes) < len(requests):
            assert sent.failure is None, f"the load broke: {sent.failure!r}"
            assert at < scenario.seconds + LAST_ANSWER_SECONDS, f"{len(sent.outcomes)} of {len(requests)} requests ended"
            team.look(watched, at)
            time.sleep(LOOK_SECONDS)
    return outcome(scenario, sent.outcomes, watched, engine, began=sent.began), watched, sent


def report(scenario: Scenario, runs: Mapping[str, Outcome], *, failed: int) -> None:
    lived = runs["cluster"]
    print(f"\n{scenario.what}; {len(scenario.requests)} requests of {scenario.tasks} tasks, {failed} failed on the cluster")
    print(
        "| | replica-seconds | wait p50 / p95 / p99 | waits over 2 s | answer p95 | scale changes | apart |\n|---|---|---|---|---|---|---|"
    )
    for what, found in runs.items():
        row = figures(found)
        apart = difference(found.scales, lived.scales, begin_with=1, seconds=scenario.seconds)
        print(
            f"| {what} | {found.replica_seconds:.0f} | {row.wait_p50:.1f} / {row.wait_p95:.1f} / {row.wait_p99:.1f} s | {row.long_waits} "
            f"| {row.answer_p95:.1f} s | {row.scales} | {apart:.2f} |"
        )
    print("apart: by how many replicas from the cluster's, as the mean over the time")
    print(f"\nreplicas at the end of each {STRETCH_SECONDS:.0f} s:")
    for what, found in runs.items():
        stretches = over_time(found.scales, begin_with=1, seconds=scenario.seconds, every=STRETCH_SECONDS)
        print(f"  {what:36} {''.join(map(str, stretches))}")
    print("their changes:")
    for what, found in runs.items():
        print(f"  {what:36} {', '.join(f'{at:.1f} s: {count}' for at, count in found.scales)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="bench", help="name of the local cluster; started where it isn't up")
    parser.add_argument("--startup", type=float, default=10, help="seconds that the engine simulator takes to start")
    given = parser.parse_args()
    recorded = read(COMMITTED)
    with installed(provide(given.cluster, Progress()), HOLD) as fleet:
        compare(fleet, recorded, startup_seconds=given.startup)


if __name__ == "__main__":
    main()
