"""Artifacts in PersistentVolumeClaims that the pod mounts: `pvc://<claim>/<folder>`, where the version is the last folder.

Somebody else writes to a claim, perhaps while it is read: nothing of it is used in place. Links are followed within the claim only, and only as they were when they were
looked at: every step is taken from the folder that the step before has opened.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactNotFound, SourceUnavailable
from taskfleet.artifacts.listing import Inquiry, Listing, RemoteFile, Stream

MAX_ENTRIES = 10_000  # of one folder, served or not
_PIECE_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: opening a FIFO would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ClaimFolder:
    """A folder of a mounted claim. `parts` are the folders that lead to it."""

    claim: str
    mount: Path
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((f"pvc://{self.claim}", *self.parts))

    def names(self) -> list[str]:
        """All that is in it but folders."""
        with self._opened(self.parts, _FOLDER) as descriptor, os.scandir(descriptor) as entries:
            found: list[str] = []
            for entry in entries:
                if len(found) >= MAX_ENTRIES:
                    raise ArtifactInvalid(f"{self} has more than {MAX_ENTRIES} files")
                if not entry.is_dir():
                    found.append(entry.name)
        return found

    @contextmanager
    def stream(self, name: str, offset: int, validator: str | None) -> Iterator[Stream]:
        """A file of the folder, from `offset` on where it is still the one that `validator` names."""
        with self._opened((*self.parts, name), _FILE) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactInvalid(f"{self}/{name} is no regular file")
            now = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
            begins_at = os.lseek(descriptor, offset if validator == now else 0, os.SEEK_SET)
            yield Stream(begins_at=begins_at, size=status.st_size, validator=now, pieces=self._pieces(descriptor, name))

    def _pieces(self, descriptor: int, name: str) -> Iterator[bytes]:
        try:
            while piece := os.read(descriptor, _PIECE_BYTES):
                yield piece
        except OSError as error:
            raise SourceUnavailable(f"{self}/{name} can't be read: {error.strerror}") from error

    @contextmanager
    def _opened(self, parts: tuple[str, ...], flags: int) -> Iterator[int]:
        path = self._within(parts)
        with _told(f"pvc://{self.claim}/{'/'.join(parts)}"):
            descriptor = os.open(self.mount, _FOLDER)
            try:
                for place, part in enumerate(path):
                    following = os.open(part, flags if place == len(path) - 1 else _FOLDER, dir_fd=descriptor)
                    os.close(descriptor)
                    descriptor = following
            except BaseException:
                os.close(descriptor)
                raise
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _within(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """The way without links. A link that leaves the claim is refused, wherever it stands."""
        where = f"pvc://{self.claim}/{'/'.join(parts)}"
        if not self.mount.is_dir():
            raise SourceUnavailable(f"PersistentVolumeClaim {self.claim} is not mounted in this pod")
        with _told(where):
            root, found = Path(os.path.realpath(self.mount, strict=True)), Path(os.path.realpath(self.mount.joinpath(*parts), strict=True))
        if not found.is_relative_to(root):
            raise ArtifactInvalid(f"{where} is a link that leaves the claim")
        return found.relative_to(root).parts


def listing(inquiry: Inquiry) -> Listing:
    """The files of the version's folder. Raises SourceUnavailable, ArtifactNotFound and ArtifactInvalid."""
    order = inquiry.order
    claim, *parts = order.source.removeprefix("pvc://").rstrip("/").split("/")
    folder = ClaimFolder(claim, inquiry.access.claims_directory / claim, (*parts, order.version))
    if any(part in {"", ".", ".."} or "\0" in part for part in (claim, *folder.parts)):
        raise ArtifactInvalid(f"source {order.source!r} with version {order.version!r} names no folder of a claim")

    def remote(name: str) -> RemoteFile:
        return RemoteFile(name=name, open=lambda offset, validator: folder.stream(name, offset, validator))

    return Listing(files=tuple(remote(name) for name in folder.names()))


@contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactNotFound(f"{where} does not exist") from None
    except PermissionError:
        raise SourceUnavailable(f"{where} may not be read by the agent (user {os.getuid()}, group {os.getgid()})") from None
    except OSError as error:
        raise SourceUnavailable(f"{where} can't be read: {error.strerror}") from error
