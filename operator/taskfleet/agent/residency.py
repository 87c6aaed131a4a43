"""One adapter's life in one pod: stage → verify → load → prove, and later drain → unload → confirm absent → delete files last.

Between proof and drain it may be cold: unloaded and confirmed absent, because the engine's places are for others; its files stay, and the next request has it loaded again.

Each adapter has a task of its own, so a broken or slow one holds nobody up. Nothing here is ever cancelled in the middle of a change of the engine: what is wanted is looked
at between the steps, and a change whose outcome is unknown is settled by looking at the engine's models before anything else is tried.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.agent.base_stage import BaseStage
from taskfleet.agent.board import Board
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.pace import Pace
from taskfleet.agent.staging import Staging
from taskfleet.api.agent import AdapterPhase, AdapterReport, DesiredAdapter, Limits
from taskfleet.api.conditions import Reason
from taskfleet.artifacts.errors import ArtifactError, SourceUnavailable, StoreFull
from taskfleet.engines.base import EngineClient, LoadedModel
from taskfleet.engines.errors import EngineError, ModelNotServedError, OutcomeUnknownError, PermanentEngineError
from taskfleet.event_wait import set_within
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# An engine that is about to die refuses good adapters with the very answer that it has for broken ones (vLLM: 500 while its health route still says yes). Asked again a moment
# later, the two can be told apart.
REFUSALS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all adapters of the pod share."""

    staging: Staging
    base: BaseStage
    engine: EngineClient
    watch: EngineWatch
    flights: Flights
    board: Board
    metrics: AgentMetrics
    pace: Pace
    engine_slots: asyncio.Semaphore  # changes of the engine under way at a time
    demand_slots: asyncio.Semaphore  # the same for what requests wait for, which must not wait for a hundred new adapters


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of an adapter, as the document says it."""

    desired: DesiredAdapter
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What was refused for good, why, and in which run of the engine."""

    wish: Wish
    reason: Reason
    run_of_engine: int


class _NoLongerWanted(Exception):  # noqa: N818
    """Between two steps: stop bringing it up."""


class Residency:
    """`wish` None: it is to go. A residency may begin without a wish, for an adapter that an engine still has from the time of an earlier agent."""

    def __init__(
        self,
        engine_name: str,
        surroundings: Surroundings,
        *,
        shared: Callable[[str, str], bool],
        on_loaded: Callable[[], None],
        digest: str | None = None,
    ) -> None:
        """`shared` says whether another adapter than (engine name) needs the files of (digest); `on_loaded` is told that the engine has one more, and may call `rest` at once."""
        self.engine_name = engine_name
        self.digest = digest
        self.last_used = float("-inf")  # when a request last began or ended (monotonic clock); our own probes don't count
        self._near = surroundings
        self._shared = shared
        self._on_loaded = on_loaded
        self._revision = ""
        self._wish: Wish | None = None
        self._kick = asyncio.Event()
        self._phase = AdapterPhase.STAGING
        self._perhaps_loaded = True  # until the engine has been looked at
        self._failures = 0
        self._failing_since: float | None = None
        self._refusals = 0
        self._refusal: _Refusal | None = None
        self._proven_at = float("-inf")
        self._answered = False
        self._loaded = False
        self._turned = asyncio.Event()

    @property
    def phase(self) -> AdapterPhase:
        return self._phase

    @property
    def wanted(self) -> bool:
        return self._wish is not None

    @property
    def serving(self) -> bool:
        """May a request for it be let in? Where it is cold, the request waits for the load."""
        return self._phase is AdapterPhase.PROVEN and self._wish is not None

    @property
    def loaded(self) -> bool:
        """May a request for it go to the engine at once?"""
        return self.serving and self._loaded

    @property
    def settled(self) -> bool:
        """Has it had its attempt, so that the pod's readiness needn't wait for it? True also when its source has said no, or has been silent for long."""
        return self._phase in {AdapterPhase.PROVEN, AdapterPhase.FAILED} or self._answered

    def want(self, wish: Wish | None) -> None:
        """What the document in force says. Takes effect on requests at once."""
        if wish == self._wish:
            return
        self._wish = wish
        if wish is not None:
            self.digest, self._revision = Staging.digest(wish.desired), wish.desired.revision
            self._failures, self._failing_since, self._answered = 0, None, False
        if self._phase is AdapterPhase.PROVEN and wish is None:
            self._perhaps_loaded = True  # also where it is cold: files go only after a look at the engine
            self._report(AdapterPhase.DRAINING, Reason.LOADING, "no longer wanted; requests in flight are finished")
        elif self._phase is AdapterPhase.PROVEN:
            self._report(AdapterPhase.PROVEN, Reason.PROVEN, "")  # the same bytes may become another revision's
        self._kick.set()

    async def at_hand(self) -> bool:
        """Returns when it is loaded. False: it is not proven any more, not wanted any more, or the load takes too long. The caller's request is counted in flight."""
        self._kick.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._near.pace.load):
                while self.serving and not self._loaded:
                    await self._turned.wait()
        return self.loaded

    def rest(self) -> None:
        """Its place is another's from this moment on, in which nothing is in flight: later requests wait for a new load."""
        self._turn(loaded=False)
        self._kick.set()

    def kick(self) -> None:
        """Something around has changed: the base is there, the engine came or went."""
        self._kick.set()

    def withdraw(self, why: str) -> None:
        """The engine may not have it any more: no request is let in until it is proven again."""
        if self._phase is AdapterPhase.PROVEN:
            log.warning("adapter is not proven any more", extra=fields(adapter=self.engine_name, why=why))
            self._report(AdapterPhase.LOADING, Reason.LOADING, why)
            self._kick.set()

    def check_listing(self, listed: LoadedModel | None, asked: float) -> None:
        """The engine was asked for its models at `asked` (monotonic clock) and said this of the adapter. An older listing than the proof says nothing."""
        if self.loaded and self._proven_at < asked and (listed is None or listed.root != self._path()):
            self.withdraw("the engine has lost the adapter")
        elif self.serving and not self._loaded and listed is not None and not self._perhaps_loaded:
            # A load whose reply was lost may come true late, or the listing is older than the unload: unloading once more settles both.
            self._perhaps_loaded = True
            self._kick.set()

    async def run(self) -> None:
        """Returns when the adapter is gone from the engine, and its files are, if no other adapter needs them."""
        self._report_beginning()
        while True:
            self._kick.clear()
            try:
                wait = await self._attempt()
            except _NoLongerWanted:
                continue
            except Exception as error:
                # A mistake of ours on one adapter's account must not take its neighbours down: it is reported as that adapter's, and tried again.
                log.exception("adapter met an unexpected error", extra=fields(adapter=self.engine_name))
                wait = self._failed(AdapterPhase.LOADING, Reason.LOADING, f"unexpected {type(error).__name__}: {error}")
            if wait is _GONE:
                return
            await set_within(self._kick, wait)

    async def _attempt(self) -> float | None:
        """Seconds until the next; None: not before something changes; `_GONE`: there is nothing more to do, ever."""
        if self._wish is None:
            return await self._leave()
        return await (self._rest_or_return() if self.serving and not self._loaded else self._arrive())

    async def _arrive(self) -> float | None:
        """One attempt to have it proven."""
        wish = self._wish
        if wish is None or self.serving or self._near.base.shapes is None or self._is_failed(wish):
            return None
        try:
            path = await self._stage(wish)
            if not self._near.watch.healthy:
                self._progress(AdapterPhase.LOADING, "staged; waiting for the engine")
                return None
            async with self._near.engine_slots:
                self._still(wish)
                run_of_engine = self._near.watch.starts
                self._progress(AdapterPhase.LOADING)
                await self._load(path)
                await self._prove(path)
        except ArtifactError as error:
            return self._artifact_objection(error, wish)
        except EngineError as error:
            return self._engine_objection(error, wish)
        if self._near.watch.starts != run_of_engine or not self._near.watch.healthy:
            return 0.0
        self._proven(wish)
        return None

    async def _stage(self, wish: Wish) -> str:
        shapes = self._near.base.shapes
        if shapes is None:
            raise SourceUnavailable("the base is not staged")
        if self._phase is not AdapterPhase.LOADING:  # where it is, it is staged already, and only looked at again
            self._progress(AdapterPhase.STAGING)
        with self._near.metrics.stage_seconds.time():
            path = await self._near.staging.adapter(wish.desired, shapes, wish.limits)
        self._still(wish)
        return str(path)

    async def _load(self, path: str) -> None:
        if self._perhaps_loaded:
            listed = await self._listed()
            if listed is not None and listed.root == path:
                return
            if listed is not None:
                await self._near.engine.unload(self.engine_name)
        self._perhaps_loaded = True
        with self._near.metrics.load_seconds.time():
            await self._near.engine.load(self.engine_name, path)

    async def _prove(self, path: str) -> None:
        await self._confirm(path)
        await self._near.engine.probe(self.engine_name)

    async def _confirm(self, path: str) -> None:
        listed = await self._listed()
        if listed is None or listed.root != path:
            raise ModelNotServedError(f"adapter {self.engine_name} was loaded, and the engine does not list it from {path}")

    async def _rest_or_return(self) -> float | None:
        """It is proven and has no place in the engine: loaded again where a request waits for it, and otherwise gone from the engine's own listing."""
        wish = self._wish
        if wish is None or not self._near.watch.healthy:
            return None
        try:
            async with self._near.demand_slots:
                if not self.serving:
                    return 0.0
                # No await between this look and what the engine is asked for. A request that comes later finds the door closed, and waits for the next turn.
                if self._near.flights.count(self.engine_name):
                    await self._return()
                elif self._perhaps_loaded:
                    return await self._rest()
        except EngineError as error:
            return self._engine_objection(error, wish)
        return None

    async def _return(self) -> None:
        """Has it loaded again. That it answers was proven in this run of the engine, and its bytes can't have changed; that it is there is confirmed."""
        run_of_engine = self._near.watch.starts
        path = self._path()
        self._near.metrics.demand_loads.inc()
        await self._load(path)
        await self._confirm(path)
        if self.serving and self._near.watch.starts == run_of_engine:
            self._failures = self._refusals = 0
            self._proven_at = time.monotonic()
            self._turn(loaded=True)
            self._on_loaded()

    async def _rest(self) -> float | None:
        if not await self._unloaded():
            self._failures += 1
            return self._near.pace.retry(self._failures, random.random())  # noqa: S311
        self._perhaps_loaded, self._failures = False, 0
        return None

    async def _leave(self) -> float | None:
        """One attempt to have it gone."""
        near = self._near
        if self._phase is not AdapterPhase.UNLOADING:
            self._report(AdapterPhase.DRAINING, Reason.LOADING, "no longer wanted; requests in flight are finished")
        if near.flights.count(self.engine_name):
            await self._landed_or_kicked()
            if self._wish is not None or near.flights.count(self.engine_name):
                return 0.0
        if self._perhaps_loaded:
            self._report(AdapterPhase.UNLOADING, Reason.LOADING, "being unloaded")
            if not near.watch.healthy:
                return None
            async with near.engine_slots:
                unloaded = await self._unloaded()
            if not unloaded:
                self._failures += 1
                return near.pace.retry(self._failures, random.random())  # noqa: S311
            self._perhaps_loaded = False
        if self._wish is not None:
            return 0.0
        if (digest := self.digest) is not None:
            await near.staging.forget_adapter(digest, unused=lambda: self._wish is None and not self._shared(self.engine_name, digest))
        if self._wish is not None:
            return 0.0
        log.info("adapter is gone", extra=fields(adapter=self.engine_name))
        near.board.drop_adapter(self.engine_name)
        return _GONE

    async def _unloaded(self) -> bool:
        """Unloads it; true once the engine's own listing confirms that it is absent."""
        try:
            await self._near.engine.unload(self.engine_name)
            return await self._listed() is None
        except EngineError as error:
            log.warning("adapter can't be unloaded", extra=fields(adapter=self.engine_name, error=str(error)))
            return False

    async def _listed(self) -> LoadedModel | None:
        return next((model for model in await self._near.engine.models() if model.name == self.engine_name), None)

    def _artifact_objection(self, error: ArtifactError, wish: Wish) -> float | None:
        if error.permanent:
            self._refuse(wish, error.reason, str(error))
            return None
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        # The source's own "no" is an answer. Silence, or a full store, is one only after long: see Pace.
        self._answered = not isinstance(error, SourceUnavailable | StoreFull) or now - self._failing_since >= self._near.pace.settle
        return self._failed(AdapterPhase.STAGING, error.reason, str(error))

    def _engine_objection(self, error: EngineError, wish: Wish) -> float | None:
        self._near.watch.suspect()
        if isinstance(error, OutcomeUnknownError):
            return self._failed(AdapterPhase.LOADING, Reason.LOADING, f"{error}; looking at the engine")
        if isinstance(error, PermanentEngineError):
            self._refusals += 1
            if self._refusals >= REFUSALS:
                self._refuse(wish, Reason.ENGINE_REJECTED, str(error))
                return None
        return self._failed(AdapterPhase.LOADING, Reason.LOADING, str(error))

    def _refuse(self, wish: Wish, reason: Reason, message: str) -> None:
        self._still(wish)
        self._refusal = _Refusal(wish, reason, self._near.watch.starts)
        log.error("adapter is refused", extra=fields(adapter=self.engine_name, reason=reason, error=message))
        self._report(AdapterPhase.FAILED, reason, message)

    def _is_failed(self, wish: Wish) -> bool:
        refusal = self._refusal
        if refusal is None or refusal.wish != wish:
            return False
        # Another run of the engine may accept what this one refused; artifacts don't change.
        return refusal.reason is not Reason.ENGINE_REJECTED or refusal.run_of_engine == self._near.watch.starts

    def _failed(self, phase: AdapterPhase, reason: Reason, message: str) -> float:
        self._failures += 1
        if self._wish is not None:
            log.warning(
                "adapter is not proven", extra=fields(adapter=self.engine_name, reason=reason, error=message, attempt=self._failures)
            )
            self._report(phase, reason, message)
        return self._near.pace.retry(self._failures, random.random())  # noqa: S311

    def _proven(self, wish: Wish) -> None:
        self._still(wish)
        self._failures, self._failing_since, self._refusals, self._refusal = 0, None, 0, None
        self._proven_at = time.monotonic()
        log.info("adapter is proven", extra=fields(adapter=self.engine_name, revision=self._revision))
        self._report(AdapterPhase.PROVEN, Reason.PROVEN, "")
        self._turn(loaded=True)
        self._on_loaded()

    def _still(self, wish: Wish) -> None:
        if self._wish != wish:
            raise _NoLongerWanted

    def _path(self) -> str:
        return str(self._near.staging.adapter_path(self.digest)) if self.digest else ""

    def _report_beginning(self) -> None:
        if self._wish is not None:
            self._report(AdapterPhase.STAGING, Reason.LOADING, "waiting for the base" if self._near.base.shapes is None else "")

    def _progress(self, phase: AdapterPhase, message: str = "") -> None:
        """Reports a step, unless this is a new try after a failure: that failure's words stay until there is something better to say."""
        if not self._failures:
            self._report(phase, Reason.LOADING, message)

    def _report(self, phase: AdapterPhase, reason: Reason, message: str) -> None:
        self._phase = phase
        self._turn(loaded=self._loaded and phase is AdapterPhase.PROVEN)
        self._near.board.report_adapter(
            AdapterReport(engine_name=self.engine_name, revision=self._revision, phase=phase, reason=reason, message=message[:1000])
        )

    def _turn(self, *, loaded: bool) -> None:
        """Whoever waits for it looks again."""
        self._loaded = loaded
        self._near.board.report_loaded(self.engine_name, loaded=loaded)
        self._turned.set()
        self._turned = asyncio.Event()

    async def _landed_or_kicked(self) -> None:
        waits = [asyncio.ensure_future(self._near.flights.none_of(self.engine_name)), asyncio.ensure_future(self._kick.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


_GONE = float("-inf")
