"""Why a pool must not sleep though no request needs it: work on its revisions that only its pods can do."""

from collections.abc import Iterable

from taskfleet.api.agent import ArtifactKind
from taskfleet.api.modelpool import Member, MemberState, ModelPool, Role
from taskfleet.planning.snapshot import ResolutionFailure


def awake_because(pool: ModelPool, failures: Iterable[ResolutionFailure], *, frozen: frozenset[str]) -> str:
    """The reason as a clause, empty where there is none. `frozen`: tasks of which nothing is changed.

    What failed for good keeps nobody awake: it is tried again when somebody changes it, and the pods come for that.
    """
    permanent = [failure for failure in failures if failure.permanent]
    broken = {failure.revision for failure in permanent if failure.kind is ArtifactKind.ADAPTER}
    if pool.spec.base_digest is None and not any(failure.kind is ArtifactKind.BASE for failure in permanent):
        return "the digest of the base has to be looked up"
    failed = {status.revision for status in pool.status.members if status.state is MemberState.FAILED}
    working = [member for member in pool.spec.members if member.task_model not in frozen and member.revision not in failed | broken]
    reasons = (reason for member in working if (reason := _reason(member)) is not None)
    return next(reasons, "")


def _reason(member: Member) -> str | None:
    if member.adapter is not None and member.adapter.digest is None:
        return f"the digest of {member.revision} has to be looked up"
    if member.role is Role.CANDIDATE:
        return f"{member.revision} is being rolled out"
    return None
