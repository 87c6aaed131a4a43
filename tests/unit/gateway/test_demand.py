"""What is under way of one task, over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.demand import Demand

REQUESTS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted).map(tuple), max_size=30)


@given(REQUESTS)
def test_growth_is_the_sum_of_all_requests_times_however_they_overlap(requests: list[tuple[float, float]]) -> None:
    demand = Demand()
    events = sorted([(begin, 0) for begin, _ in requests] + [(end, 1) for _, end in requests])
    for moment, leaves in events:
        (demand.leave if leaves else demand.enter)(moment)
    assert demand.busy(200) == pytest.approx(sum(end - begin for begin, end in requests))
    assert (demand.under_way, demand.arrivals) == (0, len(requests))
    assert demand.last == (events[-1][0] if events else None)


@given(REQUESTS)
def test_it_never_falls(requests: list[tuple[float, float]]) -> None:
    demand, told = Demand(), 0.0
    for moment, leaves in sorted([(begin, 0) for begin, _ in requests] + [(end, 1) for _, end in requests]):
        (demand.leave if leaves else demand.enter)(moment)
        assert demand.busy(moment) >= told - 1e-9
        told = demand.busy(moment)


def test_what_is_under_way_grows_with_the_time() -> None:
    demand = Demand()
    demand.enter(10)
    demand.enter(12)
    assert demand.busy(13) == pytest.approx(4)
    demand.leave(13)
    assert demand.busy(15) == pytest.approx(6)
    assert demand.last == 13
