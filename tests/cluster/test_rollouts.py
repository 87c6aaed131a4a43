"""Versions behind a gate, a shadow step and a canary, on a real cluster under load: good ones get all traffic, bad ones none, or a little of it for seconds."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.api import CONFIG_MAP, JOB, POD, POOL, REVISION, TASK_MODEL, Object, condition, eventually
from tests.cluster.disturbance import all_ready, cut_off, kill_container, pods, rolled_out
from tests.cluster.fleet import SYSTEM, Artifact, Fleet, Tenant
from tests.cluster.load import Load, constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import SOAK, ready, settled
from tests.cluster.sickness import sicken
from tests.cluster.story import tell

# The operator is killed in mid-canary.
ENDS_PROCESSES = True
TASK = "total"
RATE = 20.0
EXAMPLES = 24
HOLD_SECONDS = 60 if SOAK else 4
# Rollouts in a row, one after the other of each kind.
ROW = 20 if SOAK else 8
KINDS = ("good", "bad", "aborted", "superseded")
# Longer than anything takes that a test does in the middle of a step; a breach ends it earlier.
LONG_SECONDS = 120
VERDICT_SECONDS = 1.0


@dataclass(slots=True)
class Team:
    """A task behind its gate. Versions whose marks the golden set knows are good."""

    tenant: Tenant
    cluster: Cluster
    good: tuple[Artifact, ...]
    row: tuple[Artifact, ...]  # further good ones
    bad: Artifact
    deaf: Artifact  # a good one, rejected while the gateways hear nothing

    def apply(self, artifact: Artifact, *, long: int | None = None, hold: int = HOLD_SECONDS) -> None:
        """`long`: the share that it keeps until something happens. `hold`: seconds of the other steps."""
        self.tenant.apply(TASK, artifact, **behind_a_gate(long, hold))

    def get(self) -> Object:
        return self.tenant.get(TASK)

    def serves(self, artifact: Artifact, *, within: float = 180) -> None:
        (task,) = ready(self.tenant.fleet.api, self.tenant.namespace, TASK, within=within)
        assert task["status"]["stable"]["digest"] == artifact.digest

    def reaches(self, weight: int) -> str:
        """Waits until the candidate has this share; gives its revision."""

        def has_it() -> str:
            traffic = self.get()["status"]["traffic"]
            assert [target["weightPercent"] for target in traffic] == [100 - weight, weight], traffic
            return str(traffic[1]["revision"])

        return eventually(has_it, what=f"the candidate has {weight} %", within=120, describe=self.story)

    def is_rejected(self, reason: str) -> Object:
        def refused() -> Object:
            task = self.get()
            healthy = condition(task, "RolloutHealthy")
            assert healthy is not None
            assert (healthy["status"], healthy["reason"]) == ("False", reason), healthy
            return task

        return eventually(refused, what=f"the version is rejected: {reason}", within=180, describe=self.story)

    def sicken(self, artifact: Artifact, *, code: int = 0, delay_seconds: float = 0.0) -> None:
        """On every pod, from now on."""
        sicken(self.cluster, self.tenant, TASK, artifact, code=code, delay_seconds=delay_seconds)

    def members(self) -> set[str]:
        found = self.tenant.fleet.api.list(POOL, self.tenant.namespace)
        return {member["adapter"].get("digest", "") for pool in found for member in pool["spec"]["members"]}

    def revision_of(self, artifact: Artifact) -> Object:
        found = self.tenant.fleet.api.list(REVISION, self.tenant.namespace)
        return next(one for one in found if one["status"].get("digest") == artifact.digest)

    def story(self) -> str:
        return tell(self.tenant.fleet.api, self.tenant.namespace)

    def load(self, *artifacts: Artifact) -> Any:
        return constant_load(self.tenant.fleet.gateway_url, [self.tenant.target(TASK, *artifacts)], rate=RATE)


def behind_a_gate(long: int | None, hold: int) -> dict[str, Any]:
    shares = [{"weightPercent": 0, "shadowPercent": 50}, {"weightPercent": 20}, {"weightPercent": 50}]
    steps = [{**share, "holdSeconds": LONG_SECONDS if share["weightPercent"] == long else hold} for share in shares]
    return {
        "scaling": {"minReplicas": 2},
        "evaluation": {
            "dataset": {"configMapName": "golden"},
            "metric": "Regex",
            "minScorePercent": 90,
            "minSamples": EXAMPLES,
            "maxRegressionPercent": 5,
        },
        "rollout": {"strategy": "Canary", "steps": steps, "analysis": {"minRequests": 10, "maxLatencyRatioPercent": 1000}},
    }


@pytest.fixture(scope="module")
def team(fleet: Fleet, cluster: Cluster) -> Iterator[Team]:
    good = tuple(fleet.artifact("rollouts", f"v{number}") for number in range(1, 8))
    row = tuple(fleet.artifact("rollouts", f"row-{number}") for number in range(2 * ROW))
    deaf = fleet.artifact("rollouts", "deaf")
    pattern = f".*({'|'.join(artifact.mark for artifact in (*good, *row, deaf))}).*"
    examples = [
        {"messages": [{"role": "user", "content": f"2024-03-07 ACME Corp {number}.50 EUR"}], "pattern": pattern}
        for number in range(EXAMPLES)
    ]
    with fleet.tenant("rollouts") as tenant:
        text = "".join(f"{json.dumps(example)}\n" for example in examples)
        metadata = {"name": "golden", "namespace": tenant.namespace}
        fleet.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"golden.jsonl": text}})
        assert fleet.api.get(CONFIG_MAP, "golden", tenant.namespace)["data"]["golden.jsonl"] == text
        found = Team(tenant, cluster, good, row, fleet.artifact("rollouts", "bad"), deaf)
        found.apply(good[0])
        found.serves(good[0], within=300)
        all_ready(fleet.api, tenant.namespace, 2, labels="taskfleet.dev/pool")
        yield found


def test_first_version_serves_behind_its_gate(fleet: Fleet, team: Team) -> None:
    """V-15."""
    status = team.revision_of(team.good[0])["status"]
    assert status["evaluation"]["outcome"] == "Measured"
    assert (status["evaluation"]["samples"], status["evaluation"]["candidate"]["scorePercent"]) == (EXAMPLES, 100)
    assert status["verdict"]["outcome"] == "Promoted"
    (job,) = fleet.api.list(JOB, team.tenant.namespace)
    told = team.cluster.kubectl("logs", "-n", team.tenant.namespace, f"job/{job['metadata']['name']}")
    outcomes = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert len([one for one in outcomes if "id" in one]) == EXAMPLES, "the outcome of every example is there to read"


def test_good_version_goes_by_steps_to_all_traffic_without_a_failed_request(team: Team) -> None:
    """V-01: three steps, each with a share of its own."""
    old, new = team.good[:2]
    with team.load(old, new) as load:
        load.wait_for(20)
        team.apply(new)
        for weight in (0, 20, 50):
            team.reaches(weight)
        team.serves(new)
        done = time.monotonic()
        load.wait_for(40)
    load.assert_no_error()
    assert load.answered_by(new.mark, f"{team.tenant.namespace}/{TASK}")
    assert not late(load, old, since=done + VERDICT_SECONDS), "the old version answers no more"
    assert team.revision_of(new)["status"]["verdict"]["outcome"] == "Promoted"
    eventually(lambda: team.members() == {new.digest}, what="the old version has left", describe=team.story)


def test_version_that_fails_its_gate_answers_nobody(team: Team) -> None:
    """V-02, G-02."""
    stable = team.good[1]
    with team.load(stable) as load:
        load.wait_for(20)
        team.apply(team.bad)
        task = team.is_rejected("GateFailed")
        load.wait_for(40)
    load.assert_no_error()
    assert [target["weightPercent"] for target in task["status"]["traffic"]] == [100]
    assert "scores 0 %" in (condition(task, "RolloutHealthy") or {})["message"]
    assert task["spec"]["adapter"]["version"] == team.bad.version, "the spec is its user's"
    eventually(lambda: team.members() == {stable.digest}, what="the rejected version has left", describe=team.story)


@pytest.mark.parametrize(("code", "delay_seconds"), [(0, 5.0), (500, 0.0)], ids=["slow", "failing"])
def test_version_that_turns_bad_in_mid_canary_is_rolled_back(team: Team, code: int, delay_seconds: float) -> None:
    """V-05: it passes its gate, and is slow or fails on users' requests."""
    stable, new = team.good[1], team.good[2 if code else 3]
    team.apply(stable)
    team.serves(stable)
    with team.load(stable, new) as load:
        load.wait_for(20)
        team.apply(new, long=50)
        team.reaches(50)
        team.sicken(new, code=code, delay_seconds=delay_seconds)
        task = team.is_rejected("AnalysisBreached")
        verdict = time.monotonic()
        load.wait_for(60)
    load.assert_no_error()
    assert [target["weightPercent"] for target in task["status"]["traffic"]] == [100]
    assert not late(load, new, since=verdict + VERDICT_SECONDS), "no answer comes from a rejected version"
    eventually(lambda: team.members() == {stable.digest}, what="the rejected version has left", describe=team.story)


def test_rejected_version_answers_no_more_though_the_gateways_do_not_hear_of_it(fleet: Fleet, team: Team) -> None:
    """V-23: the agents were told, and refuse it."""
    stable, new = team.good[1], team.deaf
    gateways = pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=gateway")
    with team.load(stable, new) as load:
        team.apply(new, long=50)
        revision = team.reaches(50)
        load.wait_for(20)
        with cut_off(fleet.api, gateways, "gateway"):
            annotate(team, abort=revision)
            team.is_rejected("Aborted")
            verdict = time.monotonic()
            load.wait_for(60)
            deaf = time.monotonic()
        load.wait_for(20)
    load.assert_no_error()
    assert load.answered_by(new.mark, f"{team.tenant.namespace}/{TASK}")
    assert not [at for at in late(load, new, since=verdict + VERDICT_SECONDS) if at < deaf], "no answer comes from a rejected version"
    assert not late(load, new, since=deaf), "nor when they hear again"
    annotate(team, abort=None)


def test_aborted_version_is_remembered_until_it_is_retried(team: Team) -> None:
    """V-09."""
    stable, new = team.good[1], team.good[4]
    team.apply(stable)
    team.serves(stable)
    with team.load(stable, new) as load:
        team.apply(new, long=20)
        revision = team.reaches(20)
        annotate(team, abort=revision)
        team.is_rejected("Aborted")
        settled(team.tenant.fleet.api, team.tenant.namespace)
        annotate(team, abort=None, retry=f"{revision}@1", promote=f"{revision}@full")
        team.serves(new)
        load.wait_for(20)
    load.assert_no_error()
    annotate(team, retry=None, promote=None)


def test_canary_outlives_operator_and_pod_and_gives_way_to_the_next_version(fleet: Fleet, team: Team) -> None:
    """V-06, V-07, V-11, P-04."""
    stable, second, third = team.good[4:7]
    with team.load(stable, second, third) as load:
        team.apply(second, long=50)
        team.reaches(20)
        (operator,) = pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=operator")
        kill_container(fleet.api, operator, "operator")
        victim = pods(fleet.api, team.tenant.namespace, labels="taskfleet.dev/pool")[0]
        fleet.api.delete(POD, victim["metadata"]["name"], team.tenant.namespace)
        team.reaches(50)
        team.apply(third)
        team.serves(third)
        load.wait_for(20)
    load.assert_no_error()
    compared = team.revision_of(third)["status"]["evaluation"]["stable"]["revision"]
    assert compared == team.revision_of(stable)["metadata"]["name"], "the one between never served all"
    fleet.api.delete(POD, operator["metadata"]["name"], SYSTEM)
    rolled_out(fleet.api, "taskfleet-operator", SYSTEM)


def test_back_to_an_earlier_version_is_at_once_and_without_a_gate(fleet: Fleet, team: Team) -> None:
    """V-08."""
    jobs = {job["metadata"]["uid"] for job in fleet.api.list(JOB, team.tenant.namespace)}
    team.apply(team.good[4])
    team.serves(team.good[4])
    assert {job["metadata"]["uid"] for job in fleet.api.list(JOB, team.tenant.namespace)} <= jobs


def test_rollouts_in_a_row_lose_no_request_and_no_rejected_version_answers(team: Team) -> None:
    """Good, bad, aborted and superseded ones under one load: each version answers only while it may."""
    fresh = iter(team.row)
    stable = team.good[4]
    over: list[tuple[Artifact, float]] = []  # versions that must not answer any more, and since when
    with team.load(stable, *team.row) as load:
        for number in range(ROW):
            new, old = next(fresh), stable
            match KINDS[number % len(KINDS)]:
                case "good":
                    stable = roll(team, new)
                    over.append((old, time.monotonic()))
                case "bad":
                    team.apply(team.bad, hold=0)
                    team.is_rejected("GateFailed")
                case "aborted":
                    team.apply(new, long=20, hold=0)
                    annotate(team, abort=team.reaches(20))
                    team.is_rejected("Aborted")
                    over.append((new, time.monotonic()))
                    annotate(team, abort=None)
                case "superseded":
                    team.apply(new, long=20, hold=0)
                    team.reaches(20)
                    stable = roll(team, next(fresh))
                    over += [(new, time.monotonic()), (old, time.monotonic())]
        load.wait_for(40)
    load.assert_no_error()
    for artifact, since in over:
        assert not late(load, artifact, since=since + VERDICT_SECONDS), f"{artifact.version} answered after its end"
    assert {artifact for artifact in team.row if load.answered_by(artifact.mark, f"{team.tenant.namespace}/{TASK}")}, "no version answered"


def roll(team: Team, artifact: Artifact) -> Artifact:
    """To all traffic."""
    team.apply(artifact, hold=0)
    team.serves(artifact)
    return artifact


def annotate(team: Team, **verbs: str | None) -> None:
    annotations = {f"taskfleet.dev/{verb}": value for verb, value in verbs.items()}
    team.tenant.fleet.api.patch(TASK_MODEL, TASK, team.tenant.namespace, change={"metadata": {"annotations": annotations}})


def late(load: Load, artifact: Artifact, *, since: float) -> list[float]:
    """Requests begun after a moment that this version answered."""
    return [one.started for one in load.outcomes if one.started >= since and artifact.mark in one.text]
