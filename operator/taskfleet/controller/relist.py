"""Compares the cache with the API server, because watches alone don't tell the truth for ever.

kopf never synthesises the deletions that happened between a broken watch and the list after it, and a watch can stand still without breaking. The comparison lists names and
versions only; what was missed is mended here, and a watch that misses changes twice without a sign of life makes the process unhealthy.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from taskfleet.controller import metrics
from taskfleet.controller.cache import Cache, Json, ObjectKey, key_of
from taskfleet.event_wait import set_within
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import KubeError
from taskfleet.kube.resources import Resource
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# After a list by kopf: it comes in one event per object, and one comparison after all of them is enough.
SETTLE_SECONDS = 2.0
# What is newer on the server than in the cache may be on its way.
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind that the cache holds, and which objects of it. `users`: people write it and wait for an answer, so it is compared often."""

    resource: Resource
    label_selector: str = ""
    users: bool = False


class Relist:
    """`fill` for a fresh start, then `run`."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        watched: Sequence[Watched],
        *,
        seconds: float,
        users_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._watched = tuple(watched)
        self._seconds = seconds
        self._users_seconds = min(users_seconds, seconds)
        self._clock = clock
        self._hinted: set[Resource] = set()
        self._hint = asyncio.Event()
        self._misses: dict[Resource, int] = {}
        self.filled = False

    async def fill(self) -> None:
        """Lists everything; afterwards the cache is no older than this call. Raises KubeError."""
        await asyncio.gather(*(self._list(watched) for watched in self._watched))
        self.filled = True

    def hint(self, resource: Resource) -> None:
        """A kind was listed anew by its watch: there may be deletions that it did not tell."""
        if self.filled:
            self._hinted.add(resource)
            self._hint.set()

    def heard(self, resource: Resource) -> None:
        """The watch of a kind told something: it is alive."""
        self._misses.pop(resource, None)

    def behind(self) -> str | None:
        """The kind whose watch missed changes in two comparisons and told nothing since; what liveness looks at.

        A comparison that finds nothing missed does not make it well: perhaps nothing happened.
        """
        return next((resource.kind for resource, misses in self._misses.items() if misses >= 2), None)

    async def run(self) -> None:
        """Compares all kinds in turn, what users write more often, and hinted ones soon, until it is cancelled."""
        all_due, users_due = self._clock() + self._seconds, self._clock() + self._users_seconds
        while True:
            hinted = await self._hinted_until(min(all_due, users_due))
            now = self._clock()
            if now >= all_due:
                all_due, users_due = now + self._seconds, now + self._users_seconds
                await self._compare_all(self._watched)
                continue
            kinds = [watched for watched in self._watched if watched.resource in hinted]
            if now >= users_due:
                users_due = now + self._users_seconds
                kinds += [watched for watched in self._watched if watched.users and watched not in kinds]
            await self._compare_all(kinds, relisted=hinted)

    async def _hinted_until(self, due: float) -> set[Resource]:
        """The hinted kinds, a moment after the first hint; none where nothing was hinted until `due`."""
        if not await set_within(self._hint, max(0.0, due - self._clock())):
            return set()
        await asyncio.sleep(SETTLE_SECONDS)
        kinds, self._hinted = self._hinted, set()
        self._hint.clear()
        return kinds

    async def _compare_all(self, watched: Sequence[Watched], *, relisted: AbstractSet[Resource] = frozenset()) -> None:
        for one in watched:
            try:
                await self.compare(one, relisted=one.resource in relisted)
            except KubeError as error:
                log.warning("can't compare the cache", extra=fields(kind=one.resource.kind, why=error.message))

    async def compare(self, watched: Watched, *, relisted: bool = False) -> None:
        """Finds what the watch missed of one kind, and mends it. Raises KubeError.

        `relisted`: the watch has just begun anew with a list. The deletions from before are not told then, and a watch that tells none of them is in order.
        """
        resource = watched.resource
        found = await self._kube.list(resource, label_selector=watched.label_selector, metadata_only=True)
        listed, as_of = {key_of(item): int(item["metadata"]["resourceVersion"]) for item in found.items}, int(found.resource_version)
        if relisted:
            self._drop(resource, self._gone(resource, listed.keys(), as_of=as_of), as_of=as_of)
        newer, gone = self._newer(resource, listed), self._gone(resource, listed.keys(), as_of=as_of)
        if not newer and not gone:
            return
        await asyncio.sleep(GRACE_SECONDS)
        # Only these: in a busy fleet something else is on its way at every moment.
        newer &= self._newer(resource, listed)
        gone = dict(gone.items() & self._cache.versions(resource).items())
        self._drop(resource, gone, as_of=as_of)
        # What was deleted meanwhile was missed by nobody.
        missed = len(gone) + (len(newer & await self._list(watched)) if newer else 0)
        if missed:
            self._misses[resource] = self._misses.get(resource, 0) + 1
            log.warning("the watch missed changes", extra=fields(kind=resource.kind, objects=missed))
            metrics.RELIST_CORRECTIONS.labels(resource.kind).inc(missed)

    def _newer(self, resource: Resource, listed: Mapping[ObjectKey, int]) -> set[ObjectKey]:
        """What the cache has in older versions only, or not at all."""
        return {key for key, version in listed.items() if self._version(resource, key) < version}

    def _gone(self, resource: Resource, listed: AbstractSet[ObjectKey], *, as_of: int) -> Mapping[ObjectKey, tuple[str, int]]:
        """What the cache has and a list has not; what was written after the list was made is not meant."""
        return {key: held for key, held in self._cache.versions(resource).items() if key not in listed and held[1] <= as_of}

    def _version(self, resource: Resource, key: ObjectKey) -> int:
        body = self._cache.get(resource, key[1], key[0])
        return int(body["metadata"]["resourceVersion"]) if body is not None else -1

    async def _list(self, watched: Watched) -> AbstractSet[ObjectKey]:
        """Takes in everything of a kind; the keys that there are."""
        found = await self._kube.list(watched.resource, label_selector=watched.label_selector)
        for item in found.items:
            self._cache.put(watched.resource, item)
        listed, as_of = {key_of(item) for item in found.items}, int(found.resource_version)
        self._drop(watched.resource, self._gone(watched.resource, listed, as_of=as_of), as_of=as_of)
        return listed

    def _drop(self, resource: Resource, gone: Mapping[ObjectKey, tuple[str, int]], *, as_of: int) -> None:
        for key, (uid, _) in gone.items():
            log.info("found gone by comparison", extra=fields(kind=resource.kind, name="/".join(part for part in key if part)))
            self._cache.remove(resource, _ghost(key, uid, as_of))


def _ghost(key: ObjectKey, uid: str, version: int) -> Json:
    return {"metadata": {"namespace": key[0], "name": key[1], "uid": uid, "resourceVersion": str(version)}}
