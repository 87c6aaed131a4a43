"""Views of Kubernetes JSON: what decisions need of pods and Deployments."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from taskfleet import names
from taskfleet.planning.claims import volume_of
from taskfleet.planning.snapshot import ContainerView, DeploymentView, PodView
from taskfleet.resources.metadata import Json

_NUMBER = re.compile(r"-[0-9]{1,10}|0|[1-9][0-9]{0,9}")


def pod_view(body: Json) -> PodView:
    """A Pod, as the API server gives it."""
    metadata, status = body["metadata"], body.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    # SchedulingGated is no failure of the scheduler: somebody holds the pod back, and says so.
    waits = scheduled.get("status") == "False" and scheduled.get("reason") in {"Unschedulable", "SchedulingGated"}
    return PodView(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        ip=status.get("podIP", ""),
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        deleting="deletionTimestamp" in metadata,
        unschedulable=scheduled.get("message") or scheduled["reason"] if waits else None,
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        containers=tuple(_containers([*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())])),
        scheduled_at=_since(scheduled),
        ready_at=_since(conditions.get("Ready", {})),
        claims=frozenset(_claims(body.get("spec", {}))),
        created_at=datetime.fromisoformat(created) if (created := metadata.get("creationTimestamp")) else None,
        deletion_cost=_deletion_cost(metadata),
    )


def deployment_view(body: Json) -> DeploymentView:
    """A Deployment, as the API server gives it."""
    status = body.get("status", {})
    failure = next(
        (found for found in status.get("conditions", ()) if found["type"] == "ReplicaFailure" and found["status"] == "True"), None
    )
    return DeploymentView(
        generation=body["metadata"].get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        replicas=body.get("spec", {}).get("replicas", 1),
        current_replicas=status.get("replicas", 0),
        updated_replicas=status.get("updatedReplicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        refusal=failure.get("message") or failure.get("reason", "unknown") if failure is not None else None,
    )


def _since(condition: Json) -> datetime | None:
    """When the condition came true; None where it is not."""
    moment = condition.get("lastTransitionTime")
    return datetime.fromisoformat(moment) if moment and condition.get("status") == "True" else None


def _deletion_cost(metadata: Json) -> int:
    """Kubernetes takes what is no 32-bit number for 0."""
    text = (metadata.get("annotations") or {}).get(names.ANNOTATION_DELETION_COST, "")
    return cost if _NUMBER.fullmatch(text) and -(2**31) <= (cost := int(text)) < 2**31 else 0


def _claims(spec: Json) -> Iterator[str]:
    """The claims of artifacts; engines may have others of their own."""
    for volume in spec.get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim is not None and volume["name"] == volume_of(claim):
            yield claim


def _containers(statuses: Iterable[Json]) -> Iterable[ContainerView]:
    for status in statuses:
        waiting = status.get("state", {}).get("waiting", {})
        run = _last_run(status)
        yield ContainerView(
            name=status["name"],
            # An init container that did its work is as ready as it gets.
            ready=status.get("ready", False) or status.get("state", {}).get("terminated", {}).get("exitCode") == 0,
            restarts=status.get("restartCount", 0),
            waiting_reason=waiting.get("reason", ""),
            waiting_message=waiting.get("message", ""),
            last_exit_code=run.get("exitCode"),
            last_run_seconds=_seconds(run),
            started_at=datetime.fromisoformat(started)
            if (started := status.get("state", {}).get("running", {}).get("startedAt"))
            else None,
        )


def _last_run(status: Json) -> Json:
    for state in (status.get("state", {}), status.get("lastState", {})):
        if "terminated" in state:
            return dict(state["terminated"])
    return {}


def _seconds(run: Json) -> float | None:
    if not run.get("startedAt") or not run.get("finishedAt"):
        return None
    return (datetime.fromisoformat(run["finishedAt"]) - datetime.fromisoformat(run["startedAt"])).total_seconds()
