"""What the status of each TaskModelRevision says: its digest, its place in the life of its task, and whether it can be served."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.revision import TaskModelRevision, TaskModelRevisionStatus
from taskfleet.api.taskmodel import TrafficTarget
from taskfleet.planning.conditions import Finding, Outlook, Summary, known, merged, summary_of
from taskfleet.planning.placement import Placement
from taskfleet.planning.revisions import Phase


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
    traffic: Iterable[TrafficTarget],
    now: datetime,
) -> dict[str, TaskModelRevisionStatus]:
    """The statuses by name; equal to the present ones where nothing changed."""
    routed = {route.revision for route in traffic}
    result = {}
    for name, revision in living.items():
        own = [place for place in places if place.revision.metadata.name == name]
        # While a task moves, its revision is on two pools; the one that is not ready yet is what people wait for.
        place = next((place for place in own if not place.proven), own[0] if own else None)
        phase = _phase(revision, place, is_target=name == target, is_routed=name in routed)
        findings = _findings(revision, place, phase=phase, is_target=name == target)
        generation = revision.metadata.generation
        result[name] = TaskModelRevisionStatus(
            observed_generation=generation,
            conditions=merged(revision.status.conditions, findings, generation=generation, now=now),
            digest=revision.status.digest or _digest_of_member(own),
            resolved_version=revision.status.resolved_version or next((found.member.resolved_version for found in own), None),
            phase=phase.value,
        )
    return result


def _phase(revision: TaskModelRevision, place: Placement | None, *, is_target: bool, is_routed: bool) -> Phase:
    before = Phase(revision.status.phase) if revision.status.phase in set(Phase) else Phase.PENDING
    if is_routed:
        return Phase.STABLE
    if is_target and place is not None and place.failed:
        return Phase.FAILED
    if before is Phase.STABLE:
        return Phase.SUPERSEDED
    if before is Phase.FAILED and is_target and place is not None:
        return Phase.PENDING  # it is tried again
    return before


def _findings(revision: TaskModelRevision, place: Placement | None, *, phase: Phase, is_target: bool) -> tuple[Finding, ...]:
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
