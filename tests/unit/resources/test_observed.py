"""Views of pods and Deployments, from JSON as API servers write it."""

from typing import Any

import pytest

from taskfleet.planning.claims import volume_of
from taskfleet.resources.observed import deployment_view, pod_view

RUNNING: dict[str, Any] = {
    "metadata": {"name": "pod-a", "uid": "u1", "labels": {}},
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.7",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "initContainerStatuses": [
            {"name": "agent", "ready": True, "restartCount": 0, "state": {"running": {}}},
            {"name": "base", "ready": True, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
        ],
        "containerStatuses": [
            {
                "name": "engine",
                "ready": True,
                "restartCount": 2,
                "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 137, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:30Z"}},
            }
        ],
    },
}


def test_claims_of_artifacts_are_told_from_those_of_engines() -> None:
    volumes = [
        {"name": volume_of("models"), "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "kernels", "persistentVolumeClaim": {"claimName": "kernels"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert pod_view({**RUNNING, "spec": {"volumes": volumes}}).claims == {"models"}
    assert pod_view(RUNNING).claims == frozenset()


def test_running_pod_serves() -> None:
    view = pod_view(RUNNING)
    assert (view.name, view.uid, view.ip, view.phase) == ("pod-a", "u1", "10.0.0.7", "Running")
    assert view.serving
    assert view.reachable
    assert [(one.name, one.ready, one.restarts, one.last_exit_code, one.last_run_seconds) for one in view.containers] == [
        ("agent", True, 0, None, None),
        ("base", True, 0, 0, None),
        ("engine", True, 2, 137, 90.0),
    ]


def test_pod_that_goes_serves_nobody() -> None:
    view = pod_view({**RUNNING, "metadata": {**RUNNING["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert not view.serving
    assert not view.reachable


@pytest.mark.parametrize(("reason", "message"), [("Unschedulable", "0/1 nodes are available"), ("SchedulingGated", "")])
def test_pod_without_a_node_says_why(reason: str, message: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    view = pod_view({"metadata": {"name": "pod-a"}, "status": {"phase": "Pending", "conditions": [condition]}})
    assert view.unschedulable == (message or reason)
    assert not view.reachable


def test_container_that_waits_says_for_what() -> None:
    waiting = {
        "name": "engine",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
    }
    (container,) = pod_view({"metadata": {"name": "pod-a"}, "status": {"containerStatuses": [waiting]}}).containers
    assert (container.waiting_reason, container.waiting_message) == ("ErrImagePull", "not found")


def test_pod_that_nobody_has_seen_yet_is_pending() -> None:
    view = pod_view({"metadata": {"name": "pod-a"}})
    assert (view.phase, view.ready, view.unschedulable, view.containers) == ("Pending", False, None, ())


DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "pool", "generation": 3},
    "spec": {"replicas": 2},
    "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
}


def test_deployment_is_rolled_out_when_all_pods_are_new_and_ready() -> None:
    assert deployment_view(DEPLOYMENT).rolled_out


@pytest.mark.parametrize("change", [{"observedGeneration": 2}, {"replicas": 3}, {"updatedReplicas": 1}, {"readyReplicas": 1}])
def test_deployment_is_not_rolled_out_before(change: dict[str, int]) -> None:
    assert not deployment_view({**DEPLOYMENT, "status": {**DEPLOYMENT["status"], **change}}).rolled_out


def test_refused_pods_are_seen_in_the_words_of_the_api_server() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    assert deployment_view({**DEPLOYMENT, "status": {"conditions": [failure]}}).refusal == "exceeded quota"
    assert deployment_view(DEPLOYMENT).refusal is None


def test_new_deployment_has_no_status() -> None:
    view = deployment_view({"metadata": {"name": "pool"}, "spec": {}})
    assert (view.replicas, view.ready_replicas, view.rolled_out) == (1, 0, False)


def test_moments_of_a_start_are_told() -> None:
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:40Z"},
    ]
    engine = {"name": "engine", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:08Z"}}}
    view = pod_view({"metadata": {"name": "pod-a"}, "status": {"conditions": conditions, "containerStatuses": [engine]}})
    moments = (view.scheduled_at, view.containers[0].started_at, view.ready_at)
    assert [moment.second for moment in moments if moment is not None] == [1, 8, 40]


def test_a_condition_that_is_not_true_has_no_moment() -> None:
    conditions = [{"type": kind, "status": "False", "lastTransitionTime": "2026-01-01T00:00:01Z"} for kind in ("PodScheduled", "Ready")]
    view = pod_view({"metadata": {"name": "pod-a"}, "status": {"conditions": conditions}})
    assert (view.scheduled_at, view.ready_at) == (None, None)
