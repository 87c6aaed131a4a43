"""Gives copies of this pod's artifacts to the pool's other pods, also while it drains: what is in the store, complete and verified, and nothing else.

The same process passes clients' requests on: so copies are bounded in number and bandwidth, and the event loop never waits for the disk.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.problems import RETRY_AFTER_SECONDS, problem, require
from taskfleet.agent.throttle import Throttle
from taskfleet.agent.tokens import Caller, TokenVerifier
from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.filenames import check_name
from taskfleet.artifacts.source import check_digest
from taskfleet.artifacts.store import Shelf, Store
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# Given at a time. Whoever is refused asks another pod, or the source.
MAX_TRANSFERS = 4
PIECE_BYTES = 256 * 1024
# For one piece. A pod that takes longer is as good as gone, and others wait for its place.
PIECE_SECONDS = 30.0


class Copies:
    """Handlers for the tokens of the pool's own pods."""

    def __init__(self, *, verifier: TokenVerifier, store: Store, metrics: AgentMetrics, bytes_per_second: float) -> None:
        self._verifier = verifier
        self._store = store
        self._metrics = metrics
        self._throttle = Throttle(bytes_per_second)
        self._transfers = 0
        self.asked = float("-inf")  # the last moment (monotonic clock) at which a pod asked for anything, or had it given

    @property
    def giving(self) -> bool:
        """Is a copy being given now?"""
        return self._transfers > 0

    async def manifest(self, request: web.Request) -> web.Response:
        require(self._verifier, request, Caller.PEER)
        self.asked = time.monotonic()
        shelf, digest = _asked_for(request)
        text = await asyncio.to_thread(self._store.manifest, shelf, digest)
        return _no_copy() if text is None else web.Response(body=text, content_type="application/octet-stream")

    async def file(self, request: web.Request) -> web.StreamResponse:
        require(self._verifier, request, Caller.PEER)
        shelf, digest = _asked_for(request)
        if self._transfers >= MAX_TRANSFERS:
            return problem(503, code="busy", message="too many copies are being given", headers={"Retry-After": RETRY_AFTER_SECONDS})
        with self._transfer():
            if await asyncio.to_thread(self._store.manifest, shelf, digest) is None:
                return _no_copy()
            try:
                # Once it is open, it can be read to its end, whatever becomes of its name.
                file = await asyncio.to_thread(_open, self._store.path(shelf, digest) / _file_name(request))
            except OSError:
                return _no_copy()
            with file:
                return await self._give(request, file)

    async def _give(self, request: web.Request, file: BinaryIO) -> web.StreamResponse:
        size = await asyncio.to_thread(file.seek, 0, 2)
        start = _start(request)
        if start is None or start > max(size - 1, 0):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200)
        response.content_type = "application/octet-stream"
        response.content_length = size - start
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        await response.prepare(request)
        await asyncio.to_thread(file.seek, start)
        try:
            await self._send(response, file)
        except TimeoutError:
            log.warning("copy is broken off: it is taken too slowly", extra=fields(to=request.remote, path=request.path))
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _send(self, response: web.StreamResponse, file: BinaryIO) -> None:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            await asyncio.sleep(self._throttle.wait(len(piece), now=time.monotonic()))
            async with asyncio.timeout(PIECE_SECONDS):
                await response.write(piece)
            self._metrics.copied_bytes.inc(len(piece))
        await response.write_eof()

    @contextmanager
    def _transfer(self) -> Iterator[None]:
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1
            self.asked = time.monotonic()


def _asked_for(request: web.Request) -> tuple[Shelf, str]:
    try:
        return Shelf(request.match_info["shelf"]), check_digest(request.match_info["digest"])
    except (ValueError, ArtifactInvalid):
        raise web.HTTPNotFound(text="no such artifact") from None


def _file_name(request: web.Request) -> str:
    """A path's `%2F` is a slash by now; no file of an artifact has one."""
    try:
        check_name(request.match_info["file"])
    except ArtifactInvalid:
        raise web.HTTPNotFound(text="no such file") from None
    return request.match_info["file"]


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _start(request: web.Request) -> int | None:
    """The first byte that is asked for. Only `bytes=N-` is spoken; None for anything else."""
    try:
        asked = request.http_range
    except ValueError:
        return None
    if asked.stop is not None or (asked.start or 0) < 0:
        return None
    return asked.start or 0


def _no_copy() -> web.Response:
    return problem(404, code="no-copy", message="this pod has no such copy to give")
