"""Which digests are to be looked up, and by whom.

One designated agent of a pool resolves: the operator has no credentials, and two agents could see two truths. The base comes first, because no engine starts without it.
"""

from datetime import datetime

from taskfleet.api.agent import ArtifactKind, ResolveRequest
from taskfleet.api.conditions import Reason
from taskfleet.planning.claims import claim_of
from taskfleet.planning.plans import Resolution
from taskfleet.planning.snapshot import PoolSnapshot, ResolutionFailure

# At most so many at a time: an agent resolves beside its other work.
_BATCH = 8
_FIRST_RETRY_SECONDS = 5.0
# Also for what can't come right by itself: whoever pushes the missing version should not have to touch the TaskModel.
_LAST_RETRY_SECONDS = 300.0
# Nobody tells of a changed Secret; the kubelet takes up to a minute to bring it into the pod, and two minutes are promised.
_LAST_RETRY_OF_CREDENTIALS_SECONDS = 30.0


def designated(snapshot: PoolSnapshot, *, claim: str | None = None) -> str | None:
    """The pod whose agent resolves: the first by name of those that answer, and that mount the claim that the source is in."""
    heard = {agent.pod for agent in snapshot.agents if agent.state is not None and not agent.error}
    able = (pod for pod in snapshot.pods if pod.reachable and pod.name in heard and (claim is None or claim in pod.claims))
    return min((pod.name for pod in able), default=None)


def resolutions(snapshot: PoolSnapshot, *, now: datetime) -> tuple[tuple[Resolution, ...], float | None]:
    """What to ask now, and in how many seconds there will be more to ask (None: unknown, or nothing)."""
    failures = {failure.revision: failure for failure in snapshot.failures}
    due, waits = [], []
    for revision, request in _open(snapshot):
        pod = designated(snapshot, claim=claim_of(request.source))
        wait = _wait(failures.get(revision), now)
        if pod is None:
            continue  # the pods' next change brings this back
        if wait > 0:
            waits.append(wait)
        else:
            due.append(Resolution(pod=pod, revision=revision, request=request))
    return tuple(due[:_BATCH]), min(waits, default=None)


def retry_seconds(attempts: int, *, reason: str = "") -> float:
    """How long to wait after the `attempts`-th failure in a row, counted from 1."""
    last = _LAST_RETRY_OF_CREDENTIALS_SECONDS if reason == Reason.CREDENTIALS_MISSING else _LAST_RETRY_SECONDS
    return float(min(_FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 16), last))


def _wait(failure: ResolutionFailure | None, now: datetime) -> float:
    if failure is None:
        return 0.0
    return retry_seconds(failure.attempts, reason=failure.reason) - (now - failure.at).total_seconds()


def _open(snapshot: PoolSnapshot) -> list[tuple[str, ResolveRequest]]:
    spec = snapshot.pool.spec
    base = ResolveRequest(
        kind=ArtifactKind.BASE, source=spec.base.source, version=spec.base.revision, credentials_key=spec.base.credentials_key
    )
    requests = [("", base)] if spec.base_digest is None else []
    revisions = {revision.metadata.name: revision for revision in snapshot.revisions}
    for member in spec.members:
        revision = revisions.get(member.revision)
        if member.adapter is None or member.adapter.digest is not None or revision is None or revision.status.digest is not None:
            continue
        pin = revision.spec.adapter.digest if revision.spec.adapter else None
        request = ResolveRequest(
            kind=ArtifactKind.ADAPTER,
            source=member.adapter.source,
            version=member.adapter.version,
            digest=pin,
            credentials_key=member.adapter.credentials_key,
        )
        requests.append((member.revision, request))
    return requests
