"""Asks a candidate what its stable revision was asked: after the stable answer has gone out, beside the traffic, and for the comparison only.

Nothing here may hurt live requests: few are under way at a time, large ones are left out, none waits for anything, and a pod that does not answer is not replaced. Nothing of it
is metered as traffic, is demand, goes to a client or into a log, or outlives the process.
"""

import asyncio
import os
import time
from collections import Counter

from taskfleet.api.taskmodel import Metric
from taskfleet.evaluation.scorers import agree
from taskfleet.gateway import request as requests
from taskfleet.gateway.call import Call
from taskfleet.gateway.errors import BadRequestError, UpstreamTimedOutError
from taskfleet.gateway.paths import PATHS
from taskfleet.gateway.pick import pick_pod
from taskfleet.gateway.records import Key, TaskRecord
from taskfleet.gateway.routes import RouteTable, Target
from taskfleet.gateway.schema_check import UncheckedError
from taskfleet.gateway.tally import Measurements, ShadowFigures, Tally
from taskfleet.gateway.transcript import Transcript
from taskfleet.gateway.upstream import ElsewhereError, Load, Upstream

MAX_UNDER_WAY = 16
MAX_OF_TASK = 4
MAX_REQUEST_BYTES = 256 * 1024
MAX_SECONDS = 120.0


class Mirror:
    """The mirrored requests of this replica."""

    def __init__(self, *, table: RouteTable, upstream: Upstream, load: Load, measurements: Measurements) -> None:
        self._table = table
        self._upstream = upstream
        self._load = load
        self._measurements = measurements
        self._under_way: dict[asyncio.Task[None], Key] = {}
        self._of_task: Counter[Key] = Counter()

    @property
    def under_way(self) -> int:
        """Mirrored requests that have no answer yet."""
        return len(self._under_way)

    def close(self) -> None:
        """Drops what is under way."""
        for task in self._under_way:
            task.cancel()

    def ask(self, call: Call, candidate: Target, stable_text: str | None) -> None:
        """Mirrors an answered request, or counts it as skipped."""
        tally = self._measurements.of(candidate.revision)
        if len(self._under_way) >= MAX_UNDER_WAY or self._of_task[call.task] >= MAX_OF_TASK or len(call.raw) > MAX_REQUEST_BYTES:
            tally.skipped()
            return
        task = asyncio.create_task(self._ask(call, candidate, tally, stable_text))
        self._under_way[task] = call.task
        self._of_task[call.task] += 1
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        key = self._under_way.pop(task)
        self._of_task[key] -= 1
        if not self._of_task[key]:
            del self._of_task[key]

    async def _ask(self, call: Call, candidate: Target, tally: Tally, stable_text: str | None) -> None:
        endpoints = self._table.endpoints(call.name.namespace, candidate.pool)
        endpoint = pick_pod(candidate.model, endpoints, self._load.in_flight, self._load.resting(candidate.model))
        body = _body(call, candidate)
        if endpoint is None or body is None:
            tally.skipped()
            return
        within = min(call.limits.request, MAX_SECONDS)
        began = time.monotonic()
        self._load.enter(endpoint.address)
        try:
            answer = await self._upstream.ask(
                endpoint,
                PATHS[call.inference.kind],
                body,
                request_id=f"shadow-{os.urandom(12).hex()}",
                trace=None,
                within=within,
                quiet=within,
            )
            async with answer:
                said = Transcript(call.inference.kind, stream=False)
                while part := await answer.chunk():
                    said.add(part)
        except ElsewhereError as error:
            if error.executed:
                tally.mirrored(error=True, seconds=None)
            else:
                tally.skipped()
        except UpstreamTimedOutError:
            tally.mirrored(error=True, seconds=None)
        else:
            good = answer.status == 200
            tally.mirrored(error=answer.status >= 500, seconds=time.monotonic() - began if good else None)
            if good:
                self._compare(call, tally, said.text(), stable_text)
        finally:
            self._load.leave(endpoint.address)

    def _compare(self, call: Call, tally: Tally, text: str | None, stable_text: str | None) -> None:
        shadow, task = tally.shadow, self._table.task(call.task)
        if text is None or shadow is None or task is None:
            return
        if call.schema_asked:
            tally.check(text, shadow.answers)
        if stable_text is not None:
            _agree(task, tally, shadow, text, stable_text)


def _agree(task: TaskRecord, tally: Tally, shadow: ShadowFigures, text: str, stable_text: str) -> None:
    follows = tally.schema.allows if tally.schema is not None else None
    try:
        agreed = agree(task.metric or Metric.EXACT_MATCH, text, stable_text, tolerance_percent=task.tolerance_percent, follows=follows)
    except UncheckedError:
        return
    shadow.compared += 1
    shadow.agreed += agreed
    tally.version += 1


def _body(call: Call, candidate: Target) -> bytes | None:
    """The request as the candidate is to be asked, for a whole answer; None where its task does not take it."""
    try:
        inference = requests.parse(call.raw, call.inference.kind)
        inference.stream = False
        for field in ("stream", "stream_options"):
            inference.body.pop(field, None)
        inference.prepare(candidate.revision.shaper)
        return inference.encode(candidate.model)
    except BadRequestError:
        return None
