"""A base that the kubelet has mounted as an image volume: used in place, once its bytes are found to be those of its digest.

An image's own digest says nothing of mounted files, so the digest is that of the files, as for every source that only lists files.
"""

from pathlib import Path

from taskfleet.artifacts import base_model
from taskfleet.artifacts.access import TimeLimit
from taskfleet.artifacts.base_model import BaseShapes
from taskfleet.artifacts.content_manifest import content_manifest, digest_of
from taskfleet.artifacts.download import sha256_of
from taskfleet.artifacts.errors import ArtifactInvalid, DigestMismatch, SourceUnavailable


def digest(folder: Path, *, max_bytes: int, time: TimeLimit) -> str:
    """The digest of the mounted files, all of which are read. Raises ArtifactInvalid for what is no base, SourceUnavailable."""
    if not folder.is_dir() or not any(folder.iterdir()):
        raise ArtifactInvalid(
            "the image volume of the base is empty: the container runtime must have image volumes (containerd from 2.1 on), and the image its files in plain tar layers"
        )
    base_model.verify(folder)
    hashes, left = {}, max_bytes
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise ArtifactInvalid(f"{path.name!r} in the image of the base is no regular file")
        left -= path.stat().st_size
        if left < 0:
            raise ArtifactInvalid(f"the base has more than {max_bytes} bytes")
        time.remaining(f"reading {path.name}")
        try:
            hashes[path.name] = sha256_of(path)
        except OSError as error:
            raise SourceUnavailable(f"{path.name} in the image of the base can't be read: {error.strerror}") from error
    return digest_of(content_manifest(hashes))


def verify(folder: Path, expected: str, *, max_bytes: int, time: TimeLimit) -> BaseShapes:
    """The shapes of the mounted base, if its bytes are those of the digest. Raises DigestMismatch, and what `digest` raises."""
    found = digest(folder, max_bytes=max_bytes, time=time)
    if found != expected:
        raise DigestMismatch(
            f"the image that this node has under the base's tag holds {found}, and {expected} was resolved: the tag has moved"
        )
    return base_model.verify(folder)
