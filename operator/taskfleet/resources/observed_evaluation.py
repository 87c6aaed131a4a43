"""What is seen of an evaluation: its Job's conditions, and what the container of its pod left as its last words."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import ValidationError

from taskfleet import names
from taskfleet.api.evaluation import EvaluationReport
from taskfleet.planning.snapshot import EvaluationView, PodView
from taskfleet.resources.metadata import Json
from taskfleet.resources.observed import pod_view

_ENDED = frozenset({"Succeeded", "Failed"})


def evaluation_view(job: Json, pods: Iterable[Json]) -> EvaluationView | None:
    """A Job, with those of `pods` that are its own. None where it lacks what the operator wrote on it.

    It has ended when its pod has, whatever the Job says already; where there is no pod any more, when the Job says so.
    """
    metadata = job["metadata"]
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    attempt = str(annotations.get(names.ANNOTATION_ATTEMPT, ""))
    if not attempt.isascii() or not attempt.isdigit() or names.LABEL_EVALUATION not in labels:
        return None
    own = [pod for pod in pods if _is_of(pod, metadata["uid"])]
    ended = [pod for pod in own if pod.get("status", {}).get("phase") in _ENDED]
    open_pods = [pod for pod in own if pod not in ended and "deletionTimestamp" not in pod["metadata"]]
    condition = _final_condition(job)
    finished = bool(ended) or (condition is not None and not open_pods)
    report, message, finished_at = _outcome(ended, condition) if finished else (None, _what_keeps_it(metadata["name"], open_pods), None)
    return EvaluationView(
        job=metadata["name"],
        revision=labels[names.LABEL_EVALUATION],
        compared_with=annotations.get(names.ANNOTATION_COMPARED_WITH),
        attempt=int(attempt),
        fingerprint=annotations.get(names.ANNOTATION_FINGERPRINT, ""),
        finished=finished,
        report=report,
        message=message,
        finished_at=finished_at,
    )


def _is_of(pod: Json, job_uid: str) -> bool:
    return any(owner.get("controller") and owner.get("uid") == job_uid for owner in pod["metadata"].get("ownerReferences") or ())


def _final_condition(job: Json) -> Json | None:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] in {"Complete", "Failed"} and one["status"] == "True"), None)


def _outcome(ended: list[Json], condition: Json | None) -> tuple[EvaluationReport | None, str, datetime | None]:
    """The report, or why there is none, and when it ended."""
    for pod in ended:
        for end in _ends(pod):
            report, message = _read(end)
            at = end.get("finishedAt")
            if report is not None or message:
                return report, message, datetime.fromisoformat(at) if at else _when(condition)
    told = [pod["status"].get("message") or pod["status"].get("reason") for pod in ended]
    message = next((text for text in told if text), "") or ((condition or {}).get("message") or "")
    return None, f"the Job ended without a report: {message}" if message else "the Job ended without a report", _when(condition)


def _ends(pod: Json) -> Iterator[Json]:
    for status in pod["status"].get("containerStatuses") or ():
        if "terminated" in (status.get("state") or {}):
            yield status["state"]["terminated"]


def _read(end: Json) -> tuple[EvaluationReport | None, str]:
    """The termination message as a report; without one, why."""
    text = end.get("message") or ""
    if text.startswith("{"):
        try:
            return EvaluationReport.model_validate_json(text), ""
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            return None, f"the report can't be read: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if text:
        return None, f"the evaluator ended with: {text[:512]}"
    code, reason = end.get("exitCode", 0), end.get("reason", "")
    return None, f"the evaluator ended without a report ({reason}, exit code {code})" if code else ""


def _when(condition: Json | None) -> datetime | None:
    at = (condition or {}).get("lastTransitionTime")
    return datetime.fromisoformat(at) if at else None


def _what_keeps_it(job: str, open_pods: list[Json]) -> str:
    """Why it does not run; empty while it does."""
    if not open_pods:
        # A Job says in events only, which the operator does not read, that a quota or a policy refuses its pod.
        return f"waits for its pod to be made; if that lasts, `kubectl describe job {job}` says why: a quota, an admission policy"
    return next((why for pod in open_pods if (why := _waits_for(pod_view(pod)))), "")


def _waits_for(pod: PodView) -> str:
    if pod.unschedulable is not None:
        return f"no node can take its pod: {pod.unschedulable}"
    for container in pod.containers:
        if container.waiting_reason not in {"", "ContainerCreating", "PodInitializing"}:
            return f"its container does not start: {container.waiting_reason}: {container.waiting_message}".removesuffix(": ")
    return ""
