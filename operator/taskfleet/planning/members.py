"""How far each member of a pool is, by what the pool's agents report.

A revision is proven when every Ready pod has proven it, and there is one. A pod whose agent has not been heard since the operator started, or since the pool's last document was
handed out, says nothing in favour: what was said before stays, so that neither a restart of the operator nor a neighbour that joins changes a status. A revision that left the
pool and came back is proven anew. While a pool sleeps, and until the first pod of its next life is Ready, what was proven stays proven: its requests wait for that pod.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from taskfleet.api.agent import AdapterPhase, AdapterReport, AgentState
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import Member, MemberState, MemberStatus
from taskfleet.api.revision import TaskModelRevision
from taskfleet.planning.claims import claim_of
from taskfleet.planning.conditions import known, shortened
from taskfleet.planning.desired import engine_name_of
from taskfleet.planning.rollout.slots import in_words
from taskfleet.planning.scaling.sleep import is_asleep, is_waking
from taskfleet.planning.snapshot import PoolSnapshot

_MAX_MESSAGE = 1024
# The same words for all steps in all pods: a step that goes well within milliseconds is worth no write of three objects.
_ON_ITS_WAY = "being fetched, verified, loaded and proven"


def member_statuses(snapshot: PoolSnapshot) -> list[MemberStatus]:
    """One status for each member, in the order of the spec."""
    before = {status.revision: status for status in snapshot.pool.status.members}
    heard = {agent.pod: agent.state for agent in snapshot.agents if agent.state is not None and agent.state.pool_uid == _uid(snapshot)}
    revisions = {revision.metadata.name: revision for revision in snapshot.revisions}
    found = []
    for member in snapshot.pool.spec.members:
        told, revision = before.get(member.revision), revisions.get(member.revision)
        digest = _upstream_digest(snapshot, member, revision, told, heard)
        found.append(_status(snapshot, member, revision, told, heard).model_copy(update={"upstream_digest": digest}))
    return found


def _status(
    snapshot: PoolSnapshot,
    member: Member,
    revision: TaskModelRevision | None,
    before: MemberStatus | None,
    heard: Mapping[str, AgentState],
) -> MemberStatus:
    name = engine_name_of(snapshot.pool, member)
    if name is None:
        return _unresolved(snapshot, member, revision)
    if member.adapter is None:
        return _base_member(snapshot, member, before, heard)
    living = {pod.name for pod in snapshot.pods if not pod.deleting}
    reports = {pod: _report(state, name) for pod, state in sorted(heard.items()) if pod in living}
    failed = next(((pod, report) for pod, report in reports.items() if report is not None and report.phase is AdapterPhase.FAILED), None)
    if failed is not None:
        pod, report = failed
        return _said(member, MemberState.FAILED, known(report.reason, Reason.ENGINE_REJECTED), f"pod {pod}: {report.message}")
    serving = sorted(pod.name for pod in snapshot.pods if pod.serving)
    level = {pod for pod, state in heard.items() if state.generation >= snapshot.pool.metadata.generation}
    return _by_ready_pods(member, before, serving, reports, level) if serving else _nowhere(snapshot, member, reports, before)


def _upstream_digest(
    snapshot: PoolSnapshot,
    member: Member,
    revision: TaskModelRevision | None,
    before: MemberStatus | None,
    heard: Mapping[str, AgentState],
) -> str | None:
    """What one agent at least was told by the source. Whoever pinned the digest has said that the version doesn't matter."""
    name = engine_name_of(snapshot.pool, member)
    if name is None or member.adapter is None or (revision is not None and revision.spec.adapter and revision.spec.adapter.digest):
        return None
    if not heard:
        return before.upstream_digest if before is not None else None
    reports = (_report(state, name) for _, state in sorted(heard.items()))
    return next((report.upstream_digest for report in reports if report is not None and report.upstream_digest), None)


def _by_ready_pods(
    member: Member,
    before: MemberStatus | None,
    serving: Sequence[str],
    reports: Mapping[str, AdapterReport | None],
    level: AbstractSet[str],
) -> MemberStatus:
    """`level`: the pods whose agents have the pool's present document."""
    for pod in serving:
        if pod in reports and not _proven(reports[pod]):
            return _pending(member, pod, reports[pod])
    silent = next((pod for pod in serving if pod not in reports or pod not in level), None)
    if silent is None:
        return _said(member, MemberState.PROVEN, Reason.PROVEN, "proven on every Ready pod")
    what = "accepted the pool's present document" if silent in reports else "been heard"
    return before or _said(member, MemberState.PENDING, Reason.LOADING, f"the agent of pod {silent} has not {what} yet")


def _base_member(snapshot: PoolSnapshot, member: Member, before: MemberStatus | None, heard: Mapping[str, AgentState]) -> MemberStatus:
    """A task without adapter: a Ready pod has staged the base and its engine is healthy; it serves the base once it has a document that says so."""
    serving = sorted(pod.name for pod in snapshot.pods if pod.serving)
    if before is not None and before.state is MemberState.PROVEN and (serving or _slept(snapshot)):
        return before
    if not serving:
        return _said(member, MemberState.PENDING, Reason.NO_READY_PODS, "no pod is Ready")
    for pod in serving:
        state = heard.get(pod)
        if state is None or state.generation < snapshot.pool.metadata.generation:
            return _said(member, MemberState.PENDING, Reason.LOADING, f"the agent of pod {pod} has not accepted the base as served yet")
    return _said(member, MemberState.PROVEN, Reason.PROVEN, "proven on every Ready pod")


def _unresolved(snapshot: PoolSnapshot, member: Member, revision: TaskModelRevision | None) -> MemberStatus:
    if revision is not None and revision.status.digest is not None:
        before = member.waits_behind
        message = in_words(snapshot.pool.metadata.name, before) if before is not None else _ON_ITS_WAY
        return _said(member, MemberState.PENDING, Reason.LOADING, message)
    failure = next((failure for failure in snapshot.failures if failure.revision == member.revision), None)
    if failure is None:
        claim = claim_of(member.adapter.source) if member.adapter is not None else None
        mounted = claim is None or any(claim in pod.claims for pod in snapshot.pods)
        message = "the digest of the version is being looked up" if mounted else f"no pod mounts PersistentVolumeClaim {claim} yet"
        return _said(member, MemberState.PENDING, Reason.RESOLVING, message)
    state = MemberState.FAILED if failure.permanent else MemberState.PENDING
    return _said(member, state, known(failure.reason, Reason.SOURCE_UNAVAILABLE), failure.message)


def _nowhere(
    snapshot: PoolSnapshot, member: Member, reports: Mapping[str, AdapterReport | None], before: MemberStatus | None
) -> MemberStatus:
    """No pod is Ready. An adapter that can't be fetched says more than that; one that is on its way only where nothing was proven before the pool slept."""
    said = {
        pod: report for pod, report in reports.items() if report is not None and report.phase is AdapterPhase.STAGING and report.message
    }
    stuck = next(((pod, report) for pod, report in said.items() if report.reason != Reason.LOADING), None)
    if stuck is not None:
        return _pending(member, *stuck)
    if before is not None and (before.state is MemberState.FAILED or (before.state is MemberState.PROVEN and _slept(snapshot))):
        return before
    for pod, report in said.items():
        return _pending(member, pod, report)
    return _said(member, MemberState.PENDING, Reason.NO_READY_PODS, "no pod is Ready")


def _slept(snapshot: PoolSnapshot) -> bool:
    return is_asleep(snapshot.pool) or is_waking(snapshot.pool)


def _pending(member: Member, pod: str, report: AdapterReport | None) -> MemberStatus:
    if report is None or not report.message:
        return _said(member, MemberState.PENDING, Reason.LOADING, _ON_ITS_WAY)
    reason = known(report.reason, Reason.LOADING)
    reason = Reason.LOADING if reason is Reason.PROVEN else reason
    return _said(member, MemberState.PENDING, reason, f"pod {pod}: {report.message}")


def _said(member: Member, state: MemberState, reason: Reason, message: str) -> MemberStatus:
    return MemberStatus(revision=member.revision, state=state, reason=reason.value, message=shortened(message, _MAX_MESSAGE))


def _report(state: AgentState, engine_name: str) -> AdapterReport | None:
    return next((report for report in state.adapters if report.engine_name == engine_name), None)


def _proven(report: AdapterReport | None) -> bool:
    return report is not None and report.phase is AdapterPhase.PROVEN


def _uid(snapshot: PoolSnapshot) -> str:
    return snapshot.pool.metadata.uid
