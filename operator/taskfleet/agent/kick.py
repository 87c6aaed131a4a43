"""A wait that something else may end early."""

import asyncio
import contextlib


async def kicked(event: asyncio.Event, seconds: float | None) -> None:
    """Returns when the event is set, or after `seconds` (None: not before)."""
    # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with the event, and the agent would never end.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
