"""So many bytes a second and no more."""

from hypothesis import given
from hypothesis import strategies as st

from taskfleet.agent.throttle import Throttle


def test_what_is_asked_for_beyond_the_rate_waits_its_turn() -> None:
    throttle = Throttle(100)
    assert [throttle.wait(50, now=10.0) for _ in range(3)] == [0.0, 0.5, 1.0]


def test_idle_time_is_not_saved_up() -> None:
    throttle = Throttle(100)
    throttle.wait(100, now=10.0)
    assert throttle.wait(100, now=1000.0) == 0.0
    assert throttle.wait(100, now=1000.0) == 1.0


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), min_size=1, max_size=50))
def test_no_more_than_the_rate_is_let_through(asked: list[tuple[int, float]]) -> None:
    throttle, now, last = Throttle(100), 0.0, 0.0
    for size, pause in asked:
        now += pause
        last = now + throttle.wait(size, now=now)
    sent_before_the_last = sum(size for size, _ in asked[:-1])
    assert sent_before_the_last <= 100 * last + 1e-6
