"""One file from a source that lists files: read, hashed, and gone on with where a connection breaks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from taskfleet.artifacts.access import TimeLimit
from taskfleet.artifacts.errors import ArtifactTooLarge, DigestMismatch, SourceUnavailable
from taskfleet.artifacts.listing import RemoteFile, Stream

# Attempts in a row that bring no byte. A source that breaks off every few megabytes is followed to the end.
FRUITLESS_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What was written: size in bytes, and SHA-256 in hex."""

    size: int
    sha256: str


def download(remote: RemoteFile, path: Path, *, max_bytes: int, time: TimeLimit, pause: Callable[[int], None]) -> Downloaded:
    """Writes the file to `path`, which must not exist, and returns its size and hash.

    `pause` waits after the n-th attempt in a row that brought nothing, from 1. Raises ArtifactTooLarge above `max_bytes`, SourceUnavailable, DigestMismatch for other bytes
    than the source itself has listed.
    """
    if remote.size is not None and remote.size > max_bytes:
        raise _too_large(remote, max_bytes)
    with path.open("xb") as file:
        _Download(remote, file, max_bytes, time).run(pause)
    found = Downloaded(path.stat().st_size, sha256_of(path))
    if remote.sha256 is not None and found.sha256 != remote.sha256:
        raise DigestMismatch(f"the bytes of file {remote.name} are not those that the source has listed (sha256 {remote.sha256})")
    return found


@dataclass(slots=True)
class _Download:
    remote: RemoteFile
    file: BinaryIO
    max_bytes: int
    time: TimeLimit
    validator: str | None = None

    def run(self, pause: Callable[[int], None]) -> None:
        fruitless = 0
        while True:
            before = self.file.tell()
            try:
                self._attempt(before if self.validator is not None else 0)
                return
            except SourceUnavailable:
                fruitless = fruitless + 1 if self.file.tell() <= before else 0
                self.time.remaining(self.remote.name)
                if fruitless >= FRUITLESS_ATTEMPTS:
                    raise
                pause(fruitless)

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
        for piece in stream.pieces:
            self.time.remaining(self.remote.name)
            self.file.write(piece)
            if self.file.tell() > self.max_bytes:
                raise _too_large(self.remote, self.max_bytes)
        size = stream.size if stream.size is not None else self.remote.size
        if size is not None and self.file.tell() != size:
            raise SourceUnavailable(f"file {self.remote.name} broke off after {self.file.tell()} of {size} bytes")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _too_large(remote: RemoteFile, max_bytes: int) -> ArtifactTooLarge:
    return ArtifactTooLarge(f"file {remote.name} is larger than the {max_bytes} bytes that the artifact may (still) have")
