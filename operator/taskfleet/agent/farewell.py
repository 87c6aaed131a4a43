"""The end of a pod that may have the last copy of an artifact: it stays a little for the pod that comes in its place.

Where the only pod of a pool is deleted, the next one starts beside it. Without this, the last copy would often be gone just before that one asks for it, and where the source
has lost the artifact, nothing would bring it back.
"""

import asyncio
import logging
import time

from taskfleet.agent.copies import Copies
from taskfleet.agent.desired import DesiredDocument
from taskfleet.agent.pace import Pace
from taskfleet.agent.peers import Peers
from taskfleet.artifacts.store import Shelf, Store
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# Between two questions of a pod that is copying: it checks the base before it asks for adapters.
QUIET_SECONDS = 3.0


class Farewell:
    """`linger` counts from the moment at which the pod was to go: what the engine needs for its own end is a part of it. A longer one keeps the pod's accelerator from others."""

    def __init__(
        self, *, document: DesiredDocument, store: Store, copies: Copies, peers: Peers, pace: Pace, linger: float, seconds: float
    ) -> None:
        self._document = document
        self._store = store
        self._copies = copies
        self._peers = peers
        self._pace = pace
        self._linger = linger
        self._seconds = seconds

    async def take(self, since: float) -> None:
        """Returns when nobody needs a copy from here any more, or in `seconds`; `since` (monotonic clock) is when the pod began to go."""
        latest = time.monotonic() + self._seconds
        stay = since + self._linger
        looked = float("-inf")
        while (now := time.monotonic()) < latest:
            if not self._copies.giving and now >= self._copies.asked + QUIET_SECONDS:
                if now >= stay:
                    return
                # At first, and again when a pod has copied something: it may have everything now.
                if looked <= self._copies.asked:
                    looked = now
                    if (last := await asyncio.to_thread(self._last)) is None:
                        return
                    log.info("no other pod has a copy of an artifact; staying for one that starts", extra=fields(digest=last))
            await asyncio.sleep(self._pace.drain)

    def _last(self) -> str | None:
        """The digest of something in force that no other pod gives copies of; None where all is elsewhere, too."""
        desired = self._document.current
        if desired is None:
            return None
        held = [(Shelf.BASE, desired.base_digest), *((Shelf.ADAPTERS, adapter.adapter.digest) for adapter in desired.adapters)]
        for shelf, digest in held:
            if digest is not None and self._store.manifest(shelf, digest) is not None and not self._peers.have(shelf, digest):
                return digest
        return None
