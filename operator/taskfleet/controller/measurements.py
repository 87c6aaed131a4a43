"""What gateways measure: a stream of counts from every replica, and the counts of a rollout's step as differences of them. Demand is handed on to `demand`.

To read is also to watch over: gateways send nothing to candidates while nobody does (`api.measurements`). So only the leader reads, and all the time. What was heard is kept in
memory alone: after a restart the evidence of a step begins anew.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import aiohttp
from pydantic import ValidationError

from taskfleet.api.measurements import HEARTBEAT_SECONDS, MEASUREMENTS_PATH, Counts, MeasurementBatch, RevisionCounts, ShadowCounts
from taskfleet.controller import metrics
from taskfleet.controller.demand import GatewayDemand
from taskfleet.controller.gateways import Slices, Tokens, host_of, replicas
from taskfleet.controller.keys import Key, TaskKey
from taskfleet.kube.errors import KubeError
from taskfleet.logs import fields
from taskfleet.planning.snapshot import Evidence, Window

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS
# How often it is looked whether replicas have come or gone.
LOOK_SECONDS = 0.5
# How long after a lost stream the next one is opened, twice as long after each in a row on which nothing was heard, less a random part of it.
RECONNECT_SECONDS = 0.5
MAX_RECONNECT_SECONDS = 5.0
# How often counts of revisions that are gone are forgotten.
FORGET_SECONDS = 60.0
# The first line has every revision, of a few hundred bytes each.
MAX_LINE_BYTES = 64 * 1024 * 1024


class Measurements(Protocol):
    """What the work on a TaskModel needs of its traffic."""

    def evidence(self, key: TaskKey, *, candidate_uid: str, stable_uid: str, since: datetime) -> Evidence | None:
        """Of both revisions since `since`, or since it was asked for first, if that was later; None before anything was heard."""

    def forget(self, key: TaskKey) -> None:
        """The task is on no step."""


Processes = dict[str, dict[str, RevisionCounts]]  # counts by process of the gateway, then by UID of the revision


@dataclass(frozen=True, slots=True)
class _Window:
    """`before` has the counts at its beginning."""

    candidate_uid: str
    stable_uid: str
    step_since: datetime
    since: datetime
    before: Processes

    def begin(self, process: str, counts: Mapping[str, RevisionCounts]) -> None:
        """Takes a process in, with what it has counted so far; does nothing for one that is known."""
        self.before.setdefault(process, {uid: counts[uid] for uid in (self.candidate_uid, self.stable_uid) if uid in counts})


class GatewayMeasurements:
    """`slices` gives the EndpointSlices of the gateway's Service, None while they are not known; `enqueue` asks for a TaskModel of whose step something was heard.

    `exists` says by namespace, name, and UID whether there is such a revision: counts of others are forgotten, however long their gateway lives.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tokens: Tokens,
        *,
        slices: Slices,
        port: int,
        audience: str,
        enqueue: Callable[[Key], None],
        exists: Callable[[str, str, str], bool],
        demand: GatewayDemand,
        now: Callable[[], datetime],
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._slices = slices
        self._port = port
        self._audience = audience
        self._enqueue = enqueue
        self._exists = exists
        self._demand = demand
        self._now = now
        self._processes: Processes = {}
        self._heard: dict[str, str] = {}  # by address: the process that is listened to
        self._windows: dict[TaskKey, _Window] = {}

    async def run(self) -> None:
        """Listens to every replica until it is cancelled."""
        listening: dict[str, asyncio.Task[None]] = {}
        clock = asyncio.get_running_loop().time
        forgotten = clock()
        try:
            while True:
                present = set(replicas(self._slices() or []))
                for address in listening.keys() - present:
                    listening.pop(address).cancel()
                for address in present - listening.keys():
                    listening[address] = asyncio.create_task(self._listen(address), name=f"measurements of {address}")
                self._demand.hears(all_gateways=self._hears_all())
                self._forget_ended()
                if clock() - forgotten >= FORGET_SECONDS:
                    self._forget_gone()
                    forgotten = clock()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in listening.values():
                task.cancel()
            await asyncio.gather(*listening.values(), return_exceptions=True)

    def evidence(self, key: TaskKey, *, candidate_uid: str, stable_uid: str, since: datetime) -> Evidence | None:
        if not self._processes:
            return None
        window = self._windows.get(key)
        if window is None or (window.candidate_uid, window.stable_uid, window.step_since) != (candidate_uid, stable_uid, since):
            window = _Window(candidate_uid, stable_uid, since, max(since, self._now()), {})
            for name, counts in self._processes.items():
                window.begin(name, counts)
            self._windows[key] = window
        candidate, stable = self._counted(window, candidate_uid), self._counted(window, stable_uid)
        return Evidence(
            since=window.since,
            candidate=_window([(now.live, then.live) for now, then in candidate]),
            stable=_window([(now.live, then.live) for now, then in stable]),
            shadow=_shadow([(now.shadow or ShadowCounts(), then.shadow or ShadowCounts()) for now, then in candidate]),
            complete=self._hears_all(),
        )

    def forget(self, key: TaskKey) -> None:
        self._windows.pop(key, None)

    def _hears_all(self) -> bool:
        slices = self._slices()
        present = replicas(slices or [])
        # Where there is no gateway at all, nobody knows anything.
        return bool(present) and all(address in self._heard for address in present)

    def _counted(self, window: _Window, uid: str) -> list[tuple[RevisionCounts, RevisionCounts]]:
        """The revision's counts now and at the beginning, at every process that had requests for it."""
        found = []
        for name, counts in self._processes.items():
            now = counts.get(uid)
            if now is not None and name in window.before:
                found.append((now, window.before[name].get(uid) or now.model_copy(update={"live": Counts(), "shadow": None})))
        return found

    async def _listen(self, address: str) -> None:
        tries = 0
        while True:
            try:
                async for batch in self._stream(address):
                    self._take(address, batch)
                why = "it ended the stream"
            except (KubeError, aiohttp.ClientError, TimeoutError, OSError, ValidationError, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
            finally:
                heard = self._heard.pop(address, None)
                metrics.MEASURED_GATEWAYS.set(len(self._heard))
                # A gateway with two addresses is heard twice.
                if heard is not None and heard not in self._heard.values():
                    self._demand.lost(heard)
                    self._demand.hears(all_gateways=self._hears_all())
            if heard is not None:
                log.warning("gateway's measurements are not heard", extra=fields(gateway=address, why=why))
            tries = 0 if heard is not None else tries + 1
            await asyncio.sleep(pause(tries))

    async def _stream(self, address: str) -> AsyncIterator[MeasurementBatch]:
        token = await self._tokens.get(self._audience)
        async with self._session.get(
            f"http://{host_of(address)}:{self._port}{MEASUREMENTS_PATH}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise ValueError(f"it answered {response.status}")
            rest = bytearray()
            async for piece in response.content.iter_any():
                *lines, last = (rest + piece).split(b"\n")
                for line in lines:
                    yield MeasurementBatch.model_validate_json(bytes(line))
                rest = bytearray(last)
                if len(rest) > MAX_LINE_BYTES:
                    raise ValueError("it sends a line without end")

    def _take(self, address: str, batch: MeasurementBatch) -> None:
        is_new = self._heard.get(address) != batch.replica
        self._heard[address] = batch.replica
        metrics.MEASURED_GATEWAYS.set(len(self._heard))
        self._demand.take(batch)
        if is_new:
            self._demand.hears(all_gateways=self._hears_all())
        known = self._processes.setdefault(batch.replica, {})
        known.update((counts.uid, counts) for counts in batch.revisions)
        for window in self._windows.values():
            # Of a process that is heard for the first time nobody knows what was counted before the window began.
            window.begin(batch.replica, known)
        for key in {TaskKey(counts.namespace, counts.task_model) for counts in batch.revisions} & self._windows.keys():
            self._enqueue(key)

    def _forget_ended(self) -> None:
        """Processes that are heard no more, once no window counts on them."""
        needed = {name for window in self._windows.values() for name in window.before} | set(self._heard.values())
        self._processes = {name: counts for name, counts in self._processes.items() if name in needed}

    def _forget_gone(self) -> None:
        """Revisions that there are no more."""
        for counts in self._processes.values():
            for uid in [uid for uid, one in counts.items() if not self._exists(one.namespace, one.revision, uid)]:
                del counts[uid]


def pause(silent: int, *, share: Callable[[], float] = random.random) -> float:
    """Seconds until the next stream is opened, after so many in a row on which nothing was heard. `share` is evenly spread in [0, 1)."""
    whole = min(MAX_RECONNECT_SECONDS, RECONNECT_SECONDS * 2.0 ** min(silent, 10))
    return whole * (0.5 + share() / 2)


def _window(pairs: list[tuple[Counts, Counts]], *, compared: int = 0, agreed: int = 0) -> Window:
    latency: Counter[int] = Counter()
    for now, then in pairs:
        latency.update(dict(now.latency))
        latency.subtract(dict(then.latency))
    return Window(
        requests=sum(now.requests - then.requests for now, then in pairs),
        errors=sum(now.errors - then.errors for now, then in pairs),
        checked=sum(now.checked - then.checked for now, then in pairs),
        invalid=sum(now.invalid - then.invalid for now, then in pairs),
        good=sum(now.good - then.good for now, then in pairs),
        bad=sum(now.bad - then.bad for now, then in pairs),
        compared=compared,
        agreed=agreed,
        latency=_positive(latency),
    )


def _shadow(pairs: list[tuple[ShadowCounts, ShadowCounts]]) -> Window:
    return _window(
        [(now.answers, then.answers) for now, then in pairs],
        compared=sum(now.compared - then.compared for now, then in pairs),
        agreed=sum(now.agreed - then.agreed for now, then in pairs),
    )


def _positive(latency: Mapping[int, int]) -> dict[int, int]:
    return {bucket: count for bucket, count in sorted(latency.items()) if count > 0}
