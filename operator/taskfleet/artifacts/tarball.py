"""A plain tar that holds the files of an artifact, taken apart without trusting it."""

import shutil
import tarfile
from pathlib import Path

from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactTooLarge
from taskfleet.artifacts.filenames import check_name


def extract(archive: Path, into: Path, *, max_files: int, max_bytes: int) -> None:
    """Writes the archive's files flat into the folder `into`. Raises ArtifactInvalid for anything but regular files with allowed names, within the limits."""
    files, size = 0, 0
    try:
        # `r:` opens uncompressed tars only. Nothing is extracted by tarfile: it would honour modes, owners and links.
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.isdir() and member.name in {".", "./", ""}:
                    continue
                name = _file_name(member)
                files, size = files + 1, size + member.size
                if files > max_files:
                    raise ArtifactInvalid(f"the tar holds more than {max_files} files")
                if size > max_bytes:
                    raise ArtifactTooLarge(f"the tar holds more than {max_bytes} bytes")
                _write(tar, member, into / name)
    except tarfile.TarError:
        raise ArtifactInvalid("the tar can't be read") from None


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
