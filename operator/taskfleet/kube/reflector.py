"""Keeps a copy of all objects of one kind: list, then watch, and list again where the watch can't be continued.

Deletions that happened between two lists are found by comparison. While the API server is away the copy stays as it was.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from taskfleet.kube.client import WATCH_SECONDS, Kube, WatchEvent
from taskfleet.kube.errors import GoneError, KubeError
from taskfleet.kube.resources import Resource
from taskfleet.logs import fields

log = logging.getLogger(__name__)

Json = dict[str, Any]
Key = tuple[str, str]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0


class Reflector:
    """One kind. Callbacks are called in the order of changes, within the event loop; an exception in one ends `run`.

    `synced` is set after the first list. `heard` is the monotonic time at which the API server told last that the copy is up to date; a watch that is silent says so at its
    end, after `watch_seconds`.
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        watch_seconds: int = WATCH_SECONDS,
        on_upsert: Callable[[Json], None] = lambda _: None,
        on_delete: Callable[[Json], None] = lambda _: None,
    ) -> None:
        self._kube = kube
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._watch_seconds = watch_seconds
        self._on_upsert = on_upsert
        self._on_delete = on_delete
        self.objects: dict[Key, Json] = {}
        self.synced = asyncio.Event()
        self.heard = float("-inf")

    async def run(self) -> None:
        """Lists and watches until it is cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                version = await self._list()
                pause = FIRST_PAUSE_SECONDS
                await self._follow(version)
            except GoneError:
                log.info("listing anew: the watch is too far behind", extra=fields(kind=self._resource.kind))
            except KubeError as error:
                log.warning("can't list or watch", extra=fields(kind=self._resource.kind, why=str(error), again_in=round(pause, 1)))
                # Jitter, so that many replicas don't come back at the same moment.
                await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  no secret
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _list(self) -> str:
        found = await self._kube.list(self._resource, namespace=self._namespace, label_selector=self._label_selector)
        listed = {_key(item): item for item in found.items}
        for key in [key for key in self.objects if key not in listed]:
            self._on_delete(self.objects.pop(key))
        for key, item in listed.items():
            self._upsert(key, item)
        self.synced.set()
        self.heard = time.monotonic()
        return found.resource_version

    async def _follow(self, version: str) -> None:
        """Watches from `version` on, again and again; a broken watch is continued where it ended. Raises KubeError where that can't be done."""
        failures = 0
        while True:
            heard = False
            try:
                events = self._kube.watch(
                    self._resource,
                    resource_version=version,
                    namespace=self._namespace,
                    label_selector=self._label_selector,
                    timeout_seconds=self._watch_seconds,
                )
                async for event in events:
                    heard = True
                    self.heard = time.monotonic()
                    version = event.object["metadata"]["resourceVersion"]
                    self._take(event)
                # The server has ended it, in order.
                self.heard = time.monotonic()
                failures = 0
            except GoneError:
                raise
            except KubeError:
                failures = 0 if heard else failures + 1
                if failures > 2:
                    raise
                await asyncio.sleep(FIRST_PAUSE_SECONDS)

    def _take(self, event: WatchEvent) -> None:
        if event.type == "BOOKMARK":
            return
        key = _key(event.object)
        if event.type == "DELETED":
            self.objects.pop(key, None)
            self._on_delete(event.object)
        else:
            self._upsert(key, event.object)

    def _upsert(self, key: Key, item: Json) -> None:
        before = self.objects.get(key)
        self.objects[key] = item
        if before is None or before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            self._on_upsert(item)


def _key(item: Json) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
