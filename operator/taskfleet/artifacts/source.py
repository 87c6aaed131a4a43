"""Where an artifact comes from, read out of a source URL and a version."""

import re
from dataclasses import dataclass

from taskfleet.artifacts.errors import ArtifactInvalid, UnsupportedSource

# OCI distribution specification 1.1, "Pulling manifests".
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class OciSource:
    """A repository of a registry. `host` has the port where one was given, in lower case."""

    host: str
    repository: str

    def __str__(self) -> str:
        return f"oci://{self.host}/{self.repository}"


def parse(source: str) -> OciSource:
    """Reads a source URL. Raises UnsupportedSource for schemes other than oci://, ArtifactInvalid for a URL that names no repository."""
    scheme, separator, rest = source.partition("://")
    if not separator or scheme != "oci":
        raise UnsupportedSource(f"source {source!r}: only oci:// is supported by this version")
    host, _, repository = rest.rstrip("/").partition("/")
    if not _HOST.fullmatch(host):
        raise ArtifactInvalid(f"source {source!r}: {host!r} is no registry host")
    if len(repository) > 255 or not _REPOSITORY.fullmatch(repository):
        raise ArtifactInvalid(f"source {source!r}: {repository!r} is no repository name (lower-case letters, digits and separators)")
    return OciSource(host.lower(), repository)


def check_digest(digest: str) -> str:
    """`digest` as the digest of a manifest; raises ArtifactInvalid where it can't be one."""
    if not _DIGEST.fullmatch(digest):
        raise ArtifactInvalid(f"digest {digest!r} is no SHA-256")
    return digest


def check_tag(version: str) -> str:
    """`version` as a tag of a registry; raises ArtifactInvalid where it can't be one."""
    if not _TAG.fullmatch(version):
        raise ArtifactInvalid(f"version {version!r} is no tag of a registry")
    return version
