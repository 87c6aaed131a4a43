"""What a source does after a version was taken from it: tags that move, artifacts that disappear. What serves goes on, and nothing else than what was recorded is served.

Not here: new pods of a task whose artifact is gone (`test_peers`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.api import EVENT, Object, condition, eventually, is_true
from tests.cluster.disturbance import all_ready, kill_container, pods
from tests.cluster.fleet import Fleet, Tenant
from tests.cluster.load import Load, constant_load
from tests.cluster.oracles import ready
from tests.cluster.story import tell

RATE = 10.0


@pytest.fixture(scope="module")
def team(fleet: Fleet) -> Iterator[Tenant]:
    """Two tasks on one pod: one whose tag moves, one whose artifact disappears."""
    with fleet.tenant("upstream") as tenant:
        tenant.apply("moved", fleet.artifact("upstream-moved"))
        tenant.apply("gone", fleet.artifact("upstream-gone"))
        ready(fleet.api, tenant.namespace)
        yield tenant


@contextmanager
def served_all_the_time(fleet: Fleet, team: Tenant) -> Iterator[Load]:
    """Both tasks under load, and every answer by the bytes that were recorded first."""
    targets = [team.target("moved", fleet.artifact("upstream-moved")), team.target("gone", fleet.artifact("upstream-gone"))]
    with constant_load(fleet.gateway_url, targets, rate=RATE) as load:
        load.wait_for(10)
        yield load
        load.wait_for(20)
    load.assert_no_error()


def test_tag_that_moved_is_noticed_and_its_new_bytes_are_not_served(fleet: Fleet, team: Tenant) -> None:
    """Neither by the pod that serves, nor after a restart, nor by a pod that starts afterwards."""
    recorded = fleet.artifact("upstream-moved")
    with served_all_the_time(fleet, team):
        moved = fleet.move_tag(recorded)
        assert moved.digest != recorded.digest
        kill_container(fleet.api, pods(fleet.api, team.namespace)[0], "agent")
        team.apply("moved", recorded, scaling={"minReplicas": 2})
        all_ready(fleet.api, team.namespace, 2)

        def told() -> Object:
            found = condition(team.get("moved"), "VersionMoved")
            assert found, "no condition VersionMoved"
            assert found["status"] == "True"
            assert moved.digest in found["message"]
            assert recorded.digest in found["message"]
            return found

        eventually(told, what="the moved tag is told", describe=lambda: tell(fleet.api, team.namespace))
        (task,) = ready(fleet.api, team.namespace, "moved")
        assert task["status"]["stable"]["digest"] == recorded.digest
        notes = [event for event in fleet.api.list(EVENT, team.namespace) if event["reason"] == "NewBytesUpstream"]
        assert [event["type"] for event in notes] == ["Warning"]
    # The way out that the message names: a version of their own.
    team.apply("moved", fleet.artifact("upstream-moved", "v2"))
    (task,) = ready(fleet.api, team.namespace, "moved")
    assert condition(task, "VersionMoved") is None
    assert fleet.artifact("upstream-moved", "v2").mark in team.chat("moved").text
    all_ready(fleet.api, team.namespace, 1)


def test_artifact_that_disappeared_serves_on_over_restarts_of_the_containers(fleet: Fleet, team: Tenant) -> None:
    artifact = fleet.artifact("upstream-gone")
    fleet.unpush(artifact)
    for container in ("agent", "engine"):
        (pod,) = pods(fleet.api, team.namespace)
        kill_container(fleet.api, pod, container)
        all_ready(fleet.api, team.namespace, 1)
        eventually(lambda: is_true(team.get("gone"), "Ready"), what="the task is Ready", describe=lambda: tell(fleet.api, team.namespace))
        assert artifact.mark in team.chat("gone").text
