"""An artifact from those who have a copy of it, checked as if it came from its source: by the manifest, whose SHA-256 is the digest, and each file by its own.

Nobody who gives a copy is trusted: not in what the bytes are, nor in how many there are, nor that they come to an end.
A file that one holder breaks off is gone on with at the next.
All of this blocks; it is run in threads.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from taskfleet.artifacts.errors import SourceUnavailable
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# A holder that stays below this, on average, is as good as gone.
SLOWEST_BYTES_PER_SECOND = 64 * 1024
GRACE_SECONDS = 20.0
# Until a holder that was giving too many copies is asked again.
BUSY_SECONDS = 1.0


class HolderBusy(Exception):  # noqa: N818  (says what is the matter, as HTTP does)
    """It is giving too many copies already."""


class HolderFailed(Exception):  # noqa: N818
    """It broke off, was too slow, or gave something else; `str()` says which."""


class NoCopy(Exception):  # noqa: N818
    """Nobody gives a copy. `perhaps`: somebody who may have one could not give it now."""

    def __init__(self, why: str, *, perhaps: bool = False) -> None:
        super().__init__(why)
        self.perhaps = perhaps


class Holder(Protocol):
    """One who may have a copy. Both methods raise HolderBusy, HolderFailed, and LookupError where it has none. `str()` is for logs."""

    def manifest(self, digest: str) -> bytes: ...

    def file(self, digest: str, name: str, *, start: int) -> Generator[bytes]:
        """The bytes of a file from `start` on."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a manifest says of a file. Not every kind of manifest says the size, in bytes."""

    digest: str
    size: int | None


# What a manifest says of the files that are wanted, by name; None where it doesn't vouch for single files. Raises ArtifactError.
ReadManifest = Callable[[bytes], Mapping[str, Expected] | None]


@dataclass(slots=True)
class _Part:
    """A file of which not all is there yet."""

    name: str
    size: int = 0
    hashed: "hashlib._Hash" = field(default_factory=hashlib.sha256)


class Copying:
    """One artifact into the empty folder `into`, of at most `most` bytes, for at most `seconds`, and not beyond `ended`."""

    def __init__(
        self,
        digest: str,
        into: Path,
        *,
        read: ReadManifest,
        most: int,
        seconds: float,
        ended: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._digest = digest
        self._into = into
        self._read = read
        self._left = most
        self._clock = clock
        self._deadline = clock() + seconds
        self._ended = ended
        self._manifest: bytes | None = None
        self._missing: dict[str, Expected] = {}
        self._part: _Part | None = None
        self._received = 0

    def take(self, holders: Sequence[Holder]) -> bytes:
        """Asks them in this order; returns the manifest. Raises NoCopy, with the folder empty again, and what `read` raises."""
        try:
            return self._take(holders)
        except NoCopy:
            for path in self._into.iterdir():
                path.unlink()
            raise

    def _take(self, holders: Sequence[Holder]) -> bytes:
        failed = False
        while True:
            busy, before = [], self._received
            for holder in holders:
                try:
                    return self._from(holder)
                except LookupError:
                    continue
                except HolderBusy:
                    busy.append(holder)
                except HolderFailed as error:
                    failed = True
                    log.warning("copy is not taken", extra=fields(digest=self._digest, holder=str(holder), why=str(error)))
            # Those who are busy are waited for only while copying gets on: there is the source, too.
            if not busy or self._received == before:
                why = "those who may have a copy can't give it now" if busy or failed else "nobody has a copy"
                raise NoCopy(why, perhaps=bool(busy) or failed)
            self._ended.wait(BUSY_SECONDS)
            holders = busy

    def _from(self, holder: Holder) -> bytes:
        if self._manifest is None:
            self._accept(holder.manifest(self._digest))
        for name, expected in list(self._missing.items()):
            self._file(holder, name, expected)
            del self._missing[name]
        assert self._manifest is not None  # noqa: S101  (for the type checker)
        return self._manifest

    def _accept(self, text: bytes) -> None:
        if _sha256(hashlib.sha256(text)) != self._digest:
            raise HolderFailed("its manifest is not the digest's")
        files = self._read(text)
        if files is None:
            raise NoCopy("the manifest does not vouch for single files")
        self._manifest, self._missing = text, dict(files)

    def _file(self, holder: Holder, name: str, expected: Expected) -> None:
        part = self._part
        if part is None:
            part = self._part = _Part(name)
        largest = self._left if expected.size is None else expected.size
        begun, offset = self._clock(), part.size
        with (self._into / name).open("ab") as file, closing(holder.file(self._digest, name, start=part.size)) as pieces:
            for piece in pieces:
                if part.size + len(piece) > largest:
                    self._discard(name)
                    raise HolderFailed(f"it gives more of file {name} than {largest} bytes")
                file.write(piece)
                part.hashed.update(piece)
                part.size += len(piece)
                self._received += len(piece)
                self._check_pace(part.size - offset, self._clock() - begun)
        if expected.size is not None and part.size < expected.size:
            raise HolderFailed(f"it broke off file {name} after {part.size} of {expected.size} bytes")
        if _sha256(part.hashed) != expected.digest:
            # Perhaps an earlier holder's fault, who gave the beginning. The next one gives all of it.
            self._discard(name)
            raise HolderFailed(f"the bytes of file {name} are not those of {expected.digest}")
        self._left -= part.size
        self._part = None

    def _discard(self, name: str) -> None:
        self._part = None
        (self._into / name).unlink()

    def _check_pace(self, received: int, seconds: float) -> None:
        if self._ended.is_set():
            raise SourceUnavailable("we are ending")
        if self._clock() > self._deadline:
            raise NoCopy("copying took too long", perhaps=True)
        if seconds > GRACE_SECONDS and received < seconds * SLOWEST_BYTES_PER_SECOND:
            raise HolderFailed(f"it is too slow: {received} bytes in {seconds:.0f} s")


def _sha256(hashed: "hashlib._Hash") -> str:
    return f"sha256:{hashed.hexdigest()}"
