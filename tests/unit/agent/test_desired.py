"""Which document is in force."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.agent.desired import DesiredDocument, Offer, judge
from taskfleet.api.agent import DesiredState
from tests.unit.agent.builders import LIMITS, adapter, document

LOWER = LIMITS.model_copy(update={"max_rank": 4})

CASES: dict[str, tuple[DesiredState | None, DesiredState, bool, Offer]] = {
    "the first": (None, document(3), False, Offer.ACCEPTED),
    "a newer one": (document(3), document(4, "a"), False, Offer.ACCEPTED),
    "the same again": (document(3, "a"), document(3, "a"), True, Offer.UNCHANGED),
    "an older one": (document(3), document(2, "a"), True, Offer.STALE),
    "another pool's, and newer": (document(3), document(9, uid="other"), True, Offer.OTHER_POOL),
    "other limits by PUT": (document(3), document(3, limits=LOWER), True, Offer.ACCEPTED),
    "other limits by a file of unknown age": (document(3), document(3, limits=LOWER), False, Offer.STALE),
    "the base's digest becomes known": (document(3, base_digest=None), document(4), False, Offer.ACCEPTED),
    "the base's digest changes": (document(3), document(4, base_digest="sha256:" + "b" * 64), True, Offer.CONTRADICTION),
    "the base's digest is forgotten": (document(3), document(4, base_digest=None), True, Offer.CONTRADICTION),
    "one adapter twice": (None, document(1, "a", "a"), True, Offer.CONTRADICTION),
    "an adapter with the base's name": (None, document(1, "tiny"), True, Offer.CONTRADICTION),
    "an adapter without a digest": (
        None,
        document(1).model_copy(update={"adapters": (adapter("a", digest=None),)}),
        True,
        Offer.CONTRADICTION,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_offered_document_is_judged(case: tuple[DesiredState | None, DesiredState, bool, Offer]) -> None:
    current, offered, replaces_equal, verdict = case
    assert judge(current, offered, replaces_equal=replaces_equal) is verdict


OFFERS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["pool", "other"]), st.booleans(), st.sampled_from(["", "a", "b"])), max_size=20
)


@given(OFFERS)
def test_generation_never_goes_back_and_the_pool_never_changes(offers: list[tuple[int, str, bool, str]]) -> None:
    current: DesiredState | None = None
    for generation, uid, replaces_equal, name in offers:
        offered = document(generation, *filter(None, [name]), uid=uid)
        before = current
        if judge(current, offered, replaces_equal=replaces_equal) is Offer.ACCEPTED:
            current = offered
        if before is not None:
            assert current is not None
            assert current.generation >= before.generation
            assert current.pool == before.pool


def test_accepted_document_outlives_the_process(tmp_path: Path) -> None:
    first = DesiredDocument(tmp_path)
    assert first.offer(document(5, "a"), replaces_equal=False) is Offer.ACCEPTED
    second = DesiredDocument(tmp_path)
    second.restore()
    assert second.current == document(5, "a")
    assert second.offer(document(4), replaces_equal=True) is Offer.STALE


def test_document_that_cannot_be_kept_is_not_in_force(tmp_path: Path) -> None:
    keeping = DesiredDocument(tmp_path / "missing")
    with pytest.raises(OSError, match="missing"):
        keeping.offer(document(1), replaces_equal=False)
    assert keeping.current is None


def test_kept_document_of_another_version_is_left_aside(tmp_path: Path) -> None:
    (tmp_path / "desired.json").write_text('{"shape": "unknown"}')
    restored = DesiredDocument(tmp_path)
    restored.restore()
    assert restored.current is None
