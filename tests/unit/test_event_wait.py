"""Waits that end early, and are cancelled at the worst moment."""

import asyncio

import pytest

from taskfleet.event_wait import set_within


async def test_tells_whether_the_event_came() -> None:
    event = asyncio.Event()
    assert not await set_within(event, 0)
    event.set()
    assert await set_within(event, 0)
    assert await set_within(event, None)


# `wait_for` of Python 3.11 forgets the cancellation that comes one turn of the loop after the event.
@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("seconds", [None, 600.0])
async def test_cancellation_that_comes_with_the_event_ends_whoever_waits(turns: int, seconds: float | None) -> None:
    event = asyncio.Event()

    async def work() -> None:
        while True:
            await set_within(event, seconds)
            event.clear()

    working = asyncio.create_task(work())
    await _turns(5)
    event.set()
    await _turns(turns)
    working.cancel()
    await _turns(5)
    ended = working.cancelled()
    working.cancel()
    await asyncio.wait([working])
    assert ended


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
