"""Counts of requests in flight."""

import asyncio
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.agent.flights import Flights


def test_request_that_fails_is_counted_out_too() -> None:
    flights = Flights()
    with pytest.raises(ValueError, match="broken in flight 1"), flights.flight("a"):
        raise ValueError(f"broken in flight {flights.total}")
    assert (flights.count("a"), flights.total) == (0, 0)


async def test_waiting_ends_with_the_last_request_of_the_model() -> None:
    flights = Flights()
    with ExitStack() as others:
        others.enter_context(flights.flight("b"))
        with flights.flight("a"), ExitStack() as second:
            second.enter_context(flights.flight("a"))
            waiting = asyncio.create_task(flights.none_of("a"))
            everything = asyncio.create_task(flights.none())
            await asyncio.sleep(0)
            second.close()
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)
        assert not everything.done()
    await asyncio.wait_for(everything, 5)


def test_idle_time_counts_from_the_end_of_the_last_request_and_at_first_from_the_start() -> None:
    now = 100.0
    flights = Flights(lambda: now)
    now = 107.0
    assert flights.idle_seconds == 7.0
    with flights.flight("a"):
        with flights.flight("b"):
            now = 110.0
        now = 115.0
        assert flights.idle_seconds == 0.0, "the other one is still in flight"
        now = 120.0
    now = 121.5
    assert flights.idle_seconds == 1.5


async def test_nothing_in_flight_needs_no_waiting() -> None:
    await asyncio.wait_for(Flights().none(), 5)
    await asyncio.wait_for(Flights().none_of("a"), 5)


@given(st.lists(st.tuples(st.sampled_from("+-"), st.sampled_from("ab")), max_size=40))
async def test_counts_are_what_was_let_in_less_what_has_ended(steps: list[tuple[str, str]]) -> None:
    flights, running = Flights(), {"a": [], "b": []}  # type: ignore[var-annotated]
    for action, model in steps:
        if action == "+":
            stack = ExitStack()
            stack.enter_context(flights.flight(model))
            running[model].append(stack)
        elif running[model]:
            running[model].pop().close()
        assert {name: flights.count(name) for name in running} == {name: len(open_) for name, open_ in running.items()}
        assert flights.total == sum(map(len, running.values()))
