"""Digests that are being looked up, were found, or could not be found.

Asking takes as long as a registry takes, so it runs beside the queue. What was found is handed to its one writer: a revision's digest to the TaskModel's key, a base's to the
packing key. Failures are kept in memory only: a restart tries again at once.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from taskfleet.api.agent import AgentProblem, ResolveReply
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import ModelPool
from taskfleet.controller.agents import AgentConnections, AgentRefusedError, AgentUnreachableError, unreachable
from taskfleet.controller.keys import PoolKey
from taskfleet.logs import fields
from taskfleet.planning.plans import Resolution
from taskfleet.planning.snapshot import ResolutionFailure

log = logging.getLogger(__name__)

Slot = tuple[str, str]  # UID of the pool; name of the revision, empty for the base


@dataclass(slots=True)
class Resolutions:
    """`on_found` is called with the pool and the revision's name (empty for the base), `on_failed` with the pool."""

    agents: AgentConnections
    now: Callable[[], datetime]
    on_found: Callable[[ModelPool, str], None]
    on_failed: Callable[[PoolKey], None]
    _asking: dict[Slot, asyncio.Task[None]] = field(default_factory=dict)
    _failures: dict[Slot, ResolutionFailure] = field(default_factory=dict)
    _found: dict[Slot, ResolveReply] = field(default_factory=dict)

    def start(self, pool: ModelPool, resolution: Resolution) -> None:
        """Asks, unless that is being asked already."""
        slot = (pool.metadata.uid, resolution.revision)
        if slot in self._asking or slot in self._found:
            return
        level = logging.INFO if slot not in self._failures else logging.DEBUG
        about = fields(pool=pool.metadata.key, pod=resolution.pod, source=resolution.request.source, version=resolution.request.version)
        log.log(level, "asking for a digest", extra=about)
        task = asyncio.create_task(self._ask(pool, resolution, slot), name=f"resolve {pool.metadata.key} {resolution.revision}")
        self._asking[slot] = task
        task.add_done_callback(lambda _: self._asking.pop(slot, None))

    def failures(self, pool_uid: str) -> tuple[ResolutionFailure, ...]:
        """The last failed attempts of a pool."""
        return tuple(failure for (uid, _), failure in self._failures.items() if uid == pool_uid)

    def found(self, pool_uid: str, revision: str = "") -> ResolveReply | None:
        """What was found for a revision of the pool, or for its base."""
        return self._found.get((pool_uid, revision))

    def keep_only(self, pool_uid: str, revisions: frozenset[str]) -> None:
        """Forgets what concerns no member of the pool any more."""
        for kept in (self._failures, self._found):
            for slot in [slot for slot in kept if slot[0] == pool_uid and slot[1] and slot[1] not in revisions]:
                del kept[slot]

    def forget(self, pool_uid: str) -> None:
        """The pool is gone."""
        for kept in (self._failures, self._found):
            for slot in [slot for slot in kept if slot[0] == pool_uid]:
                del kept[slot]
        for slot in [slot for slot in self._asking if slot[0] == pool_uid]:
            self._asking[slot].cancel()

    async def close(self) -> None:
        """Ends all questions."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, pool: ModelPool, resolution: Resolution, slot: Slot) -> None:
        key = PoolKey(pool.metadata.namespace, pool.metadata.name)
        request = resolution.request
        about = {"pool": str(key), "pod": resolution.pod, "source": request.source, "version": request.version}
        try:
            reply = await self.agents.resolve(key, resolution.pod, request)
        except AgentRefusedError as error:
            self._failed(key, resolution, slot, error.problem, about)
        except AgentUnreachableError as error:
            self._failed(key, resolution, slot, unreachable(error), about)
        else:
            log.info("resolved", extra=fields(**about, digest=reply.digest))
            self._failures.pop(slot, None)
            self._found[slot] = reply
            self.on_found(pool, resolution.revision)

    def _failed(self, key: PoolKey, resolution: Resolution, slot: Slot, problem: AgentProblem, about: dict[str, str]) -> None:
        before = self._failures.get(slot)
        failure = ResolutionFailure(
            kind=resolution.request.kind,
            revision=resolution.revision,
            reason=problem.reason,
            message=problem.message,
            permanent=problem.permanent,
            # An agent that is still fetching has not failed: it is asked again soon, however often it has been.
            attempts=before.attempts + 1 if before is not None and problem.reason != Reason.RESOLVING else 1,
            at=self.now(),
        )
        if before is None or (before.reason, before.message) != (failure.reason, failure.message):
            level = logging.INFO if problem.reason == Reason.RESOLVING else logging.WARNING
            log.log(level, "not resolved", extra=fields(**about, reason=problem.reason, why=problem.message))
        self._failures[slot] = failure
        self.on_failed(key)
