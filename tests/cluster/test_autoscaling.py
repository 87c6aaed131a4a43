"""Replicas follow demand on a real cluster, to zero and back, and no request pays for it with an error."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import pytest
import yaml

from tests.cluster.api import EVENT, POD, TESTER, Object, condition, eventually, is_true
from tests.cluster.crowd import crowd
from tests.cluster.disturbance import all_ready, kill_container, pods
from tests.cluster.fleet import METRICS_PORT, SYSTEM, Fleet
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import SOAK, ready, still
from tests.cluster.own_metrics import MetricsSource
from tests.cluster.sleepers import RARE, SELDOM, SLOW_SECONDS, SleepyTeam

# An operator that can't renew its lease while the API server restarts ends itself.
ENDS_PROCESSES = True
CLASS = "sleepy"
IDLE_SECONDS = 60 if SOAK else 10
MOST = 3
TARGET = 2
FIRST_REQUESTS = 50
# The chart's `gateway.limits.maxHeldPerTask`, of each replica.
PLACES = 200
BEYOND = 50
SHARE = 30
# Longer than anything takes that the test does in the middle of a canary.
STEP_SECONDS = 300


@pytest.fixture(scope="module")
def team(fleet: Fleet, cluster: Cluster) -> Iterator[SleepyTeam]:
    scaled_by(fleet, "Builtin")
    with fleet.tenant("sleepy") as tenant:
        found = SleepyTeam(tenant=tenant, cluster=cluster, rare=fleet.artifact("sleepy", "rare"), seldom=fleet.artifact("sleepy", "seldom"))
        tenant.apply(RARE, found.rare, serving_class=CLASS)
        tenant.apply(SELDOM, found.seldom, serving_class=CLASS)
        ready(fleet.api, tenant.namespace)
        yield found
    fleet.remove_class(CLASS)


def scaled_by(fleet: Fleet, autoscaler: str, *, spare: int = 0) -> None:
    fleet.serving_class(
        CLASS,
        scaling={
            "autoscaler": autoscaler,
            "minReplicas": 0,
            "maxReplicas": MOST,
            "targetConcurrency": TARGET,
            "idleSeconds": IDLE_SECONDS,
            "stableWindowSeconds": 10,
            "scaleDownDelaySeconds": 10,
            "maxScaleDownPercent": 100,
            "spareReplicas": spare,
        },
    )


def told_asleep(team: SleepyTeam, name: str) -> bool:
    available = condition(team.tenant.get(name), "Available") or {}
    return (available.get("status"), available.get("reason")) == ("True", "AtZero")


def held(fleet: Fleet) -> float:
    """Requests that wait for a pod now, in all gateways."""
    found = pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=gateway")
    sources = [MetricsSource(fleet.api, SYSTEM, pod["metadata"]["name"], METRICS_PORT) for pod in found]
    return sum(source.value("taskfleet_gateway_held_requests") for source in sources)


def wake_ups(team: SleepyTeam) -> int:
    """How often the pool was woken, by its events."""
    found = team.tenant.fleet.api.list(EVENT, team.tenant.namespace)
    return sum(event.get("count") or 1 for event in found if event["reason"] == "Woken")


def test_pool_sleeps_once_every_task_is_idle_and_not_before(fleet: Fleet, team: SleepyTeam) -> None:
    """A-05, and A-01: while one member is asked, the pool stays; asleep, its tasks are healthy."""
    target = team.tenant.target(SELDOM, team.seldom)
    with constant_load(fleet.gateway_url, [target], rate=1) as load:
        load.wait_for(2 * IDLE_SECONDS)
        assert team.pool()["spec"]["replicas"] == 1, team.story()
    load.assert_no_error()
    team.sleeps()
    for name in (RARE, SELDOM):
        eventually(partial(told_asleep, team, name), what=f"{name} says that it sleeps", describe=team.story)
        assert team.tenant.get(name)["status"]["traffic"], "the stable version keeps its traffic while it sleeps"
    assert is_true(team.pool(), "Ready")
    ready(fleet.api, team.tenant.namespace)
    still(fleet.api, team.tenant.namespace)


def test_first_requests_wake_the_pool_once_and_are_all_answered(fleet: Fleet, team: SleepyTeam) -> None:
    """A-01, A-02."""
    team.sleeps()
    before = wake_ups(team)
    with ThreadPoolExecutor(FIRST_REQUESTS) as users:
        answers = list(users.map(lambda _: team.tenant.chat(RARE), range(FIRST_REQUESTS)))
    assert {answer.status for answer in answers} == {200}, [answer.raw[:200] for answer in answers if answer.status != 200][:3]
    assert all(team.rare.mark in answer.text for answer in answers)
    waited = [float(answer.headers["x-taskfleet-held-seconds"]) for answer in answers]
    print(f"{FIRST_REQUESTS} first requests waited {min(waited):.1f} to {max(waited):.1f} s")
    assert min(waited) > 0
    eventually(lambda: wake_ups(team) == before + 1 or None, what="one wake-up is told", within=60, describe=team.story)


def test_request_that_meets_the_pool_as_it_falls_asleep_is_answered(fleet: Fleet, team: SleepyTeam) -> None:
    """A-05: requests at intervals about as long as the idle time, so that some come in the very moment."""
    for gap in (IDLE_SECONDS - 0.5, IDLE_SECONDS + 0.5, IDLE_SECONDS + 1.5, IDLE_SECONDS + 2.5):
        assert team.tenant.chat(SELDOM).status == 200
        time.sleep(gap)
    answer = team.tenant.chat(SELDOM)
    assert answer.status == 200, answer.raw[:300]
    assert team.seldom.mark in answer.text


def test_woken_pod_tells_how_long_each_part_of_its_start_took(fleet: Fleet, team: SleepyTeam) -> None:
    team.sleeps()
    team.wakes()
    (pod,) = team.pods()

    def told() -> Object:
        start: Object = team.pool()["status"].get("lastStart", {})
        assert start.get("pod") == pod["metadata"]["name"], start
        return start

    start = eventually(told, what="the pool tells of its newest pod", within=30, describe=team.story)
    parts = {part["phase"]: float(part["seconds"]) for part in start["phases"]}
    print(f"a pod with the simulator started in {start['seconds']} s: {parts}")
    assert list(parts) == ["Schedule", "Pull", "Base", "Engine", "Adapters", "Ready"]
    assert round(sum(parts.values()), 1) == float(start["seconds"])
    assert min(parts.values()) >= 0
    assert parts["Engine"] > 0
    ready_since = condition(fleet.api.get(POD, start["pod"], team.tenant.namespace), "Ready")
    assert ready_since is not None
    whole = datetime.fromisoformat(ready_since["lastTransitionTime"]) - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    assert 0 <= float(start["seconds"]) - whole.total_seconds() <= 1
    series = f'taskfleet_cold_start_phase_seconds_count{{phase="Engine",serving_class="{CLASS}"}}'
    counting = [source for source in fleet.operator_metrics() if series in source.text()]
    assert len(counting) == 1, "the leader, and nobody else"


def test_spare_pod_answers_the_first_request_at_once(fleet: Fleet, team: SleepyTeam) -> None:
    """It is there though nobody asks, and no request now and then brings another."""
    team.sleeps()
    scaled_by(fleet, "Builtin", spare=1)
    try:
        team.has(1)
        eventually(lambda: team.pool()["status"]["readyReplicas"] == 1, what="the spare pod is Ready", within=120, describe=team.story)
        assert team.pool()["status"]["scaling"]["reason"] == "Spare"
        time.sleep(2 * IDLE_SECONDS)
        answer = team.tenant.chat(RARE)
        assert answer.status == 200
        assert "x-taskfleet-held-seconds" not in answer.headers, "it did not wait"
        time.sleep(IDLE_SECONDS)
        team.has(1)
    finally:
        scaled_by(fleet, "Builtin")
    team.sleeps()


def test_burst_gets_its_replicas_within_the_bound_and_gives_them_back_without_an_error(fleet: Fleet, team: SleepyTeam) -> None:
    """A-07, A-10: twelve at once for a target of two is more than the bound; streams that are under way end well."""
    team.wakes()
    targets = [team.tenant.target(RARE, team.rare, stream=stream) for stream in (False, True)]
    steady = [team.tenant.target(SELDOM, team.seldom)]
    with constant_load(fleet.gateway_url, steady, rate=2) as quiet:
        with team.slow(RARE, team.rare), constant_load(fleet.gateway_url, targets, rate=12 / SLOW_SECONDS) as burst:
            begun = time.monotonic()
            eventually(lambda: team.pool()["spec"]["replicas"] == MOST, what="the burst has its replicas", within=60, describe=team.story)
            print(f"burst: the scale was written after {time.monotonic() - begun:.1f} s")
            team.has(MOST)
            burst.wait_for(20)
        team.has(1)
        quiet.wait_for(10)
    burst.assert_no_error()
    quiet.assert_no_error()


def test_someone_else_may_drive_the_replicas(fleet: Fleet, team: SleepyTeam) -> None:
    """A-12: by the scale subresource, as an HPA does, and back again without a jump."""
    team.wakes()
    scaled_by(fleet, "External")
    pool = team.pool()["metadata"]["name"]
    scale = ("scale", "modelpool", pool, "-n", team.tenant.namespace)
    before = team.pool()["spec"]["replicas"]
    still(fleet.api, team.tenant.namespace)
    assert team.pool()["spec"]["replicas"] == before, "nothing changes until somebody else scales"
    team.cluster.kubectl(*scale, "--replicas=2")
    team.has(2)
    time.sleep(2 * IDLE_SECONDS)
    assert team.pool()["spec"]["replicas"] == 2, "idle, and left alone"
    scaled_by(fleet, "Builtin")
    team.sleeps()


def test_manifests_of_users_meet_no_replicas(fleet: Fleet, team: SleepyTeam) -> None:
    """G-01, G-04, R-04: what users have written has no replicas in it, so it neither differs from a pool that scales nor sets it back."""
    manifest = yaml.safe_dump(team.tenant.task(SELDOM, team.seldom, serving_class=CLASS))
    by_user = ("--server-side", "--force-conflicts", f"--field-manager={TESTER}", "-f", "-")

    def in_sync() -> bool:
        # Ends with 1 where there is a difference, which raises.
        return not team.cluster.kubectl("diff", *by_user, stdin=manifest)

    def applied_again(replicas: int) -> None:
        assert in_sync()
        uids = {pod["metadata"]["uid"] for pod in team.pods()}
        team.cluster.kubectl("apply", *by_user, stdin=manifest)
        still(fleet.api, team.tenant.namespace)
        assert team.pool()["spec"]["replicas"] == replicas, team.story()
        assert {pod["metadata"]["uid"] for pod in team.pods()} == uids

    team.wakes()
    with constant_load(fleet.gateway_url, [team.tenant.target(SELDOM, team.seldom)], rate=2) as load:
        team.has(1)
        applied_again(1)
        for least in (2, None, 2):  # up, and down and up again before anything can have come of it
            team.tenant.apply(RARE, team.rare, serving_class=CLASS, scaling={"minReplicas": least} if least else None)
        team.has(2)
        applied_again(2)
        team.tenant.apply(RARE, team.rare, serving_class=CLASS)
        team.has(1)
        load.wait_for(5)
    load.assert_no_error()
    team.sleeps()
    applied_again(0)
    team.wakes()
    assert in_sync()


def test_full_queue_says_so_and_clients_that_leave_make_room(fleet: Fleet, team: SleepyTeam) -> None:
    """A-03, A-04: at a pool that nobody wakes, as another autoscaler is to do it."""
    team.sleeps()
    scaled_by(fleet, "External")
    still(fleet.api, team.tenant.namespace)
    places = PLACES * len(pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=gateway"))
    try:
        with crowd(fleet.gateway_url, team.tenant.target(RARE, team.rare), places + BEYOND) as clients:
            eventually(
                lambda: len(clients.listen()) >= BEYOND and held(fleet) == clients.waiting, what="some wait, others may not", within=20
            )
            for answer in clients.answers:
                assert answer.status == 429, answer.raw[:300]
                assert answer.error_code == "queue_full"
                assert int(answer.headers["retry-after"]) > 0
        assert team.pool()["spec"]["replicas"] == 0, "it is the other's to wake"
        eventually(lambda: held(fleet) == 0, what="whoever left has given the place back", within=20)
    finally:
        scaled_by(fleet, "Builtin")
    answer = team.tenant.chat(RARE)
    assert answer.status == 200, answer.raw[:300]
    assert float(answer.headers["x-taskfleet-held-seconds"]) > 0


def test_canary_keeps_its_share_while_replicas_change_and_a_pod_and_the_api_server_die(fleet: Fleet, team: SleepyTeam) -> None:
    """A-11, P-04, R-18 with scaling on: no request fails."""
    new = fleet.artifact("sleepy", "rare-2")

    def share() -> Object:
        found = {target["revision"]: target["weightPercent"] for target in team.tenant.get(RARE)["status"]["traffic"]}
        assert sorted(found.values()) == [SHARE, 100 - SHARE], found
        return found

    team.wakes()
    busy = [team.tenant.target(SELDOM, team.seldom)]
    both = team.tenant.target(RARE, team.rare, new)
    with constant_load(fleet.gateway_url, [both], rate=4) as load:
        steps = [{"weightPercent": SHARE, "holdSeconds": STEP_SECONDS}]
        rollout = {"strategy": "Canary", "steps": steps, "analysis": {"minRequests": 10, "maxLatencyRatioPercent": 10_000}}
        team.tenant.apply(RARE, new, serving_class=CLASS, rollout=rollout)
        before = eventually(share, what="the candidate has its share", within=120, describe=team.story)
        with team.slow(SELDOM, team.seldom), constant_load(fleet.gateway_url, busy, rate=12 / SLOW_SECONDS) as burst:
            team.has(MOST)
            all_ready(fleet.api, team.tenant.namespace, MOST)
            assert share() == before
            kill_container(fleet.api, team.pods()[0], "engine", "agent")
            team.cluster.restart_api_server()
            assert eventually(team.pool, what="the API server answers", within=60)["spec"]["replicas"] == MOST
            all_ready(fleet.api, team.tenant.namespace, MOST)
            assert share() == before
            burst.wait_for(20)
        eventually(lambda: team.pool()["spec"]["replicas"] < MOST, what="pods go again", within=120, describe=team.story)
        assert share() == before
        load.wait_for(20)
    load.assert_no_error()
    burst.assert_no_error()
    assert load.answered_by(new.mark, both.model), "the candidate had users"
    team.tenant.apply(RARE, team.rare, serving_class=CLASS)
    ready(fleet.api, team.tenant.namespace)
