"""Asks the pool's other pods for copies of artifacts: they are near, and they are there when a source is not.

They are found by DNS, under the name of the pool's headless Service, which needs neither the operator nor the API server. What they give is checked like what a source gives
(`artifacts/copying.py`). Which digest a version stands for is never asked of them: only digests that the operator recorded are fetched.
"""

import http.client
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taskfleet import names
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.api.agent import FILE_PATH, MANIFEST_PATH, PoolIdentity
from taskfleet.artifacts.copying import Copying, HolderBusy, HolderFailed, NoCopy, ReadManifest
from taskfleet.artifacts.manifest import MAX_MANIFEST_BYTES
from taskfleet.artifacts.store import Shelf
from taskfleet.logs import fields

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
READ_SECONDS = 30.0  # between two pieces
# DNS names pods also for a while after their end: one that does not answer is left alone for so long.
SILENT_SECONDS = 30.0
# The name of the pool's pods has this one's address within a second or two of its start. Where it has not, DNS tells of an earlier time, and other pods may be missing, too;
# where it has not for so long, DNS does not work, and nothing waits for it.
NAMED_SECONDS = 60.0
PIECE_BYTES = 256 * 1024

Address = tuple[str, int]


class Peers:
    """Used by threads, several at a time. `fixed` addresses are asked instead of those that DNS gives; `own_address` is never asked."""

    def __init__(
        self,
        *,
        token_file: Path,
        own_address: str,
        fixed: tuple[Address, ...],
        ended: threading.Event,
        metrics: AgentMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_file = token_file
        self._own_address = own_address
        self._fixed = fixed
        self._ended = ended
        self._metrics = metrics
        self._clock = clock
        self._pool: PoolIdentity | None = None
        self._silent: dict[Address, float] = {}
        self._begun = clock()
        self._named = True

    def use_pool(self, pool: PoolIdentity) -> None:
        """Whose pods to ask."""
        self._pool = pool

    def fetch(self, shelf: Shelf, digest: str, into: Path, *, read: ReadManifest, most: int, seconds: float) -> bytes:
        """Writes the files into the empty folder `into`, at most `most` bytes, and returns the manifest.

        Raises NoCopy, then with the folder empty again, and what `read` raises.
        """
        copying = Copying(digest, into, read=read, most=most, seconds=seconds, ended=self._ended, clock=self._clock)
        try:
            manifest = copying.take(self._peers(shelf))
        except NoCopy as gap:
            if not gap.perhaps and not self._named and self._clock() < self._begun + NAMED_SECONDS:
                gap = NoCopy("DNS has no address of this pod yet, so it may lack those of others", perhaps=True)
            self._metrics.copies.labels("failed" if gap.perhaps else "none").inc()
            raise gap from None
        self._metrics.copies.labels("copied").inc()
        log.info("artifact was copied from the pool's other pods", extra=fields(shelf=shelf.value, digest=digest))
        return manifest

    def have(self, shelf: Shelf, digest: str) -> bool:
        """Does another pod give copies of this artifact? Asks also those that were silent just now: they may have been about to start."""
        self._silent.clear()
        for peer in self._peers(shelf):
            try:
                peer.manifest(digest)
            except (LookupError, HolderBusy, HolderFailed):
                continue
            return True
        return False

    def _peers(self, shelf: Shelf) -> "list[_Peer]":
        token = self._token()
        return [_Peer(address, shelf, token, self._fell_silent) for address in self._addresses()] if token else []

    def _addresses(self) -> list[Address]:
        """In any order, so that one pod is not asked by all."""
        now = self._clock()
        found = [address for address in self._fixed or self._resolved() if self._silent.get(address, now) <= now]
        random.shuffle(found)
        return found

    def _resolved(self) -> tuple[Address, ...]:
        if self._pool is None:
            return ()
        # With the namespace, or a search domain outside the cluster could answer for a Service that isn't there.
        host = f"{names.peers_service(self._pool.name)}.{self._pool.namespace}.svc"
        try:
            answers = socket.getaddrinfo(host, names.AGENT_PORT, type=socket.SOCK_STREAM)
        except OSError as error:
            log.info("the pool's other pods can't be looked up", extra=fields(host=host, error=str(error)))
            answers = []
        addresses = {str(answer[4][0]) for answer in answers}
        self._named = not self._own_address or self._own_address in addresses
        return tuple((address, names.AGENT_PORT) for address in addresses - {self._own_address})

    def _token(self) -> str:
        """Read each time, because the kubelet renews it; empty where the pod has none."""
        try:
            return self._token_file.read_text().strip()
        except OSError:
            return ""

    def _fell_silent(self, address: Address) -> None:
        self._silent[address] = self._clock() + SILENT_SECONDS


@dataclass(frozen=True, slots=True)
class _Peer:
    """One pod, as a holder of copies."""

    address: Address
    shelf: Shelf
    token: str
    fell_silent: Callable[[Address], None]

    def __str__(self) -> str:
        return self.address[0]

    def manifest(self, digest: str) -> bytes:
        with self._get(MANIFEST_PATH.format(shelf=self.shelf.value, digest=digest)) as answer:
            text = answer.read(MAX_MANIFEST_BYTES + 1)
        if len(text) > MAX_MANIFEST_BYTES:
            raise HolderFailed("its manifest is too large")
        return text

    def file(self, digest: str, name: str, *, start: int) -> Generator[bytes]:
        with self._get(FILE_PATH.format(shelf=self.shelf.value, digest=digest, file=name), start=start) as answer:
            if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise HolderFailed(f"it was asked for file {name} from byte {start} on, and gives something else")
            # One read of the network at a time: whoever gives a byte every few seconds is seen to be slow.
            while piece := answer.read1(PIECE_BYTES):
                yield piece
            if answer.length:
                raise HolderFailed(f"it broke off file {name}, {answer.length} bytes before its end")

    @contextmanager
    def _get(self, path: str, *, start: int = 0) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(*self.address, timeout=CONNECT_SECONDS)
        headers = {"Authorization": f"Bearer {self.token}", "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            self._connect(connection)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status == 404:
                raise LookupError(path)
            if answer.status == 503:
                raise HolderBusy
            if answer.status not in {200, 206}:
                raise HolderFailed(f"it answered HTTP {answer.status}")
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise HolderFailed(f"{type(error).__name__}: {error}"[:200]) from error
        finally:
            connection.close()

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError as error:
            self.fell_silent(self.address)
            raise LookupError(f"{self} does not answer") from error
        connection.sock.settimeout(READ_SECONDS)
