"""The operator's stream of measurements: lines of JSON with what has changed, until somebody ends it.

A stream ends with its reader, with this process, and when too many others have come after it: a reader whose machine has died leaves its stream behind, and must not
keep its successors out. Nor may it count as a supervisor, so the kernel gives a connection up whose peer acknowledges nothing.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from aiohttp import ClientConnectionResetError, web

from taskfleet.api.measurements import CHANGES_SECONDS, HEARTBEAT_SECONDS, MeasurementBatch
from taskfleet.event_wait import set_within
from taskfleet.gateway.tally import Measurements, Reader

MAX_STREAMS = 4
# A reader that takes or acknowledges nothing for so long is gone.
SILENCE_SECONDS = 20.0


class MeasurementStreams:
    """The streams of this replica. `told` is called whenever a reader has been told something."""

    def __init__(self, measurements: Measurements, *, told: Callable[[], None]) -> None:
        self._measurements = measurements
        self._told = told
        self._open: deque[asyncio.Event] = deque()  # set: the stream is to end

    def end(self) -> None:
        """Ends all streams, each after its last line."""
        for ended in self._open:
            ended.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One stream, to its end."""
        ended = asyncio.Event()
        self._open.append(ended)
        if len(self._open) > MAX_STREAMS:
            self._open[0].set()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-cache"})
        try:
            _give_up_silent(request)
            await response.prepare(request)
            await self._tell(response, ended)
            await response.write_eof()
        except (ClientConnectionResetError, ConnectionResetError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._open.remove(ended)
        return response

    async def _tell(self, response: web.StreamResponse, ended: asyncio.Event) -> None:
        reader, clock = Reader(self._measurements), asyncio.get_running_loop().time
        due = clock()
        while True:
            batch = reader.changes()
            if batch is not None or clock() >= due:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await response.write(_line(batch or reader.nothing()))
                self._told()
                due = clock() + HEARTBEAT_SECONDS
            if ended.is_set():
                return
            await set_within(ended, CHANGES_SECONDS)


def _line(batch: MeasurementBatch) -> bytes:
    return batch.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n"


def _give_up_silent(request: web.Request) -> None:
    wire = request.transport.get_extra_info("socket") if request.transport is not None else None
    if wire is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_SECONDS * 1000))
