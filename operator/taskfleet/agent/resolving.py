"""Digests that are known only once the bytes were fetched: in the background, one download however many ask.

Who asks may be gone before the download is through: it goes on, and the next who asks finds it. A result is handed out once, to all who wait for it then: the next question is
about what the source has then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from taskfleet.api.agent import Limits
from taskfleet.artifacts.errors import StillFetching
from taskfleet.artifacts.listing import Order

# For how long a result waits for somebody who asks; an operator asks again within minutes.
KEEP_SECONDS = 900.0

Found = TypeVar("Found")


class Resolving(Generic[Found]):
    """For one event loop. `patience` is for how long, in seconds, one question waits."""

    def __init__(self, fetch: Callable[[Order, Limits], Awaitable[Found]], *, patience: float) -> None:
        self._fetch = fetch
        self._patience = patience
        self._tasks: dict[Order, asyncio.Task[Found]] = {}

    async def digest(self, order: Order, limits: Limits) -> Found:
        """The digest. Raises ArtifactError; StillFetching while the download goes on."""
        task = self._tasks.get(order) or self._begin(order, limits)
        # `wait` leaves the task alone, also when who waits is cancelled.
        await asyncio.wait({task}, timeout=self._patience)
        if not task.done():
            raise StillFetching(f"{order.source} version {order.version} is being fetched, for its digest")
        self._forget(order, task)
        return task.result()

    def cancel(self) -> None:
        """Ends all of it: the agent is ending."""
        for task in self._tasks.values():
            task.cancel()

    def _begin(self, order: Order, limits: Limits) -> asyncio.Task[Found]:
        task = asyncio.create_task(self._run(order, limits), name=f"resolve {order.source} {order.version}")
        self._tasks[order] = task
        task.add_done_callback(lambda done: self._settled(order, done))
        return task

    async def _run(self, order: Order, limits: Limits) -> Found:
        return await self._fetch(order, limits)

    def _settled(self, order: Order, task: asyncio.Task[Found]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain where nobody asks any more
            asyncio.get_running_loop().call_later(KEEP_SECONDS, self._forget, order, task)

    def _forget(self, order: Order, task: asyncio.Task[Found]) -> None:
        if self._tasks.get(order) is task:
            del self._tasks[order]
