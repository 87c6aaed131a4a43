"""One file from a source: read, hashed, and gone on with where a connection broke, or an earlier process was ended."""

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from taskfleet.artifacts.access import Access, TimeLimit
from taskfleet.artifacts.errors import ArtifactTooLarge, DigestMismatch, SourceUnavailable
from taskfleet.artifacts.listing import RemoteFile, Stream
from taskfleet.artifacts.partials import Partial

# Attempts in a row that bring no byte. A source that breaks off every few megabytes is followed to the end.
FRUITLESS_ATTEMPTS = 3
PAUSE_SECONDS = 0.5  # after a broken connection; doubled with each fruitless attempt
# So much at most is fetched again after this process was killed.
SAVE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What was written: size in bytes, and SHA-256 in hex."""

    size: int
    sha256: str


def download(remote: RemoteFile, path: Path, *, key: tuple[str, ...], max_bytes: int, access: Access, time: TimeLimit) -> Downloaded:
    """Writes the file to `path`, which must not exist, and returns its size and hash.

    `key` names the file among all files of all sources: what is left of a download that fails is gone on with under it. Raises ArtifactTooLarge above `max_bytes`,
    SourceUnavailable, DigestMismatch for other bytes than the source itself has listed.
    """
    if remote.size is not None and remote.size > max_bytes:
        raise _too_large(remote, max_bytes)
    no_partial: AbstractContextManager[Partial | None] = contextlib.nullcontext()
    with access.partials.of(*key) if access.partials is not None else no_partial as partial:
        with _kept_if_useful(partial):
            written = partial.path if partial is not None else path
            was_begun = partial is not None and partial.saved() is not None
            found = _written(remote, written, partial, max_bytes=max_bytes, access=access, time=time)
            if was_begun and partial is not None and remote.sha256 not in {None, found.sha256}:
                # The beginning may be what is wrong.
                partial.discard()
                found = _written(remote, written, partial, max_bytes=max_bytes, access=access, time=time)
            if remote.sha256 not in {None, found.sha256}:
                raise DigestMismatch(f"the bytes of file {remote.name} are not those that the source has listed (sha256 {remote.sha256})")
        if partial is not None:
            partial.path.rename(path)
            partial.discard()
    return found


def _written(remote: RemoteFile, path: Path, partial: Partial | None, *, max_bytes: int, access: Access, time: TimeLimit) -> Downloaded:
    with path.open("r+b" if path.exists() else "x+b") as file:
        _Download(remote, file, max_bytes, access, time, partial).run()
    return Downloaded(path.stat().st_size, sha256_of(path))


@contextlib.contextmanager
def _kept_if_useful(partial: Partial | None) -> Iterator[None]:
    """A source that may be better in a moment leaves a beginning to go on with. Whatever else is wrong, a full disk too, is not helped by one."""
    try:
        yield
    except BaseException as error:
        if partial is not None and not (isinstance(error, SourceUnavailable) and partial.saved() is not None):
            partial.discard()
        raise


@dataclass(slots=True)
class _Download:
    remote: RemoteFile
    file: BinaryIO
    max_bytes: int
    access: Access
    time: TimeLimit
    partial: Partial | None
    validator: str | None = None

    def run(self) -> None:
        if self._take_up():
            return
        fruitless = 0
        while True:
            before = self.file.tell()
            try:
                self._attempt(before if self.validator is not None else 0)
                return
            except SourceUnavailable:
                self._save()
                fruitless = fruitless + 1 if self.file.tell() <= before else 0
                self.time.remaining(self.remote.name)
                if fruitless >= FRUITLESS_ATTEMPTS:
                    raise
                self.access.ended.wait(PAUSE_SECONDS * 2.0**fruitless)

    def _take_up(self) -> bool:
        """Goes to the end of what an earlier download has left; true where that is all of it."""
        saved = self.partial.saved() if self.partial is not None else None
        if saved is not None and (self.remote.size is None or saved.length <= self.remote.size):
            self.validator = saved.validator
            self.file.seek(saved.length)
        self.file.truncate()
        return saved is not None and self.remote.sha256 is not None and self.file.tell() == self.remote.size

    def _attempt(self, offset: int) -> None:
        with self.remote.open(offset, self.validator if offset else None) as stream:
            self._begin(stream, offset)
            self._read(stream)

    def _begin(self, stream: Stream, asked: int) -> None:
        if stream.begins_at not in {0, asked}:
            raise SourceUnavailable(f"file {self.remote.name} was asked for from byte {asked} on, and came from byte {stream.begins_at} on")
        self.file.seek(stream.begins_at)
        self.file.truncate()
        self.validator = stream.validator
        for size in (stream.size, self.remote.size):
            if size is not None and size > self.max_bytes:
                raise _too_large(self.remote, self.max_bytes)
        if stream.size is not None and self.remote.size is not None and stream.size != self.remote.size:
            raise SourceUnavailable(f"file {self.remote.name} has {stream.size} bytes, the source has listed {self.remote.size}")

    def _read(self, stream: Stream) -> None:
        unsaved = 0
        for piece in stream.pieces:
            self.time.remaining(self.remote.name)
            self.file.write(piece)
            unsaved += len(piece)
            if self.file.tell() > self.max_bytes:
                raise _too_large(self.remote, self.max_bytes)
            if unsaved >= SAVE_BYTES:
                self._save()
                unsaved = 0
        size = stream.size if stream.size is not None else self.remote.size
        if size is not None and self.file.tell() != size:
            raise SourceUnavailable(f"file {self.remote.name} broke off after {self.file.tell()} of {size} bytes")

    def _save(self) -> None:
        if self.partial is not None:
            self.partial.save(self.file, self.validator)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _too_large(remote: RemoteFile, max_bytes: int) -> ArtifactTooLarge:
    return ArtifactTooLarge(f"file {remote.name} is larger than the {max_bytes} bytes that the artifact may (still) have")
