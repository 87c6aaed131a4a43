"""A process doesn't crowd out others at the API server."""

import pytest

from taskfleet.kube.rate_limit import RateLimit


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_free_and_what_follows_is_spread() -> None:
    limit = RateLimit(qps=10, burst=3, clock=_Clock())
    assert [limit.reserve() for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_places_come_back_with_time_but_never_more_than_a_burst() -> None:
    clock = _Clock()
    limit = RateLimit(qps=10, burst=2, clock=clock)
    for _ in range(4):
        limit.reserve()
    clock.now += 0.3
    assert limit.reserve() == pytest.approx(0)
    clock.now += 3600
    assert [limit.reserve() for _ in range(3)] == pytest.approx([0, 0, 0.1])
