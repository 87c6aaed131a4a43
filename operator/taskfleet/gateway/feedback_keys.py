"""The keys that sign answers' ids, in one Secret for all replicas: `key-N` of 32 random bytes, of which the highest N signs and all are good.

The chart declares the Secret empty, so that no tool that renders or compares it ever sees a key or makes another one; the first replica that finds it empty writes `key-0`. To
change the key add one with a higher number, and take the old one out when its ids are too old. Whoever reads the Secret can vote in others' names, and nothing else.
"""

import asyncio
import base64
import binascii
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

from taskfleet.gateway.answer_ids import MAX_KEY_NUMBER, KeyRing
from taskfleet.kube.errors import ConflictError, KubeError
from taskfleet.kube.resources import SECRETS, Resource
from taskfleet.logs import fields

log = logging.getLogger(__name__)

FIELD_MANAGER = "taskfleet-gateway"
KEY_BYTES = 32
_PREFIX = "key-"
# How soon a new key signs everywhere. Another replica may use it before: who meets its ids looks at once.
REREAD_SECONDS = 600.0
RETRY_SECONDS = 5.0
# Ids of keys that never were must not cost the API server a request each.
LEAST_SECONDS = 10.0


class Objects(Protocol):
    """The API server's objects; `kube.Kube` has them. Both raise KubeError."""

    async def get(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any] | None: ...

    async def apply(self, resource: Resource, body: dict[str, Any], *, force: bool = True, field_manager: str = "") -> dict[str, Any]: ...


class FeedbackKeys:
    """Keeps `ring` as the Secret has it."""

    def __init__(self, kube: Objects, *, namespace: str, secret: str) -> None:
        self._kube = kube
        self.ring = KeyRing()
        self._namespace = namespace
        self._secret = secret
        self._lock = asyncio.Lock()
        self._looked = -LEAST_SECONDS
        self._trouble = ""
        self.tried = asyncio.Event()  # once, with whatever success

    async def run(self) -> None:
        """Looks for ever, now and then; not at all where no Secret is named."""
        if not self._secret:
            self.tried.set()
            return
        while True:
            async with self._lock:
                await self._look()
            self.tried.set()
            await asyncio.sleep(REREAD_SECONDS if self.ring.newest else RETRY_SECONDS)

    async def reread(self) -> None:
        """Somebody has met a key that is not known. Looks again unless that was done a moment ago."""
        async with self._lock:
            if time.monotonic() - self._looked >= LEAST_SECONDS:
                await self._look()

    async def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            keys = await self._read()
        except KubeError as error:
            # What was known stays good. Told once, and again when it is something else.
            if self._trouble != error.message:
                self._trouble = error.message
                log.warning("feedback key can't be read", extra=fields(secret=f"{self._namespace}/{self._secret}", why=error.message))
            return
        self._trouble = ""
        before = self.ring.numbers
        self.ring.put(keys)
        if self.ring.numbers != before:
            log.info("feedback keys read", extra=fields(secret=f"{self._namespace}/{self._secret}", keys=self.ring.numbers))

    async def _read(self) -> Mapping[int, bytes]:
        """The keys; makes the first where there is none. Raises KubeError."""
        found = await self._kube.get(SECRETS, self._secret, self._namespace)
        if found is None:
            raise KubeError("the Secret does not exist: the chart declares it")
        keys = keys_of(found)
        if keys:
            return keys
        try:
            return keys_of(await self._kube.apply(SECRETS, self._first(found), force=False, field_manager=FIELD_MANAGER))
        except ConflictError:
            # Another replica was first.
            return keys_of(await self._kube.get(SECRETS, self._secret, self._namespace) or {})

    def _first(self, found: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            # The version that was seen empty: of two replicas that write at a time one is refused.
            "metadata": {"name": self._secret, "namespace": self._namespace, "resourceVersion": found["metadata"]["resourceVersion"]},
            "data": {f"{_PREFIX}0": base64.b64encode(os.urandom(KEY_BYTES)).decode()},
        }


def keys_of(secret: dict[str, Any]) -> dict[int, bytes]:
    """The keys in a Secret. Entries that are none, or too short to be safe, are not."""
    found = {}
    for name, text in (secret.get("data") or {}).items():
        number = name.removeprefix(_PREFIX)
        if not name.startswith(_PREFIX) or not number.isdecimal() or int(number) > MAX_KEY_NUMBER:
            continue
        try:
            key = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            continue
        if len(key) >= KEY_BYTES:
            found[int(number)] = key
    return found
