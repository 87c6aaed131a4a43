"""A plain tar that holds the files of an artifact, taken apart without trusting it."""

import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactTooLarge
from taskfleet.artifacts.filenames import check_name

MAX_READ_BYTES = 1024 * 1024


def extract(archive: Path, into: Path, *, max_files: int, max_bytes: int) -> None:
    """Writes the archive's files flat into the folder `into`. Raises ArtifactInvalid for anything but regular files with allowed names, within the limits."""
    try:
        # `r:` opens uncompressed tars only. Nothing is extracted by tarfile: it would honour modes, owners and links.
        with archive.open("rb") as file, tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:  # type: ignore[call-overload]
            _extract(tar, into, max_files=max_files, max_bytes=max_bytes)
    # What tarfile raises for headers that are none goes beyond its own errors: found by changing bytes at random.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError, KeyError, IndexError):
        raise ArtifactInvalid("the tar can't be read") from None


class _Bounded:
    """A file that hands out no more at once than a file's piece or an honest header needs: the size of an extended header is read into memory as the header says it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise tarfile.ReadError("the size of a header is out of bounds")
        return self._file.read(size)


def _extract(tar: tarfile.TarFile, into: Path, *, max_files: int, max_bytes: int) -> None:
    files, size, position = 0, 0, -1
    for member in tar:
        # A negative size leads back to where the tar was read already, for ever (CVE-2025-8194).
        if member.size < 0 or member.offset <= position:
            raise tarfile.ReadError("a member has no place")
        position = member.offset
        if member.isdir() and member.name in {".", "./", ""}:
            continue
        name = _file_name(member)
        files, size = files + 1, size + member.size
        if files > max_files:
            raise ArtifactInvalid(f"the tar holds more than {max_files} files")
        if size > max_bytes:
            raise ArtifactTooLarge(f"the tar holds more than {max_bytes} bytes")
        _write(tar, member, into / name)


def _file_name(member: tarfile.TarInfo) -> str:
    name = member.name.removeprefix("./")
    # A sparse member of a few bytes claims any size.
    if not member.isreg() or member.issparse():
        raise ArtifactInvalid(f"{name!r} in the tar is no regular file")
    check_name(name)
    return name


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ArtifactInvalid(f"{path.name!r} in the tar is no regular file")
    try:
        with path.open("xb") as file:
            shutil.copyfileobj(content, file)
    except FileExistsError:
        raise ArtifactInvalid(f"the tar has two files named {path.name!r}") from None
    if path.stat().st_size != member.size:
        raise ArtifactInvalid(f"{path.name!r} in the tar is cut off")
