"""Digests and commits reach members once, and are never replaced: what was resolved first is what is served."""

from tests.unit.planning.builders import digest
from tests.unit.planning.packing_world import PackingWorld, small


def test_digest_reaches_the_member_once_it_is_recorded() -> None:
    world = PackingWorld()
    revision = world.add("a", resolved=False)
    (draft,) = world.pack().apply
    assert draft.spec.members[0].adapter is not None
    assert draft.spec.members[0].adapter.digest is None
    world.resolve("a")
    (draft,) = world.pack().apply
    assert draft.spec.members[0].adapter is not None
    assert draft.spec.members[0].adapter.digest == digest(revision.metadata.name[-1])


def test_pin_alone_is_no_resolved_digest() -> None:
    world = PackingWorld()
    adapter = {"source": "oci://registry.example/a", "version": "v1", "digest": digest("a")}
    world.add("a", resolved=False, version=None, adapter=adapter)
    (draft,) = world.pack().apply
    assert draft.spec.members[0].adapter is not None
    assert draft.spec.members[0].adapter.digest is None


def test_digest_of_a_member_outlives_a_lost_status_of_its_revision() -> None:
    world = PackingWorld()
    world.add("a")
    before = world.pack().apply
    world.revisions["a"] = [revision.model_copy(update={"status": type(revision.status)()}) for revision in world.revisions["a"]]
    assert world.pack().apply == before


def test_all_pools_of_a_key_have_the_base_that_was_resolved_first() -> None:
    world = small(max_per_pool=1)
    world.add("a")
    world.pack()
    (pool,) = world.pools
    world.base_digests[pool] = digest("b")
    world.pack()
    world.base_digests.clear()
    world.add("c")
    plan = world.pack()
    assert [draft.spec.base_digest for draft in plan.apply] == [digest("b")] * 2


def test_commit_that_a_version_was_resolved_to_stays_with_its_member() -> None:
    world = PackingWorld()
    revision = world.add("a", resolved=False)
    world.pack()
    world.resolve("a", version="c0ffee")
    (draft,) = world.pack().apply
    assert [(member.resolved_version, member.adapter.version if member.adapter else None) for member in draft.spec.members] == [
        ("c0ffee", revision.spec.adapter.version if revision.spec.adapter else None)
    ]
    # The pool keeps it, also when the record has lost its status.
    world.resolve("a")
    assert [member.resolved_version for member in world.pack().apply[0].spec.members] == ["c0ffee"]


def test_commit_of_a_base_is_recorded_with_its_digest_and_never_replaced() -> None:
    world = PackingWorld()
    world.add("a")
    world.pack()
    (pool,) = world.pools
    world.base_digests[pool], world.base_versions[pool] = digest("b"), "c0ffee"
    world.pack()
    world.base_digests[pool], world.base_versions[pool] = digest("c"), "decaf"
    (draft,) = world.pack().apply
    assert (draft.spec.base_digest, draft.spec.base_resolved_revision) == (digest("b"), "c0ffee")


def test_recorded_base_digest_is_never_replaced() -> None:
    world = PackingWorld()
    world.add("a")
    world.pack()
    (pool,) = world.pools
    world.base_digests[pool] = digest("b")
    world.pack()
    world.base_digests[pool] = digest("c")
    assert [draft.spec.base_digest for draft in world.pack().apply] == [digest("b")]
