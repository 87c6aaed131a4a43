"""Who gives up its place in the engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.agent.crowding import Loaded, surplus

NEVER = float("-inf")


def loaded(name: str, last_used: float, *, busy: bool = False) -> Loaded:
    return Loaded(name=name, last_used=last_used, busy=busy)


@pytest.mark.parametrize(
    ("crowd", "limit", "gone"),
    [
        pytest.param([loaded("a", 1), loaded("b", 2)], 2, (), id="within the limit"),
        pytest.param([loaded("a", 3), loaded("b", 1), loaded("c", 2)], 1, ("b", "c"), id="least recently used first"),
        pytest.param([loaded("a", 1), loaded("b", NEVER)], 1, ("b",), id="what was never used before what was"),
        pytest.param([loaded("a", 1, busy=True), loaded("b", 2)], 1, ("b",), id="a busy one stays, however long ago it was used"),
        pytest.param([loaded("a", 1, busy=True), loaded("b", 2, busy=True)], 1, (), id="all are busy"),
        pytest.param([loaded("b", NEVER), loaded("a", NEVER)], 1, ("a",), id="the same choice in any order"),
    ],
)
def test_places_are_given_up_by(crowd: list[Loaded], limit: int, gone: tuple[str, ...]) -> None:
    assert surplus(crowd, limit) == gone


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 5), st.booleans())),
    st.integers(1, 8),
)
def test_limit_is_kept_by_idle_adapters_alone(crowd: dict[str, tuple[int, bool]], limit: int) -> None:
    gone = surplus([loaded(name, used, busy=busy) for name, (used, busy) in crowd.items()], limit)
    left = crowd.keys() - set(gone)
    assert not any(crowd[name][1] for name in gone)
    assert len(left) <= limit or all(crowd[name][1] for name in left)
    assert not gone or len(left) >= limit
