"""Fetches and verifies artifacts into the pod's store: the one place where sources, limits and the store meet."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from taskfleet.agent.peers import Peers
from taskfleet.agent.resolving import Resolving
from taskfleet.api.agent import ArtifactKind, DesiredAdapter, Limits, ResolveReply, ResolveRequest
from taskfleet.api.taskmodel import Adapter, Base
from taskfleet.artifacts import base_model, fetching, lora, mounted_base
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.base_model import BaseShapes
from taskfleet.artifacts.copying import Expected, NoCopy
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid, DigestMismatch, SourceUnavailable
from taskfleet.artifacts.listing import Order
from taskfleet.artifacts.store import Fill, Shelf, Store

# An adapter has two files that are read, and perhaps a handful beside; a base has some dozens of shards.
_MAX_FILES = {ArtifactKind.ADAPTER: 64, ArtifactKind.BASE: 512}
# What was fetched for its digest and is not in a document after so long belongs to a task that is gone, or a question that nobody asked again.
UNCLAIMED_SECONDS = 3600.0

_SHELVES = {ArtifactKind.BASE: Shelf.BASE, ArtifactKind.ADAPTER: Shelf.ADAPTERS}


class Staging:
    """All methods raise ArtifactError. `seconds` is for one artifact, `patience` for one question for a digest.

    `base_image` is where the kubelet has mounted the base; it is used there, and not in the store.
    """

    def __init__(
        self, store: Store, access: Access, peers: Peers, *, seconds: float, patience: float, base_image: Path | None = None
    ) -> None:
        self.store = store
        self._access = access
        self._peers = peers
        self._seconds = seconds
        self._base_image = base_image
        self._resolving = Resolving(self._fetch_for_digest, patience=patience)
        # Adapters that are here for their digest only, and since when (monotonic clock).
        self._unclaimed: dict[str, float] = {}

    async def base(self, base: Base, digest: str, limits: Limits) -> BaseShapes:
        """Has the base's files where the engine is started on them; returns the shapes that its adapters must have."""
        if self._base_image is not None:
            time_limit = TimeLimit.of(self._seconds, self._access)
            return await asyncio.to_thread(mounted_base.verify, self._base_image, digest, max_bytes=limits.max_base_bytes, time=time_limit)
        order = Order(kind=ArtifactKind.BASE, source=base.source, version=base.revision, credentials_key=base.credentials_key)

        def check(folder: Path) -> None:
            base_model.verify(folder)

        path = await self.store.ensure(Shelf.BASE, digest, self._fill(order, digest), check=check, most=limits.max_base_bytes)
        self.store.select_base(digest)
        return await asyncio.to_thread(base_model.verify, path)

    async def adapter(self, desired: DesiredAdapter, shapes: BaseShapes, limits: Limits) -> Path:
        """Has the adapter's two files in the store, fit for the base; returns their folder."""
        adapter, digest = desired.adapter, self.digest(desired)
        order = Order(
            kind=ArtifactKind.ADAPTER,
            source=adapter.source,
            version=desired.resolved_version or adapter.version,
            credentials_key=adapter.credentials_key,
        )
        self._unclaimed.pop(digest, None)

        def check(folder: Path) -> None:
            lora.verify(folder, base=shapes, max_rank=limits.max_rank)

        return await self.store.ensure(Shelf.ADAPTERS, digest, self._fill(order, digest), check=check, most=limits.max_adapter_bytes)

    async def resolve(self, request: ResolveRequest, limits: Limits | None) -> ResolveReply:
        """What is behind a version, now. `limits` are those of the document in force, if there is one yet.

        A source without digests of its own is asked for the bytes: they are in the store then, for whoever wants the digest.
        """
        order = Order(kind=request.kind, source=request.source, version=request.version, credentials_key=request.credentials_key)
        if fetching.has_own_digests(request.source) and not (request.kind is ArtifactKind.BASE and self._base_image is not None):
            return ResolveReply(digest=await asyncio.to_thread(fetching.resolve, order, request.digest, access=self._access))
        if request.digest is not None and self.store.path(_SHELVES[request.kind], request.digest).is_dir():
            return ResolveReply(digest=request.digest)
        if limits is None:
            raise SourceUnavailable("this pod has no document yet, which says how large an artifact may be")
        await self._remove_unclaimed()
        found = await self._resolving.digest(order, limits)
        if request.digest is not None and found.digest != request.digest:
            raise DigestMismatch(f"{request.source} has {found.digest} under version {request.version}, and {request.digest} is pinned")
        return found

    async def standing(self, adapter: Adapter) -> str | None:
        """The digest that the adapter's version stands for at its source now; None where that can't be told without fetching all of it."""
        if not fetching.has_own_digests(adapter.source):
            return None
        order = Order(kind=ArtifactKind.ADAPTER, source=adapter.source, version=adapter.version, credentials_key=adapter.credentials_key)
        return await asyncio.to_thread(fetching.standing, order, access=self._access)

    def adapter_path(self, digest: str) -> Path:
        """Where an adapter is, or would be: what the engine is told."""
        return self.store.path(Shelf.ADAPTERS, digest)

    async def forget_adapter(self, digest: str, *, unused: Callable[[], bool]) -> None:
        """Deletes an adapter's files, if `unused` still says so at the last moment."""
        await self.store.delete(Shelf.ADAPTERS, digest, unused=unused)

    def leftovers(self) -> list[str]:
        """Digests of all adapters that are here, but for those that were fetched for their digest just now."""
        return [digest for digest in self.store.digests(Shelf.ADAPTERS) if digest not in self._unclaimed]

    def cancel(self) -> None:
        """Ends what goes on in the background: the agent is ending."""
        self._resolving.cancel()

    @staticmethod
    def digest(desired: DesiredAdapter) -> str:
        """The digest of a desired adapter, which documents without it are refused for."""
        if desired.adapter.digest is None:
            raise ArtifactInvalid(f"adapter {desired.engine_name} has no digest")
        return desired.adapter.digest

    def _fill(self, order: Order, digest: str) -> Fill:
        return lambda folder, most: self._fetch(order, digest, folder, self._bounds(order.kind, most))

    def _fetch(self, order: Order, digest: str, folder: Path, limits: FetchLimits) -> bytes | None:
        """From the pool's other pods, which are near, or else from the source, which may be slow, grant only so many requests, or be gone."""

        def read(manifest: bytes) -> Mapping[str, Expected] | None:
            return fetching.expected(order, manifest, limits=limits)

        try:
            return self._peers.fetch(_SHELVES[order.kind], digest, folder, read=read, most=limits.max_bytes, seconds=limits.seconds)
        except NoCopy as gap:
            try:
                return fetching.fetch(order, digest, folder, access=self._access, limits=limits)
            except ArtifactError as error:
                # The source's no is no last word while another pod may have a copy: without this, a pod could become Ready without it, and a pod that has it be ended for that.
                if gap.perhaps and not isinstance(error, ArtifactInvalid):
                    raise SourceUnavailable(f"{error}; {gap}") from error
                raise

    async def _fetch_for_digest(self, order: Order, limits: Limits) -> ResolveReply:
        if order.kind is ArtifactKind.BASE and self._base_image is not None:
            time_limit = TimeLimit.of(self._seconds, self._access)
            digest = await asyncio.to_thread(mounted_base.digest, self._base_image, max_bytes=limits.max_base_bytes, time=time_limit)
            return ResolveReply(digest=digest)
        # Fetched by the name that is recorded: a branch may move meanwhile.
        version = await asyncio.to_thread(fetching.lasting_version, order, access=self._access)
        lasting = replace(order, version=version)

        def fill(folder: Path, most: int) -> bytes:
            return fetching.fetch_files(lasting, folder, access=self._access, limits=self._bounds(order.kind, most))

        most = limits.max_base_bytes if order.kind is ArtifactKind.BASE else limits.max_adapter_bytes
        admitted = await self.store.admit(_SHELVES[order.kind], fill, most=most)
        if admitted.is_new and order.kind is ArtifactKind.ADAPTER:
            self._unclaimed[admitted.digest] = time.monotonic()
        return ResolveReply(digest=admitted.digest, version=version if version != order.version else None)

    async def _remove_unclaimed(self) -> None:
        now = time.monotonic()
        for digest in [digest for digest, since in self._unclaimed.items() if now - since > UNCLAIMED_SECONDS]:
            await self.forget_adapter(digest, unused=lambda digest=digest: digest in self._unclaimed)  # type: ignore[misc]
            self._unclaimed.pop(digest, None)

    def _bounds(self, kind: ArtifactKind, most: int) -> FetchLimits:
        return FetchLimits(max_bytes=most, max_files=_MAX_FILES[kind], seconds=self._seconds)
