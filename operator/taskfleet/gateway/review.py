"""A cache of the API server's answers about who somebody is and what they may do.

An allowing answer is used for 60 s and renewed in the background before that, a refusing one for 5 s. While the API server is out of reach, an answer that
allowed stays good, until the token's own expiry and for an hour at most: an outage of the control plane stops no client that was already known, and lets no new one in.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

ALLOWED_SECONDS = 60.0
REFUSED_SECONDS = 5.0
RENEW_AFTER = 45.0  # of the 60: a busy client never waits for a renewal
OUTAGE_SECONDS = 3600.0
# After a failed renewal the old answer serves so long before the API server is asked again, and as long once more while it is asked: no busy client waits for the
# time-outs of an outage, and after it a withdrawn right ends within seconds.
RETRY_SECONDS = 5.0


class ReviewUnavailableError(Exception):
    """The API server could not be asked."""


@dataclass(slots=True)
class _Entry(Generic[Answer]):
    answer: Answer
    fresh_until: float
    renew_at: float
    outage_until: float


@dataclass(slots=True)
class ReviewCache(Generic[Answer]):
    """Answers by key; an answer of None refuses. Bounded: allowing and refusing answers apart, so that a flood of bad tokens pushes out no good one.

    `clock` is in seconds and must agree with the expiry that callers give: Unix time.
    """

    clock: Callable[[], float]
    size: int = 10_000
    _allowed: "OrderedDict[Hashable, _Entry[Answer]]" = field(default_factory=OrderedDict)
    _refused: OrderedDict[Hashable, float] = field(default_factory=OrderedDict)
    _asking: "dict[Hashable, asyncio.Task[Answer | None]]" = field(default_factory=dict)

    async def get(self, key: Hashable, expiry: float, ask: Callable[[], Awaitable[Answer | None]]) -> Answer | None:
        """The answer for `key`; None refuses. `expiry`: when the token that is asked about ends. Callers of one key at a time share one question.

        Raises ReviewUnavailableError where the API server is out of reach and no earlier answer may stand in.
        """
        now = self.clock()
        entry = self._allowed.get(key)
        if entry is not None and now < entry.fresh_until:
            if now >= entry.renew_at and key not in self._asking:
                self._ask(key, expiry, ask)
            return entry.answer
        if (until := self._refused.get(key)) is not None and now < until:
            return None
        # Shielded: one caller's disconnect must not fail the others.
        task = self._asking.get(key) or self._ask(key, expiry, ask)
        return await asyncio.shield(task)

    def known(self, key: Hashable) -> Answer | None:
        """An allowing answer that is fresh and not yet to be renewed: the fast path, without a coroutine."""
        entry = self._allowed.get(key)
        return entry.answer if entry is not None and self.clock() < entry.renew_at else None

    def _ask(self, key: Hashable, expiry: float, ask: Callable[[], Awaitable[Answer | None]]) -> "asyncio.Task[Answer | None]":
        task = asyncio.ensure_future(self._settle(key, expiry, ask))
        self._asking[key] = task
        task.add_done_callback(lambda done: self._asked(key, done))
        return task

    def _asked(self, key: Hashable, task: "asyncio.Task[Answer | None]") -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; a renewal in the background has nobody, and its entry says what holds

    async def _settle(self, key: Hashable, expiry: float, ask: Callable[[], Awaitable[Answer | None]]) -> Answer | None:
        try:
            answer = await ask()
        except ReviewUnavailableError:
            entry = self._allowed.get(key)
            now = self.clock()
            if entry is None or now >= entry.outage_until:
                raise
            entry.renew_at = min(now + RETRY_SECONDS, entry.outage_until)
            entry.fresh_until = min(now + 2 * RETRY_SECONDS, entry.outage_until)
            return entry.answer
        now = self.clock()
        self._allowed.pop(key, None)
        self._refused.pop(key, None)
        if answer is None:
            self._refused[key] = now + REFUSED_SECONDS
            _bound(self._refused, self.size)
        else:
            self._allowed[key] = _Entry(
                answer,
                fresh_until=min(now + ALLOWED_SECONDS, expiry),
                renew_at=min(now + RENEW_AFTER, expiry),
                outage_until=min(now + OUTAGE_SECONDS, expiry),
            )
            _bound(self._allowed, self.size)
        return answer


def _bound(entries: "OrderedDict[Hashable, _Entry[Answer]] | OrderedDict[Hashable, float]", size: int) -> None:
    while len(entries) > size:
        entries.popitem(last=False)
