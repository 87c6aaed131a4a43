"""What the status of each TaskModelRevision says: its digest, its place in the life of its task, and whether it can be served."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.revision import Outcome, TaskModelRevision, TaskModelRevisionStatus, Verdict
from taskfleet.planning.conditions import Finding, Outlook, Summary, known, merged, shortened, summary_of, timestamp
from taskfleet.planning.placement import Placement
from taskfleet.planning.revisions import Phase
from taskfleet.planning.rollout.gate_policy import verdict_in_words
from taskfleet.planning.rollout.situation import Step

_MAX_MESSAGE = 1024


def with_digest(revision: TaskModelRevision, digest: str, *, version: str | None = None) -> TaskModelRevisionStatus:
    """The revision's status with the digest that its version was resolved to. Raises ValueError where another one is recorded: a digest is recorded once."""
    recorded = revision.status.digest
    if recorded is not None and recorded != digest:
        raise ValueError(f"{revision.metadata.key} has the digest {recorded}, not {digest}")
    return revision.status.model_copy(update={"digest": digest, "resolved_version": version})


def revision_statuses(
    living: Mapping[str, TaskModelRevision],
    places: Sequence[Placement],
    *,
    target: str | None,
    step: Step,
    now: datetime,
) -> dict[str, TaskModelRevisionStatus]:
    """The statuses by name; equal to the present ones where nothing changed.

    `target` is the revision of the spec, where anything is done for it. `step` is what was just decided.
    """
    serves = step.traffic[0].revision if step.traffic else None
    result = {}
    for name, revision in living.items():
        own = [place for place in places if place.revision.metadata.name == name]
        # While a task moves, its revision is on two pools; the one that is not ready yet is what people wait for.
        place = next((place for place in own if not place.proven), own[0] if own else None)
        phase = _phase(
            revision,
            place,
            step if step.revision == name else None,
            is_target=name == target,
            serves=name == serves,
        )
        changed = revision.model_copy(update={"status": _recorded(revision, step, phase, is_target=name == target, now=now)})
        findings = _findings(changed, place, phase=phase, is_target=name == target)
        generation = revision.metadata.generation
        result[name] = changed.status.model_copy(
            update={
                "observed_generation": generation,
                "conditions": merged(revision.status.conditions, findings, generation=generation, now=now),
                "digest": revision.status.digest or _digest_of_member(own),
                "resolved_version": revision.status.resolved_version or next((found.member.resolved_version for found in own), None),
                "phase": phase.value,
            }
        )
    return result


def _phase(revision: TaskModelRevision, place: Placement | None, step: Step | None, *, is_target: bool, serves: bool) -> Phase:
    """`step` where it is about this revision."""
    before = Phase(revision.status.phase) if revision.status.phase in set(Phase) else Phase.PENDING
    if step is not None and step.rejection is not None:
        return Phase.REJECTED
    if before is Phase.REJECTED:
        # Remembered, also while the spec asks for another one, until somebody retries it.
        return Phase.REJECTED if step is None or step.retried is None else Phase.PENDING
    if serves:
        return Phase.STABLE
    if is_target and place is not None and (place.failed or before is Phase.FAILED):
        return Phase.FAILED if place.failed else Phase.PENDING  # it is tried again
    return Phase.SUPERSEDED if before is Phase.STABLE else before


def _recorded(revision: TaskModelRevision, step: Step, phase: Phase, *, is_target: bool, now: datetime) -> TaskModelRevisionStatus:
    """The status with what the step has found out about the revision."""
    status, name = revision.status, revision.metadata.name
    update: dict[str, object] = {}
    if is_target and step.report is not None:
        update["evaluation"] = step.report
    if step.revision == name and step.retried is not None:
        return status.model_copy(update={"retried": step.retried, "verdict": None, "evaluation": None})
    if step.revision == name and step.rejection is not None:
        reason, message = step.rejection.reason.value, shortened(step.rejection.message, _MAX_MESSAGE)
        update["verdict"] = Verdict(outcome=Outcome.REJECTED, reason=reason, message=message, at=timestamp(now))
    elif phase is Phase.STABLE and status.phase != Phase.STABLE:
        report = step.report or status.evaluation
        words = f"; it {verdict_in_words(report)}" if report is not None and report.candidate is not None else ""
        update["promoted_at"] = timestamp(now)
        update["verdict"] = Verdict(
            outcome=Outcome.PROMOTED, reason=Reason.UP_TO_DATE.value, message=f"{name} got all traffic{words}", at=timestamp(now)
        )
    return status.model_copy(update=update)


def _findings(revision: TaskModelRevision, place: Placement | None, *, phase: Phase, is_target: bool) -> tuple[Finding, ...]:
    if phase is Phase.REJECTED and revision.status.verdict is not None:
        verdict = revision.status.verdict
        if place is None and not is_target:
            # Nobody has to act on what is no longer asked for.
            return Summary(Outlook.READY, Reason.UP_TO_DATE, shortened(f"not served; rejected: {verdict.message}", _MAX_MESSAGE)).findings
        return summary_of(known(verdict.reason, Reason.ABORTED), verdict.message).findings
    if place is None and not is_target and phase is not Phase.STABLE:
        message = "not served; kept to go back to" if phase is Phase.SUPERSEDED else "not served; no longer asked for"
        return Summary(Outlook.READY, Reason.UP_TO_DATE, message).findings
    if place is None:
        return summary_of(Reason.WAITING_FOR_POOL, f"{revision.metadata.name} has no pool yet").findings
    adapter = adapter_finding(place)
    if adapter.status:
        return (adapter, *Summary(Outlook.READY, Reason.PROVEN, adapter.message).findings)
    return (adapter, *summary_of(adapter.reason, adapter.message).findings)


def adapter_finding(place: Placement) -> Finding:
    """Is the revision proven on its pool?"""
    if place.proven:
        return Finding(ConditionType.ADAPTER_READY, True, Reason.PROVEN, "proven on every Ready pod")
    if place.status is None or not place.digest_agrees:
        unresolved = place.revision.spec.adapter is not None and place.revision.status.digest is None
        if place.status is None or place.status.state.value == "Proven":
            reason = Reason.RESOLVING if unresolved else Reason.LOADING
            return Finding(ConditionType.ADAPTER_READY, False, reason, "the pool has not said anything about it yet")
    message = place.status.message or f"the pool says {place.status.state.value}"
    return Finding(ConditionType.ADAPTER_READY, False, known(place.status.reason, Reason.LOADING), message)


def _digest_of_member(places: Iterable[Placement]) -> str | None:
    """A digest outlives a lost status in the pool's members; looked up afresh it might be another one."""
    return next((place.member.adapter.digest for place in places if place.member.adapter is not None and place.member.adapter.digest), None)
