"""Waiting for a condition of another process: there is nothing to be notified by, so it is asked again and again, for a limited time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], *, limit: float) -> None:
    """Return once the condition holds; raises TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)
