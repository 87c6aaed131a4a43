"""Pods that no request asks for, and pods while somebody is missing: schedules, forecasts, gateways that are not heard, an operator that is away; and what all of them cost."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskfleet.names import LABEL_MANAGED_BY, MANAGED_BY
from tests.cluster.api import POD, Object, eventually, is_true
from tests.cluster.disturbance import OPERATOR, deaf, no_operator, pods, rolled_out
from tests.cluster.fleet import SYSTEM, Artifact, Fleet
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import ready
from tests.cluster.sickness import sicken
from tests.cluster.sleepers import RARE, SELDOM, SLOW_SECONDS, SleepyPool, SleepyTeam

# The operator is restarted, and scaled away.
ENDS_PROCESSES = True
CLASS = "floors"
NIGHTLY = "nightly"
IDLE_SECONDS = 10
MOST = 3
TARGET = 2
# How long a schedule lasts at least: it has its pods long before.
SHORTEST_SCHEDULE = timedelta(seconds=30)
# Of the manifests' values: how long the gateway lets a request wait.
HOLD_SECONDS = 30
# Longer than it takes to notice that a gateway is silent, and shorter than until it is told.
LONGER_IDLE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A pool of one task whose schedule has begun."""

    pool: SleepyPool
    artifact: Artifact
    end: datetime


@pytest.fixture(scope="module")
def team(fleet: Fleet, cluster: Cluster) -> Iterator[SleepyTeam]:
    fleet.serving_class(
        CLASS,
        scaling={
            "minReplicas": 0,
            "maxReplicas": MOST,
            "targetConcurrency": TARGET,
            "idleSeconds": IDLE_SECONDS,
            "stableWindowSeconds": 10,
            "scaleDownDelaySeconds": 5,
            "maxScaleDownPercent": 100,
        },
    )
    with fleet.tenant("floors") as tenant:
        found = SleepyTeam(tenant=tenant, cluster=cluster, rare=fleet.artifact("floors", "rare"), seldom=fleet.artifact("floors", "seldom"))
        tenant.apply(RARE, found.rare, serving_class=CLASS)
        tenant.apply(SELDOM, found.seldom, serving_class=CLASS)
        tenant.apply(NIGHTLY, fleet.artifact("floors", NIGHTLY), serving_class=CLASS, isolation="Dedicated")
        ready(fleet.api, tenant.namespace)
        yield found
    fleet.remove_class(CLASS)


@pytest.fixture(scope="module")
def scheduled(fleet: Fleet, team: SleepyTeam) -> Scheduled:
    """It slept, and its schedule has begun this minute."""
    nightly, artifact = SleepyPool(tenant=team.tenant, isolation="Dedicated"), fleet.artifact("floors", NIGHTLY)
    nightly.sleeps()
    start = datetime.now(UTC)
    end = (start + SHORTEST_SCHEDULE + timedelta(minutes=1)).replace(second=0, microsecond=0)
    schedule = {"name": "night-shift", "start": f"{start:%-M %-H} * * *", "end": f"{end:%-M %-H} * * *", "minReplicas": 2}
    team.tenant.apply(NIGHTLY, artifact, serving_class=CLASS, isolation="Dedicated", scaling={"schedules": [schedule]})
    return Scheduled(nightly, artifact, end)


def told_to_people(cluster: Cluster, namespace: str) -> str:
    """What `taskfleet pool status` prints."""
    command = [str(Path(sys.executable).parent / "taskfleet"), "pool", "status", f"--kubeconfig={cluster.kubeconfig}", "-n", namespace]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def device_seconds(fleet: Fleet, namespace: str, pool: str) -> dict[str, float]:
    """Of each task on a pool, as the leader counts."""
    sample = re.compile(
        rf'^taskfleet_device_seconds_total{{namespace="{namespace}",pool="{pool}",task_model="([^"]+)"}} (\S+)$', re.MULTILINE
    )
    return {task: float(value) for source in fleet.operator_metrics() for task, value in sample.findall(source.text())}


def test_schedule_wakes_a_sleeping_pool_and_says_so(cluster: Cluster, team: SleepyTeam, scheduled: Scheduled) -> None:
    """No request asks for its pods."""
    scheduled.pool.has(2)
    until = f"{scheduled.end:%Y-%m-%dT%H:%M:%SZ}"

    def told() -> Object:
        scaling = scheduled.pool.scaling()
        assert (scaling["desiredReplicas"], scaling["reason"]) == (2, "Scheduled"), scaling
        return scaling

    scaling = eventually(told, what="the schedule is told of", within=30, describe=team.story)
    assert scaling["floor"] == {"replicas": 2, "source": "Schedule", "taskModel": NIGHTLY, "schedule": "night-shift", "until": until}
    assert f"schedule night-shift of {NIGHTLY} keeps 2 until {scheduled.end:%H:%M}" in told_to_people(cluster, team.tenant.namespace)


def test_pods_that_share_the_work_of_one_go_down_to_one_and_each_second_is_somebodys(
    fleet: Fleet, cluster: Cluster, team: SleepyTeam
) -> None:
    """A-14, A-15: all pods of a pool are asked a little, together less than one pod's target."""
    tenant = team.tenant
    tenant.apply(RARE, team.rare, serving_class=CLASS, scaling={"minReplicas": MOST})
    team.has_ready(MOST)
    pool = team.pool()["metadata"]["name"]
    sicken(cluster, tenant, RARE, team.rare, delay_seconds=SLOW_SECONDS, pool=pool)
    with constant_load(fleet.gateway_url, [tenant.target(RARE, team.rare)], rate=0.75 * TARGET / SLOW_SECONDS) as load:
        load.wait_for(2)
        # A look is somewhere between asking and being answered, so the time between two looks is known up to that.
        asked, before, answered = time.monotonic(), device_seconds(fleet, tenant.namespace, pool), time.monotonic()
        load.wait_for(5)
        least, after, most = time.monotonic() - answered, device_seconds(fleet, tenant.namespace, pool), time.monotonic() - asked
        assert len(team.pods()) == MOST, team.story()
        tenant.apply(RARE, team.rare, serving_class=CLASS)
        team.has(1)
        load.wait_for(2)
    load.assert_no_error()
    spent = {task: after[task] - before[task] for task in (RARE, SELDOM)}
    print(f"device seconds of {MOST} pods in {least:.2f} to {most:.2f} s: {spent}")
    assert MOST * least * 0.99 <= sum(spent.values()) <= MOST * most * 1.01
    assert spent[SELDOM] <= 0.05 * spent[RARE], "it was idle while the other one was not"


def test_forecast_outlives_the_operator_and_has_its_pods(fleet: Fleet, cluster: Cluster, team: SleepyTeam) -> None:
    """Three requests at a time on each of the last days are two pods: as the operator wrote it down, and its next process reads it."""
    tenant = team.tenant
    tenant.apply(RARE, team.rare, serving_class=CLASS, scaling={"forecast": {}})
    try:
        remember(tenant.get(RARE), "3", fleet)
        assert "floor" not in team.scaling(), "nothing is known before"
        for operator in pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=operator"):
            fleet.api.delete(POD, operator["metadata"]["name"], SYSTEM)
        rolled_out(fleet.api, OPERATOR, SYSTEM)
        team.has(2)

        def told() -> Object:
            scaling = team.scaling()
            assert scaling["desiredReplicas"] == 2, scaling
            return scaling

        floor = eventually(told, what="the forecast is told of", within=60, describe=team.story)["floor"]
        assert {name: floor[name] for name in ("replicas", "source", "taskModel")} == {
            "replicas": 2,
            "source": "Forecast",
            "taskModel": RARE,
        }
        assert datetime.fromisoformat(floor["until"]) > datetime.now(UTC)
        assert f"forecast for {RARE} keeps 2 until " in told_to_people(cluster, tenant.namespace)
    finally:
        tenant.apply(RARE, team.rare, serving_class=CLASS)


def remember(task: Object, requests: str, fleet: Fleet) -> None:
    """The record that the operator keeps for a task: so many requests at a time, on all of the last days."""
    metadata, today = task["metadata"], datetime.now(UTC).date()
    owner = {"apiVersion": task["apiVersion"], "kind": task["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    named = {
        "name": f"{metadata['name']}-demand",
        "namespace": metadata["namespace"],
        "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        "ownerReferences": [owner],
    }
    # Today's may become yesterday's.
    days = {(today - timedelta(days=ago)).isoformat(): " ".join([requests] * 96) for ago in range(4)}
    fleet.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": days})


def test_pool_keeps_its_pods_while_gateways_are_not_heard_and_says_so(fleet: Fleet, team: SleepyTeam) -> None:
    """A-08: the gateways serve and are Ready, and nothing that they send reaches the operator."""
    tenant = team.tenant
    tenant.apply(SELDOM, team.seldom, serving_class=CLASS, scaling={"idleSeconds": LONGER_IDLE_SECONDS})
    operators, gateways = (pods(fleet.api, SYSTEM, labels=f"app.kubernetes.io/component={part}") for part in ("operator", "gateway"))

    def unknown() -> Object:
        scaling = team.scaling()
        assert scaling["reason"] == "DemandUnknown", scaling
        assert is_true(team.pool(), "DemandUnknown")
        return scaling

    team.wakes()
    assert tenant.chat(SELDOM).status == 200
    with deaf(operators, "operator", to=gateways):
        asked = time.monotonic()
        scaling = eventually(unknown, what="the pool says that demand is not known", within=90, describe=team.story)
        assert time.monotonic() - asked > LONGER_IDLE_SECONDS, "it would not be asleep by now in any case"
        assert scaling["desiredReplicas"] >= 1
        assert "a gateway is not heard" in scaling["message"]
        assert team.pool()["spec"]["replicas"] == scaling["desiredReplicas"]
        assert len(team.pods()) == scaling["desiredReplicas"]
    tenant.apply(SELDOM, team.seldom, serving_class=CLASS)


def test_schedule_lets_go_at_its_end(cluster: Cluster, team: SleepyTeam, scheduled: Scheduled) -> None:
    """Which takes gateways that are heard again, where they were not."""
    scheduled.pool.has(0, within=240)
    assert not is_true(scheduled.pool.pool(), "DemandUnknown")
    assert datetime.now(UTC) >= scheduled.end
    eventually(lambda: "floor" not in scheduled.pool.scaling(), what="no schedule is told of", within=30, describe=team.story)
    assert "night-shift" not in told_to_people(cluster, team.tenant.namespace)


def test_scale_stays_while_the_operator_is_away_and_cold_tasks_answer_in_time(fleet: Fleet, team: SleepyTeam, scheduled: Scheduled) -> None:
    """A-09: nothing goes down, and who asks for a pool that nobody wakes is told so when its time is over."""
    scheduled.pool.has(0, within=240)
    team.wakes()
    awake = {pod["metadata"]["uid"] for pod in team.pods()}
    with no_operator(fleet.api):
        begun = time.monotonic()
        answer = team.tenant.chat(NIGHTLY)
        waited = time.monotonic() - begun
        assert answer.status == 503, answer.raw[:300]
        assert answer.error_code == "model_unavailable"
        assert int(answer.headers["retry-after"]) > 0
        assert HOLD_SECONDS - 1 < waited < HOLD_SECONDS + 10
        assert waited > 2 * IDLE_SECONDS, "the other pool would sleep by now"
        assert {pod["metadata"]["uid"] for pod in team.pods()} == awake
        assert team.rare.mark in team.tenant.chat(RARE).text
    eventually(lambda: scheduled.artifact.mark in team.tenant.chat(NIGHTLY).text, what="it is woken again", within=120, describe=team.story)
