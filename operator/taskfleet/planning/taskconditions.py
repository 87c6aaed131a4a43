"""The conditions of a TaskModel, and the summary: a chain of named checks over one record, of which the first that objects says why the task is not Ready."""

from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.api.conditions import STALLING, ConditionType, Reason
from taskfleet.api.taskmodel import TaskModel
from taskfleet.planning.admission import Admission
from taskfleet.planning.conditions import Finding, Outlook, Summary, known, summary_of
from taskfleet.planning.placement import Placement
from taskfleet.planning.revisionstatus import adapter_finding
from taskfleet.planning.rollout.phase import RolloutPhase
from taskfleet.planning.rollout.situation import Rejection, Step
from taskfleet.planning.scaling.sleep import OUT_OF_SLEEP
from taskfleet.planning.servingclass import without_effect
from taskfleet.planning.snapshot import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a task stands, after the step that was just decided.

    `target` is the place of the revision that all traffic is to end at (None: it has none), `serving` the place of the stable revision (None: no traffic, or its pool is gone).
    `is_target_served` says that all traffic is the target's on the right pool. `rejection` says why the spec's revision is not the target.
    """

    task: TaskModel
    admission: Admission
    step: Step
    target: Placement | None
    serving: Placement | None
    is_target_served: bool
    refusal: Refusal | None
    rejection: Rejection | None = None

    @property
    def subject(self) -> Placement | None:
        """Whom AdapterReady and Assigned are about."""
        return self.target or self.serving

    @property
    def revision_served(self) -> str | None:
        return self.step.traffic[0].revision if self.step.traffic else None


def findings(standing: Standing) -> tuple[Finding, ...]:
    """All conditions of the task."""
    return (
        _accepted(standing),
        _assigned(standing),
        _adapter_ready(standing),
        available(standing),
        _rollout_healthy(standing),
        *summary(standing).findings,
        *version_moved(standing),
        *without_effect(fields_without_effect(standing.task)),
    )


def fields_without_effect(task: TaskModel) -> list[str]:
    """Fields of the spec that are set and that this version does not act on."""
    spec = task.spec
    given = {"spec.savings": spec.savings}
    return [field for field, value in given.items() if value is not None]


def _accepted(standing: Standing) -> Finding:
    violation = standing.admission.violation
    if violation is not None:
        return Finding(ConditionType.ACCEPTED, False, violation.reason, violation.message)
    return Finding(ConditionType.ACCEPTED, True, Reason.VALID, f"the spec is valid; the ServingClass is {standing.admission.class_name}")


def _assigned(standing: Standing) -> Finding:
    if standing.subject is not None:
        return Finding(ConditionType.ASSIGNED, True, Reason.MEMBER_OF_POOL, f"member of pool {standing.subject.pool.metadata.name}")
    reason, message = _without_place(standing)
    return Finding(ConditionType.ASSIGNED, False, reason, message)


def _adapter_ready(standing: Standing) -> Finding:
    if standing.subject is not None:
        return adapter_finding(standing.subject)
    reason, message = _without_place(standing)
    return Finding(ConditionType.ADAPTER_READY, False, reason, message)


def _without_place(standing: Standing) -> tuple[Reason, str]:
    if standing.admission.violation is not None:
        return standing.admission.violation.reason, standing.admission.violation.message
    if standing.task.spec.suspend:
        return Reason.SUSPENDED, "spec.suspend is true, and the task was never assigned to a pool"
    if standing.rejection is not None:
        return standing.rejection.reason, standing.rejection.message
    return Reason.WAITING_FOR_POOL, "not assigned to a pool yet"


def available(standing: Standing) -> Finding:
    """Can it answer now, or as soon as its pool is awake?"""
    place = standing.serving
    if place is None:
        return _unavailable(standing)
    pool = place.pool
    ready = pool.status.ready_replicas
    condition = place.pool_available
    if ready == 0 and place.proven and condition is not None and condition.status == "True" and condition.reason in OUT_OF_SLEEP:
        message = f"{standing.revision_served} is on pool {pool.metadata.name}: {condition.message}"
        return Finding(ConditionType.AVAILABLE, True, Reason(condition.reason), message)
    if ready == 0 or condition is None or condition.status != "True":
        if condition is not None and condition.status != "True":
            return Finding(ConditionType.AVAILABLE, False, known(condition.reason, Reason.NO_READY_PODS), condition.message)
        return Finding(ConditionType.AVAILABLE, False, Reason.NO_READY_PODS, f"no pod of pool {pool.metadata.name} is Ready")
    if not place.proven and ready == 1:
        adapter = adapter_finding(place)
        return Finding(ConditionType.AVAILABLE, False, adapter.reason, adapter.message)
    # With several Ready pods one that lost the adapter sends requests on to the others.
    return Finding(ConditionType.AVAILABLE, True, Reason.SERVING, f"{standing.revision_served} answers; {condition.message}")


def _unavailable(standing: Standing) -> Finding:
    if standing.step.traffic:
        route = standing.step.traffic[0]
        return Finding(ConditionType.AVAILABLE, False, Reason.NO_READY_PODS, f"{route.revision} is not on pool {route.pool} any more")
    if standing.target is None:
        reason, message = _without_place(standing)
        return Finding(ConditionType.AVAILABLE, False, reason, message)
    pool = standing.target.pool_available
    if pool is not None and pool.status != "True":
        return Finding(ConditionType.AVAILABLE, False, known(pool.reason, Reason.STARTING), pool.message)
    adapter = adapter_finding(standing.target)
    if adapter.status:
        before_traffic = standing.step.phase is RolloutPhase.EVALUATING
        message = standing.step.message if before_traffic else "proven; its traffic is about to be written"
        return Finding(ConditionType.AVAILABLE, False, Reason.PROGRESSING, message)
    return Finding(ConditionType.AVAILABLE, False, adapter.reason, adapter.message)


def _rollout_healthy(standing: Standing) -> Finding:
    kind = ConditionType.ROLLOUT_HEALTHY
    served = standing.revision_served
    if standing.rejection is not None:
        return Finding(kind, False, standing.rejection.reason, _with_who_goes_on(standing, standing.rejection.message))
    if standing.is_target_served or (standing.target is None and served is not None):
        return Finding(kind, True, Reason.UP_TO_DATE, f"{served} has the traffic")
    if standing.target is None:
        reason, message = _without_place(standing)
        return Finding(kind, None, reason, message)
    return _candidate_healthy(standing, standing.target)


def _candidate_healthy(standing: Standing, target: Placement) -> Finding:
    kind, name = ConditionType.ROLLOUT_HEALTHY, target.revision.metadata.name
    adapter, served = adapter_finding(target), standing.revision_served
    goes_on = f"; {served} goes on" if served is not None else ""
    if target.failed:
        return Finding(kind, False, Reason.CANDIDATE_FAILED, f"{name} can't be served: {adapter.message}{goes_on}")
    if not adapter.status and adapter.reason in STALLING:
        return Finding(kind, False, adapter.reason, f"{name} can't be served yet: {adapter.message}{goes_on}")
    if standing.step.hold is not None and standing.step.hold in STALLING:
        return Finding(kind, False, standing.step.hold, f"{standing.step.message}{goes_on}")
    return Finding(kind, True, Reason.ROLLING, f"{name} is on its way{goes_on}")


def _with_who_goes_on(standing: Standing, message: str) -> str:
    served = standing.revision_served
    return f"{message}; {served} goes on serving" if served is not None else f"{message}; nothing serves"


def version_moved(standing: Standing) -> tuple[Finding, ...]:
    """Nothing is wrong with what serves; whoever moved the version believes that something else does."""
    for place in (standing.target, standing.serving):
        if place is None or place.status is None or place.status.upstream_digest is None or place.member.adapter is None:
            continue
        adapter = place.member.adapter
        message = (
            f"{adapter.source} version {adapter.version} is {place.status.upstream_digest} now; {adapter.digest} was recorded for it and is what serves; "
            "give the new bytes a version of their own"
        )
        return (Finding(ConditionType.VERSION_MOVED, True, Reason.NEW_BYTES_UPSTREAM, message),)
    return ()


Check = Callable[[Standing], Summary | None]


def write_was_refused(standing: Standing) -> Summary | None:
    return summary_of(standing.refusal.reason, standing.refusal.message) if standing.refusal is not None else None


def spec_is_refused(standing: Standing) -> Summary | None:
    violation = standing.admission.violation
    if violation is None:
        return None
    served = standing.revision_served
    goes_on = f"; {served} goes on serving" if served is not None else ""
    return summary_of(violation.reason, f"{violation.message}{goes_on}")


def change_is_suspended(standing: Standing) -> Summary | None:
    if not standing.task.spec.suspend or standing.is_target_served:
        return None
    served = standing.revision_served
    goes_on = f"{served} goes on serving" if served is not None else "nothing serves"
    return summary_of(Reason.SUSPENDED, f"spec.suspend is true and the spec's revision does not serve; {goes_on}")


def revision_failed(standing: Standing) -> Summary | None:
    if standing.target is None or standing.is_target_served or not standing.target.failed:
        return None
    adapter = adapter_finding(standing.target)
    name = standing.target.revision.metadata.name
    if standing.revision_served is None:
        return summary_of(adapter.reason, f"{name} can't be served: {adapter.message}")
    message = f"{name} can't be served: {adapter.reason.value}: {adapter.message}; {standing.revision_served} goes on serving"
    return summary_of(Reason.CANDIDATE_FAILED, message)


def revision_is_rejected(standing: Standing) -> Summary | None:
    if standing.rejection is None:
        return None
    return summary_of(standing.rejection.reason, _with_who_goes_on(standing, standing.rejection.message))


def has_no_place(standing: Standing) -> Summary | None:
    if standing.target is not None or standing.is_target_served:
        return None
    return summary_of(*_without_place(standing))


def pool_is_unavailable(standing: Standing) -> Summary | None:
    """Why the pods of the pool that is to serve don't run."""
    place = standing.serving if standing.is_target_served else standing.target
    condition = place.pool_available if place is not None else None
    if condition is None or condition.status == "True":
        return None
    return summary_of(known(condition.reason, Reason.NO_READY_PODS), condition.message)


def adapter_is_not_ready(standing: Standing) -> Summary | None:
    if standing.subject is None:
        return None
    adapter = adapter_finding(standing.subject)
    return None if adapter.status else summary_of(adapter.reason, f"{standing.subject.revision.metadata.name}: {adapter.message}")


def cannot_answer(standing: Standing) -> Summary | None:
    finding = available(standing)
    return None if finding.status else summary_of(finding.reason, finding.message)


def rollout_is_held(standing: Standing) -> Summary | None:
    hold = standing.step.hold
    return summary_of(hold, standing.step.message) if hold is not None and not standing.task.spec.suspend else None


def rollout_is_not_done(standing: Standing) -> Summary | None:
    if standing.step.phase in {RolloutPhase.DONE, RolloutPhase.REJECTED}:
        return None
    return Summary(Outlook.RECONCILING, Reason.PROGRESSING, standing.step.message or "the rollout goes on")


CHECKS: tuple[Check, ...] = (
    write_was_refused,  # the operator itself can't go on
    spec_is_refused,  # nothing of the spec is acted on
    change_is_suspended,  # somebody said so; the rest would be noise
    revision_is_rejected,  # until it is retried or the spec changes
    revision_failed,  # for good, until agents try again or the spec changes
    has_no_place,  # packing comes next
    pool_is_unavailable,  # the cause of whatever the adapter lacks
    rollout_is_held,  # by its gate, by its traffic or by a person; one that gave its slot away is not on its way
    adapter_is_not_ready,  # on its way, or waiting for its source
    cannot_answer,  # proven once, and not there now
    rollout_is_not_done,  # all is there, gateways follow
)


def summary(standing: Standing) -> Summary:
    """The first objection among `CHECKS`, or Ready."""
    for check in CHECKS:
        if objection := check(standing):
            return objection
    suspended = "; spec.suspend is true" if standing.task.spec.suspend else ""
    found = available(standing)
    message = f"{standing.revision_served} answers" if found.reason is Reason.SERVING else found.message
    return Summary(Outlook.READY, found.reason, f"{message}{suspended}")
