"""Tasks that run as long as the process does. One that fails takes the process with it: a half-working operator is worse than one that is started anew."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from taskfleet.logs import fields

log = logging.getLogger(__name__)


class Background:
    """`fail` is called with the reason when a task has failed."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` until it ends or `stop` is called."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("background task failed", extra=fields(task=task.get_name()), exc_info=error)
            self._fail(f"{task.get_name()}: {error}")
