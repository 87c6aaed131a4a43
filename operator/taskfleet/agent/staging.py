"""Fetches and verifies artifacts into the pod's store: the one place where sources, limits and the store meet."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskfleet.api.agent import DesiredAdapter, Limits, ResolveRequest
from taskfleet.api.taskmodel import Base
from taskfleet.artifacts import base_model, lora, oci
from taskfleet.artifacts.base_model import BaseShapes
from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.oci import Access, FetchLimits
from taskfleet.artifacts.store import Shelf, Store

# An adapter has two files that are read, and perhaps a handful beside; a base has some dozens of shards.
MAX_ADAPTER_FILES = 64
MAX_BASE_FILES = 512


@dataclass(frozen=True, slots=True)
class Staging:
    """All methods raise ArtifactError."""

    store: Store
    access: Access
    seconds: float  # for one artifact

    async def base(self, base: Base, digest: str, limits: Limits) -> BaseShapes:
        """Has the base's files in the store and the link on them; returns the shapes that its adapters must have."""

        def fill(folder: Path, most: int) -> bytes | None:
            bounds = FetchLimits(max_bytes=most, max_files=MAX_BASE_FILES, seconds=self.seconds)
            return oci.fetch(
                base.source, digest, folder, key=base.credentials_key, access=self.access, limits=bounds, wanted=lambda _name: True
            )

        def check(folder: Path) -> None:
            base_model.verify(folder)

        path = await self.store.ensure(Shelf.BASE, digest, fill, check=check, most=limits.max_base_bytes)
        self.store.select_base(digest)
        return await asyncio.to_thread(base_model.verify, path)

    async def adapter(self, desired: DesiredAdapter, shapes: BaseShapes, limits: Limits) -> Path:
        """Has the adapter's two files in the store, fit for the base; returns their folder."""
        adapter, digest = desired.adapter, self.digest(desired)

        def fill(folder: Path, most: int) -> bytes | None:
            bounds = FetchLimits(max_bytes=most, max_files=MAX_ADAPTER_FILES, seconds=self.seconds)
            # Only what an engine needs reaches it: some load a tokenizer from an adapter's folder when they find one.
            return oci.fetch(
                adapter.source,
                digest,
                folder,
                key=adapter.credentials_key,
                access=self.access,
                limits=bounds,
                wanted=lora.FILES.__contains__,
            )

        def check(folder: Path) -> None:
            lora.verify(folder, base=shapes, max_rank=limits.max_rank)

        return await self.store.ensure(Shelf.ADAPTERS, digest, fill, check=check, most=limits.max_adapter_bytes)

    async def resolve(self, request: ResolveRequest) -> str:
        """The digest behind a version, now."""
        return await asyncio.to_thread(
            oci.resolve, request.source, request.version, request.digest, key=request.credentials_key, access=self.access
        )

    def adapter_path(self, digest: str) -> Path:
        """Where an adapter is, or would be: what the engine is told."""
        return self.store.path(Shelf.ADAPTERS, digest)

    async def forget_adapter(self, digest: str, *, unused: Callable[[], bool]) -> None:
        """Deletes an adapter's files, if `unused` still says so at the last moment."""
        await self.store.delete(Shelf.ADAPTERS, digest, unused=unused)

    @staticmethod
    def digest(desired: DesiredAdapter) -> str:
        """The digest of a desired adapter, which documents without it are refused for."""
        if desired.adapter.digest is None:
            raise ArtifactInvalid(f"adapter {desired.engine_name} has no digest")
        return desired.adapter.digest
