"""The manifest of an artifact whose source has none for it: files of a bucket, a hub, a web server, a claim. Its SHA-256 is the artifact's digest."""

import hashlib
import re
from collections.abc import Mapping

from taskfleet.artifacts.errors import ArtifactInvalid

_LINE = re.compile(rb"([0-9a-f]{64})  ([!-~]{1,255})")


def content_manifest(hashes: Mapping[str, str]) -> bytes:
    """The manifest of files, by the SHA-256 (64 hex digits) of each name.

    One line for each file, in the order of the names' bytes: hash, two spaces, name, newline. That is what `sha256sum` prints, so anybody can compute the digest:
    `(cd folder && LC_ALL=C sha256sum *) | sha256sum`. Names are ASCII (`filenames.check_name`). Only files that are served count: an adapter's two, a base's data.
    """
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def read(manifest: bytes) -> dict[str, str]:
    """The hashes by name. Raises ArtifactInvalid for what `content_manifest` would not write."""
    matches = [_LINE.fullmatch(line) for line in manifest.split(b"\n")[:-1]]
    hashes = {match[2].decode(): match[1].decode() for match in matches if match is not None}
    if content_manifest(hashes) != manifest:
        raise ArtifactInvalid("the manifest is no sorted list of hashes and names")
    return hashes


def digest_of(manifest: bytes) -> str:
    """The artifact's digest."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"
