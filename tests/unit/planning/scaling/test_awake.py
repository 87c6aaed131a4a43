"""What keeps a pool awake though nobody asks anything of it."""

from taskfleet.api.agent import ArtifactKind
from taskfleet.api.modelpool import Member, MemberState, ModelPool, Role
from taskfleet.planning.scaling.awake import awake_because
from taskfleet.planning.snapshot import ResolutionFailure
from tests.unit.planning.builders import NOW, digest, key_for, member_of, pool_of, pool_status, revision_of, said, task_model

REVISION = revision_of(task_model())
NAME = REVISION.metadata.name


def pool(member: Member, *, base_digest: str | None = digest("b"), state: MemberState = MemberState.PROVEN) -> ModelPool:
    return pool_of(member, key=key_for(task_model()), base_digest=base_digest, status=pool_status(said(REVISION, state)))


def failure(kind: ArtifactKind, *, permanent: bool) -> ResolutionFailure:
    revision = NAME if kind is ArtifactKind.ADAPTER else ""
    return ResolutionFailure(kind=kind, revision=revision, reason="ArtifactNotFound", message="", permanent=permanent, attempts=1, at=NOW)


def why(found: ModelPool, *failures: ResolutionFailure, frozen: frozenset[str] = frozenset()) -> str:
    return awake_because(found, failures, frozen=frozen)


def test_a_pool_whose_revisions_serve_may_sleep() -> None:
    assert why(pool(member_of(REVISION, digest=digest("a")))) == ""


def test_a_candidate_needs_pods_to_be_proven_and_measured_on() -> None:
    candidate = pool(member_of(REVISION, role=Role.CANDIDATE, digest=digest("a")))
    assert why(candidate) == f"{NAME} is being rolled out"


def test_a_candidate_that_no_engine_can_load_needs_none() -> None:
    assert why(pool(member_of(REVISION, role=Role.CANDIDATE, digest=digest("a")), state=MemberState.FAILED)) == ""


def test_a_digest_is_looked_up_by_a_pod_until_it_turns_out_that_there_is_none() -> None:
    unresolved = pool(member_of(REVISION))
    assert why(unresolved) == f"the digest of {NAME} has to be looked up"
    assert why(unresolved, failure(ArtifactKind.ADAPTER, permanent=False)) != ""
    assert why(unresolved, failure(ArtifactKind.ADAPTER, permanent=True)) == ""


def test_the_digest_of_the_base_is_looked_up_by_a_pod_too() -> None:
    unresolved = pool(member_of(REVISION, digest=digest("a")), base_digest=None)
    assert why(unresolved) == "the digest of the base has to be looked up"
    assert why(unresolved, failure(ArtifactKind.BASE, permanent=True)) == ""


def test_nothing_is_done_for_a_frozen_task() -> None:
    candidate = pool(member_of(REVISION, role=Role.CANDIDATE, digest=digest("a")))
    assert why(candidate, frozen=frozenset({"total"})) == ""
