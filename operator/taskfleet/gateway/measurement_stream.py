"""The operator's stream of measurements: lines of JSON with what has changed, until somebody ends it.

A stream ends with its reader, with this process, and when too many others have come after it: a reader whose machine has died leaves its stream behind, and must not
keep its successors out. Nor may it count as a supervisor, so the kernel gives a connection up whose peer acknowledges nothing.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import ClientConnectionResetError, web

from taskfleet.api.measurements import CHANGES_SECONDS, HEARTBEAT_SECONDS, MeasurementBatch
from taskfleet.event_wait import set_within
from taskfleet.gateway.tally import Measurements, Reader

MAX_STREAMS = 4
# A reader that takes or acknowledges nothing for so long is gone.
SILENCE_SECONDS = 20.0


@dataclass(slots=True, eq=False)
class _Stream:
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False  # after its last line

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class MeasurementStreams:
    """The streams of this replica. `told` is called whenever a reader has been told something."""

    def __init__(self, measurements: Measurements, *, told: Callable[[], None]) -> None:
        self._measurements = measurements
        self._told = told
        self._open: deque[_Stream] = deque()

    def end(self) -> None:
        """Ends all streams, each after its last line."""
        for stream in self._open:
            stream.end()

    def hurry(self) -> None:
        """Somebody waits for what the operator does about this: all streams tell it now."""
        for stream in self._open:
            stream.wake.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One stream, to its end."""
        stream = _Stream()
        self._open.append(stream)
        if len(self._open) > MAX_STREAMS:
            self._open[0].end()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-cache"})
        try:
            _give_up_silent(request)
            await response.prepare(request)
            await self._tell(response, stream)
            await response.write_eof()
        except (ClientConnectionResetError, ConnectionResetError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._open.remove(stream)
        return response

    async def _tell(self, response: web.StreamResponse, stream: _Stream) -> None:
        reader, clock = Reader(self._measurements), asyncio.get_running_loop().time
        due = clock()
        while True:
            stream.wake.clear()
            batch = reader.changes()
            if batch is not None or clock() >= due:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await response.write(_line(batch or reader.nothing()))
                self._told()
                due = clock() + HEARTBEAT_SECONDS
            if stream.ended:
                return
            await set_within(stream.wake, CHANGES_SECONDS)


def _line(batch: MeasurementBatch) -> bytes:
    return batch.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n"


def _give_up_silent(request: web.Request) -> None:
    wire = request.transport.get_extra_info("socket") if request.transport is not None else None
    if wire is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_SECONDS * 1000))
