"""What keeps pods from being Ready, in words for whoever has to mend it."""

from dataclasses import replace
from typing import Any

import pytest

from taskfleet.api.conditions import Reason
from taskfleet.planning.conditions import Outlook, outlook_of
from taskfleet.planning.snapshot import ContainerView, PodView, Refusal
from tests.unit.planning.builders import (
    agent,
    deployment,
    pod,
)
from tests.unit.planning.one_pool import planned, reason_of, status_of, the_pool


def engine(**fields: Any) -> PodView:
    return pod(ready=False, containers=(ContainerView(name="engine", **fields),))


TROUBLES: list[tuple[dict[str, Any], str, str]] = [
    ({"refusal": Refusal(Reason.API_REFUSED, "Deployment is invalid: spec.template")}, "ApiRefused", "spec.template"),
    ({"deployment": deployment(refusal="exceeded quota: gpus"), "pods": ()}, "PodRefused", "exceeded quota"),
    (
        {"pods": (pod(ready=False, unschedulable="0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),)},
        "Unschedulable",
        "nvidia.com/gpu",
    ),
    ({"pods": (engine(waiting_reason="ImagePullBackOff", waiting_message="not found"),)}, "ImageUnavailable", "not found"),
    ({"pods": (engine(waiting_reason="InvalidImageName"),)}, "ImageUnavailable", "InvalidImageName"),
    ({"pods": (engine(waiting_reason="CreateContainerConfigError", waiting_message="no such key"),)}, "ContainerFailing", "no such key"),
    ({"pods": (engine(waiting_reason="CrashLoopBackOff", last_exit_code=1, restarts=4),)}, "EngineCrashing", "exit code 1"),
    ({"pods": (engine(restarts=2, last_run_seconds=20.0),)}, "EngineCrashing", "container engine"),
    (
        {"pods": (pod(ready=False, containers=(ContainerView(name="agent", waiting_reason="CrashLoopBackOff"),)),)},
        "ContainerFailing",
        "agent",
    ),
    (
        {"pods": (pod(ready=False, phase="Failed", reason="UnexpectedAdmissionError", message="no device"),)},
        "PodRefused",
        "UnexpectedAdmissionError",
    ),
]


class TestPodTrouble:
    @pytest.mark.parametrize(("fields", "reason", "words"), TROUBLES)
    def test_has_a_reason_and_words_and_stalls_the_pool(self, fields: dict[str, Any], reason: str, words: str) -> None:
        plan = planned(the_pool(), **{"deployment": deployment(ready=0)} | fields)
        ready = next(condition for condition in status_of(plan).conditions if condition.type == "Ready")
        assert (ready.reason, outlook_of(status_of(plan).conditions)) == (reason, Outlook.STALLED)
        assert words in ready.message
        assert [event.type for event in plan.events] == ["Warning"]

    def test_base_that_cannot_be_staged_is_shown_before_the_engine_that_waits_for_it(self) -> None:
        agents = (agent(the_pool(), "pod-a", staged=False, reason="SourceUnavailable", message="registry answers 503"),)
        plan = planned(the_pool(), pods=(pod(ready=False),), agents=agents, deployment=deployment(ready=0))
        assert (reason_of(plan), outlook_of(status_of(plan).conditions)) == ("SourceUnavailable", Outlook.RECONCILING)

    def test_words_about_an_image_are_the_same_with_and_without_the_kubelets_backoff(self) -> None:
        why = 'failed to pull and unpack image "x": not found'
        messages = [(why, "ErrImagePull"), (f'Back-off pulling image "x": ErrImagePull: {why}', "ImagePullBackOff")]
        statuses = [
            status_of(planned(the_pool(), pods=(engine(waiting_reason=reason, waiting_message=message),))) for message, reason in messages
        ]
        assert statuses[0] == statuses[1]

    def test_crash_after_a_long_run_is_no_trouble_yet(self) -> None:
        pods = (engine(restarts=5, last_exit_code=137, last_run_seconds=86_400.0),)
        assert reason_of(planned(the_pool(), pods=pods, deployment=deployment(ready=0))) == "Starting"

    def test_one_restart_is_no_trouble(self) -> None:
        plan = planned(the_pool(), pods=(engine(restarts=1),), deployment=deployment(ready=0))
        assert reason_of(plan) == "Starting"

    def test_bad_new_pod_leaves_the_pool_available(self) -> None:
        new = replace(engine(waiting_reason="ErrImagePull", waiting_message="no such image"), name="pod-b")
        half = replace(deployment(), current_replicas=2, updated_replicas=1)
        plan = planned(the_pool(), pods=(pod("pod-a"), new), deployment=half)
        available = next(condition for condition in status_of(plan).conditions if condition.type == "Available")
        assert available.status == "True"
        assert "no such image" in available.message
        assert reason_of(plan) == "ImageUnavailable"

    def test_pod_that_goes_away_is_no_trouble(self) -> None:
        leaving = replace(engine(waiting_reason="CrashLoopBackOff"), name="pod-b", deleting=True)
        assert reason_of(planned(the_pool(), pods=(pod(), leaving))) == "Serving"

    def test_growing_pool_is_progressing(self) -> None:
        grown = the_pool(replicas=2)
        assert reason_of(planned(grown, deployment=deployment(2, ready=1), pods=(pod(), pod("pod-b", ready=False)))) == "Progressing"

    def test_old_failed_pod_says_nothing_while_the_pool_is_whole(self) -> None:
        evicted = pod("pod-0", ready=False, phase="Failed", reason="Evicted")
        assert reason_of(planned(the_pool(), pods=(evicted, pod()))) == "Serving"
