"""What the agent says of itself: one board that its parts write on, and that the operator reads by long-poll."""

import asyncio
import contextlib
import time
from collections.abc import Set as AbstractSet

from taskfleet.agent.flights import Flights
from taskfleet.api.agent import AdapterPhase, AdapterReport, AgentState, BaseReport, DesiredState, EngineReport, StartReport
from taskfleet.api.conditions import Reason


class Board:
    """Every change of anything but counts in flight, the time without any, and which adapters are loaded gives a new version.

    These change with requests, at their rate: whoever reads the state gets them as they are then.
    """

    def __init__(self, pod: str, flights: Flights) -> None:
        self._pod = pod
        self._flights = flights
        self._adapters: dict[str, AdapterReport] = {}
        self._upstream: dict[str, str] = {}
        self._loaded: set[str] = set()
        # Milliseconds since the epoch at the start: versions go on growing over restarts, or a long-poll after one would wait for the old number.
        self._version = int(time.time() * 1000)
        self._changed = asyncio.Event()
        self.closed = False
        self.pool_uid = ""
        self.generation = 0
        self.fingerprint: str | None = None
        self.draining = False
        self.base = BaseReport(staged=False, reason=Reason.LOADING)
        self.engine = EngineReport(healthy=False)
        self.start: StartReport | None = None

    @property
    def version(self) -> int:
        return self._version

    @property
    def adapters(self) -> tuple[AdapterReport, ...]:
        return tuple(self._adapters.values())

    @property
    def loaded(self) -> AbstractSet[str]:
        """Engine names of the adapters that are proven and loaded."""
        return self._loaded

    def report_document(self, document: DesiredState) -> None:
        """The document is in force."""
        in_force = (document.pool.uid, document.generation, document.fingerprint)
        if in_force != (self.pool_uid, self.generation, self.fingerprint):
            self.pool_uid, self.generation, self.fingerprint = in_force
            self._bump()

    def report_draining(self, *, draining: bool) -> None:
        if draining != self.draining:
            self.draining = draining
            self._bump()

    def report_base(self, report: BaseReport) -> None:
        if report != self.base:
            self.base = report
            self._bump()

    def report_engine(self, report: EngineReport) -> None:
        if report != self.engine:
            self.engine = report
            self._bump()

    def report_start(self, report: StartReport) -> None:
        """The pod has come up."""
        self.start = report
        self._bump()

    def report_adapter(self, report: AdapterReport) -> None:
        if report != self._adapters.get(report.engine_name):
            self._adapters[report.engine_name] = report
            self._bump()

    def report_loaded(self, engine_name: str, *, loaded: bool) -> None:
        """A request for it may go to the engine at once, or would have to wait for a load."""
        (self._loaded.add if loaded else self._loaded.discard)(engine_name)

    def report_upstream(self, engine_name: str, digest: str | None) -> None:
        """The adapter's version stands for this digest at its source; None: for the one that is recorded, as far as is known."""
        if digest != self._upstream.get(engine_name):
            self._upstream.pop(engine_name, None)
            if digest is not None:
                self._upstream[engine_name] = digest
            self._bump()

    def drop_adapter(self, engine_name: str) -> None:
        self._upstream.pop(engine_name, None)
        if self._adapters.pop(engine_name, None) is not None:
            self._bump()

    def state(self) -> AgentState:
        """All of it, with the counts of this moment."""
        adapters = [
            report.model_copy(
                update={
                    "in_flight": self._flights.count(name),
                    "cold": report.phase is AdapterPhase.PROVEN and name not in self._loaded,
                    "upstream_digest": self._upstream.get(name),
                }
            )
            for name, report in sorted(self._adapters.items())
        ]
        return AgentState(
            pod=self._pod,
            pool_uid=self.pool_uid,
            generation=self.generation,
            fingerprint=self.fingerprint,
            version=self._version,
            draining=self.draining,
            base=self.base,
            engine=self.engine,
            adapters=tuple(adapters),
            in_flight=self._flights.total,
            idle_seconds=round(self._flights.idle_seconds, 3),
            start=self.start,
        )

    async def newer_than(self, version: int, *, seconds: float) -> AgentState:
        """The state as soon as its version is above `version`, or after `seconds`; at once where the board is closed, so whoever asks in a loop has to look at that."""
        with contextlib.suppress(TimeoutError):  # no news is an answer
            async with asyncio.timeout(seconds):
                while self._version <= version and not self.closed:
                    await self._changed.wait()
        return self.state()

    def close(self) -> None:
        """Lets nobody wait any longer."""
        self.closed = True
        self._wake()

    def _bump(self) -> None:
        self._version += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
