"""A wait that something else may end early."""

import asyncio


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether the event is set before `seconds` are over (None: it is waited for without end)."""
    # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with the event, and whoever waits in a loop never ends.
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
