"""A request that no pod can answer now: why, whether waiting can help, and the wait.

It waits where a pod is to be expected: one that starts, one that is being given the adapter, one that has let go of its place. Where the operator has found that no pod can
start before somebody acts, the client is told that at once instead: it waits in vain for nothing, and its operator reads the reason where it looks first.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from aiohttp import web

from taskfleet.gateway import keep_alive
from taskfleet.gateway.call import Call
from taskfleet.gateway.errors import ApiError, ModelNotFoundError, UnavailableError
from taskfleet.gateway.hold import RETRY_AFTER, HeldReason, Hold
from taskfleet.gateway.knocks import Knocks
from taskfleet.gateway.meter import Meter
from taskfleet.gateway.routes import RouteTable, Target

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # between rounds over all pods when nothing changes in the routes
# What a client is told whose pool can't start: somebody must act first.
RETRY_AFTER_REPAIR = 30  # seconds
_LACKS_ADAPTER = frozenset({"not-here", "not-found"})

Found = TypeVar("Found")


class Waiting:
    """`seconds`: how long a request may wait from its first trouble; `comment_seconds`: between two comments to a client that wants them; `woken`: a pool is to wake."""

    def __init__(
        self,
        *,
        table: RouteTable,
        hold: Hold,
        knocks: Knocks,
        meter: Meter,
        seconds: float,
        comment_seconds: float,
        woken: Callable[[], None],
    ) -> None:
        self._table = table
        self._hold = hold
        self._knocks = knocks
        self._meter = meter
        self._seconds = seconds
        self._comment_seconds = comment_seconds
        self._woken = woken

    def give_up(self, call: Call) -> float:
        """When the request is not tried any longer: monotonic. From its first trouble on."""
        if call.give_up is None:
            call.give_up = min(time.monotonic() + self._seconds, call.deadline)
        return call.give_up

    async def until(
        self, request: web.BaseRequest, call: Call, *, targets: Sequence[Target], choose: Callable[[Call], Found | None]
    ) -> Found:
        """What `choose` gives as soon as a pod can be tried (again).

        Raises UnavailableError at the deadline and where waiting can't help, QueueFullError where no place is free, ModelNotFoundError when the task goes meanwhile.
        """
        if call.name.revision is not None and call.tried and all(target.pool is None for target in targets):
            # Nobody is told to load a revision that is out of traffic: waiting would be in vain.
            raise ModelNotFoundError(call.inference.model)
        reason = _reason(call, targets)
        self._refuse_hopeless(call, reason)
        call.held_reason = call.held_reason or reason
        began, give_up, pause = time.monotonic(), self.give_up(call), _pause(call)
        before = call.held
        try:
            with self._hold.place(call.task) as held, call.waits(), self._knocks.at(call.task[0], _that_start(reason, targets)):
                if reason is HeldReason.COLD_START and self._hold.of_task(call.task) == 1:
                    self._meter.woke(call.task)
                    self._woken()
                while (now := time.monotonic()) < give_up:
                    await held.wait(min(pause, give_up - now, self._until_comment(call, now)))
                    found = choose(call)
                    if found is None:
                        self._refuse_hopeless(call, reason)
                    # Also where a pod is to be asked again: one that refuses at once would keep the comments away for ever.
                    call.held = before + time.monotonic() - began
                    await self._comment(request, call)
                    if found is not None:
                        return found
                raise UnavailableError(f"No pod can answer for {call.name.public} now", retry_after=RETRY_AFTER)
        except ApiError:
            call.in_vain = True
            raise
        finally:
            call.held = before + time.monotonic() - began

    def _until_comment(self, call: Call, now: float) -> float:
        """Seconds. A request whose client wants none has all the time that it waits."""
        if not call.comments:
            return LONGEST_PAUSE
        if call.comment_at is None:
            call.comment_at = now + self._comment_seconds
        return max(0.0, call.comment_at - now)

    async def _comment(self, request: web.BaseRequest, call: Call) -> None:
        now = time.monotonic()
        if call.comment_at is not None and now >= call.comment_at:
            await keep_alive.comment(request, call)
            call.comment_at = now + self._comment_seconds

    def _refuse_hopeless(self, call: Call, reason: HeldReason) -> None:
        """Raises UnavailableError where the operator has found that no pod can answer before somebody acts.

        Ready pods that don't take a request for another reason than the adapter are proof that the finding is old. It is about live traffic: a pinned revision has its own.
        """
        task = self._table.task(call.task)
        if task is None or task.cannot_start is None or reason is HeldReason.PODS_FAIL or call.name.revision is not None:
            return
        raise UnavailableError(
            f"{call.name.public} can't be served before somebody acts: {task.cannot_start}",
            code="cannot_start",
            retry_after=RETRY_AFTER_REPAIR,
        )


def _reason(call: Call, targets: Sequence[Target]) -> HeldReason:
    if call.refusals:
        return HeldReason.NO_POD_HAS_IT if call.refusals <= _LACKS_ADAPTER else HeldReason.PODS_FAIL
    return HeldReason.COLD_START if targets else HeldReason.NO_ROUTE


def _that_start(reason: HeldReason, targets: Sequence[Target]) -> set[str]:
    """The pools whose pods may be ready before the cluster says so."""
    return {target.pool for target in targets if target.pool is not None} if reason is HeldReason.COLD_START else set()


def _pause(call: Call) -> float:
    """A refusing pod changes its mind without a change of routes (an adapter gets proven), so it is asked again, less and less often."""
    if not call.tried:
        return LONGEST_PAUSE
    pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(call.rounds, 10))
    call.rounds += 1
    call.tried.clear()
    call.refusals.clear()
    return pause
