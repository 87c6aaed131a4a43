"""The pod's store of artifacts: one folder per digest, complete, or absent.

    <root>/base/sha256-<hex>/       and the link <root>/base/current
    <root>/adapters/sha256-<hex>/
    <root>/manifests/<base|adapters>/sha256-<hex>
    <root>/partial/                 beginnings of files (`partials`)

A folder appears by one rename after all of it was fetched, found to be what the digest names and written to the disk,
and disappears by one rename before any of it is deleted. Whoever sees it sees all.
The manifest is the text whose SHA-256 is the artifact's digest: with it, others can check a copy of the files as if they came from the source. It stands outside the folder, where
no engine looks for files, and is there before the folder is.
One process writes to a store.
"""

import asyncio
import errno
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taskfleet.artifacts.content_manifest import digest_of
from taskfleet.artifacts.errors import ArtifactTooLarge, SourceUnavailable, StoreFull
from taskfleet.artifacts.partials import Partials

# Writes an artifact into an empty folder, of at most so many bytes; raises ArtifactTooLarge for more.
Fill = Callable[[Path, int], bytes | None]
Check = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was taken in. `is_new` False: it was there already."""

    digest: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Complete:
    digest: str
    manifest: bytes | None


# Left free of the volume's size: folders, the kept document, and what is rounded up to whole blocks. The kubelet evicts a pod whose volume is larger than its limit.
SPARE_BYTES = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_MANIFESTS = "manifests"


class Shelf(StrEnum):
    """What kind of artifact."""

    BASE = "base"
    ADAPTERS = "adapters"


class Store:
    """Blocking work happens in threads; the rest is for one event loop."""

    def __init__(self, root: Path, *, parallel: int = 4) -> None:
        self._root = root
        self._locks: dict[tuple[Shelf, str], asyncio.Lock] = {}
        # Downloads are bounded by the pod's network and disk, not by how many adapters are asked for at once.
        self._slots = asyncio.Semaphore(parallel)
        self._size: int | None = None
        self._reserved: list[int] = []
        self._room_changed = asyncio.Condition()
        self.partials = Partials(root / "partial")

    def path(self, shelf: Shelf, digest: str) -> Path:
        """Where an artifact is, or would be."""
        return self._root / shelf / digest.replace(":", "-", 1)

    def manifest(self, shelf: Shelf, digest: str) -> bytes | None:
        """The text whose SHA-256 is the digest, of an artifact that is there; None where it isn't, or where its manifest doesn't vouch for single files."""
        try:
            return self._manifest_path(shelf, digest).read_bytes() if self.path(shelf, digest).is_dir() else None
        except FileNotFoundError:
            return None

    def current_base(self) -> Path:
        """The link that the engine is started on."""
        return self._root / Shelf.BASE / "current"

    def prepare(self) -> None:
        """Makes the folders, and removes what an earlier process left half done and can't be gone on with."""
        self.partials.prepare()
        for shelf in Shelf:
            folder = self._root / shelf
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*"):
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            manifests = self._root / _MANIFESTS / shelf
            manifests.mkdir(parents=True, exist_ok=True)
            for manifest in manifests.iterdir():
                if not (folder / manifest.name).is_dir():
                    manifest.unlink()

    def digests(self, shelf: Shelf) -> list[str]:
        """What is there, complete."""
        return sorted(path.name.replace("-", ":", 1) for path in (self._root / shelf).glob("sha256-*") if path.is_dir())

    def limit(self, size: int | None) -> None:
        """How large the volume may grow in bytes; None: as large as the disk."""
        self._size = size

    async def ensure(self, shelf: Shelf, digest: str, fill: Fill, *, check: Check, most: int) -> Path:
        """The artifact's folder, filled if it isn't there: one download per digest, however many ask.

        `fill` writes into an empty folder, at most `most` bytes, or what there is room for, and returns the manifest that it has checked every file against, if there is one.
        `check` raises ArtifactError for a folder that may not be used; it runs on what is
        there already too, because limits change. Raises StoreFull where there is no room.
        """
        path = self.path(shelf, digest)

        def complete(folder: Path, room: int) -> _Complete:
            manifest = fill(folder, room)
            check(folder)
            return _Complete(digest, manifest)

        async with self._locks.setdefault((shelf, digest), asyncio.Lock()):
            if path.is_dir():
                await asyncio.to_thread(check, path)
                return path
            await self._staged(shelf, complete, most=most)
            return path

    async def admit(self, shelf: Shelf, fill: Callable[[Path, int], bytes], *, most: int) -> Admitted:
        """Takes in an artifact whose digest is known only once it was fetched: `fill` returns the manifest of what it has written, and is bounded as with `ensure`."""

        def complete(folder: Path, room: int) -> _Complete:
            manifest = fill(folder, room)
            return _Complete(digest_of(manifest), manifest)

        return await self._staged(shelf, complete, most=most)

    async def delete(self, shelf: Shelf, digest: str, *, unused: Callable[[], bool]) -> None:
        """Removes an artifact that nothing uses any more: engines die of files that are gone.

        `unused` is asked once no `ensure` of the same artifact is under way, and the folder disappears in the same step: one that begins later fetches it anew.
        """
        path = self.path(shelf, digest)
        async with self._locks.setdefault((shelf, digest), asyncio.Lock()):
            if not path.is_dir() or not unused():
                return
            doomed = path.parent / f".deleted-{uuid.uuid4().hex}"
            path.rename(doomed)
            self._manifest_path(shelf, digest).unlink(missing_ok=True)
            await asyncio.to_thread(shutil.rmtree, doomed)

    def select_base(self, digest: str) -> None:
        """Points the link at a base."""
        link = self._root / Shelf.BASE / f".current-{uuid.uuid4().hex}"
        link.symlink_to(self.path(Shelf.BASE, digest).name)
        link.replace(self.current_base())

    def _manifest_path(self, shelf: Shelf, digest: str) -> Path:
        return self._root / _MANIFESTS / shelf / self.path(shelf, digest).name

    @asynccontextmanager
    async def _room(self, most: int) -> AsyncIterator[int]:
        """How many bytes may be written, kept for the time of the block. Near the limit one download waits for another, so that each knows what is left."""
        async with self._room_changed:
            while (free := await self._free()) < most and self._reserved:
                await self._room_changed.wait()
            room = min(most, free)
            self._reserved.append(room)
        try:
            yield room
        finally:
            self._reserved.remove(room)
            async with self._room_changed:
                self._room_changed.notify_all()

    async def _free(self) -> int:
        if self._size is None:
            return shutil.disk_usage(self._root).free - sum(self._reserved)
        return max(0, self._size - SPARE_BYTES - await asyncio.to_thread(_used, self._root) - sum(self._reserved))

    async def _staged(self, shelf: Shelf, complete: Callable[[Path, int], _Complete], *, most: int) -> Admitted:
        async with self._slots, self._room(most) as room:
            try:
                return await asyncio.to_thread(self._stage, shelf, lambda folder: complete(folder, room))
            except ArtifactTooLarge as error:
                if room >= most:
                    raise
                # The next attempt has what others have left half done.
                self.partials.clear()
                bound = "its disk" if self._size is None else "store.sizeLimit of the ServingClass"
                raise StoreFull(f"the pod's store has room for {room} more bytes ({bound}), and the artifact needs more") from error

    def _stage(self, shelf: Shelf, complete: Callable[[Path], _Complete]) -> Admitted:
        """Has an empty folder completed, and puts it in its place."""
        staging = self._root / shelf / f".staging-{uuid.uuid4().hex}"
        try:
            staging.mkdir()
            completed = complete(staging)
            path = self.path(shelf, completed.digest)
            if path.is_dir():
                return Admitted(completed.digest, is_new=False)
            for file in staging.iterdir():
                # Engines run as another container: readable for all, writable for none but us.
                file.chmod(0o644)
                _flush(file)
            staging.chmod(0o755)
            _flush(staging)
            if completed.manifest is not None:
                manifest_path = self._manifest_path(shelf, completed.digest)
                manifest_path.write_bytes(completed.manifest)
                _flush(manifest_path)
            staging.rename(path)
            _flush(path.parent)
            return Admitted(completed.digest, is_new=True)
        except OSError as error:
            if error.errno in _FULL:
                self.partials.clear()
                raise StoreFull(f"the artifact can't be written: {error.strerror}") from error
            raise SourceUnavailable(f"the artifact can't be written: {error.strerror or error}") from error
        finally:
            if staging.exists():
                shutil.rmtree(staging)


def _used(folder: Path) -> int:
    """What the kubelet counts: whole blocks, of everything in the volume."""
    size = 0
    for parent, folders, files in os.walk(folder, onerror=_unless_deleted):
        for name in folders + files:
            try:
                size += Path(parent, name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue  # deleted meanwhile
    return size


def _unless_deleted(error: OSError) -> None:
    """A folder that is deleted while it is counted has nothing in it any more."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
