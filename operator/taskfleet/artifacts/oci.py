"""Artifacts in OCI registries: which bytes stand behind a version, and those bytes as files.

An artifact's digest is that of its manifest, which names every file's digest: whoever has checked the one has fixed the others.
All functions block; they are run in threads. Limits are in bytes and seconds.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from taskfleet.artifacts import credentials, manifest, tarball
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.copying import Expected
from taskfleet.artifacts.download import download
from taskfleet.artifacts.errors import ArtifactInvalid, DigestMismatch, SourceUnavailable
from taskfleet.artifacts.http_file import ranged, stream_of
from taskfleet.artifacts.listing import RemoteFile, Stream
from taskfleet.artifacts.registry import Registry
from taskfleet.artifacts.source import OciSource, check_digest, check_tag, parse

RESOLVE_SECONDS = 30.0
_ACCEPTED = ", ".join((*manifest.MANIFEST_TYPES, *manifest.INDEX_TYPES))
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def resolve(source: str, version: str, digest: str | None, *, key: str | None, access: Access) -> str:
    """The digest of a version now. With a pin, the pin, once the source is seen to have it.

    Raises ArtifactError: ArtifactNotFound, SourceUnavailable, CredentialsMissing, and ArtifactInvalid for what is no single artifact.
    """
    with _connect(source, key=key, access=access, seconds=RESOLVE_SECONDS) as registry:
        text = _manifest(registry, check_tag(version) if digest is None else check_digest(digest))
    found = _sha256(text)
    if digest is not None and found != digest:
        raise DigestMismatch(f"{source} answers {found} when asked for {digest}")
    # An index has a digest too, but nothing that could be served.
    manifest.read(text, max_files=1_000_000, max_bytes=2**63)
    return found


def standing(source: str, version: str, *, key: str | None, access: Access) -> str | None:
    """The digest of a version now by the registry's own word, without a download: registries count those. None where it has no such version, or doesn't say.

    Raises ArtifactError: SourceUnavailable, CredentialsMissing.
    """
    with _connect(source, key=key, access=access, seconds=RESOLVE_SECONDS) as registry:
        url = f"{registry.prefix}://{registry.container(check_tag(version)).manifest_url()}"
        with registry.do_request(url, method="HEAD", headers={"Accept": _ACCEPTED}) as response:
            said = response.headers.get("Docker-Content-Digest", "")
            return said if response.status_code == 200 and _DIGEST.fullmatch(said) else None


def fetch(
    source: str, digest: str, into: Path, *, key: str | None, access: Access, limits: FetchLimits, wanted: Callable[[str], bool]
) -> bytes | None:
    """Writes the artifact's files for whose names `wanted` is true into the empty folder `into`, each checked against its digest. Returns the manifest.

    None where the manifest names one tar instead of files: nobody could check a single file against it.
    All names are checked, wanted or not. Raises ArtifactError; what was written until then is the caller's to remove.
    """
    with _connect(source, key=key, access=access, seconds=limits.seconds) as registry:
        return _fetch(registry, digest, into, access, limits=limits, wanted=wanted)


def expected(text: bytes, *, limits: FetchLimits) -> dict[str, Expected] | None:
    """What a manifest says of the artifact's files; None where they are in a tar. Raises ArtifactInvalid, also for what is beyond the limits."""
    layout = manifest.read(text, max_files=limits.max_files, max_bytes=limits.max_bytes)
    return None if layout.tar is not None else {name: Expected(blob.digest, blob.size) for name, blob in layout.files.items()}


def _fetch(
    registry: Registry, digest: str, into: Path, access: Access, *, limits: FetchLimits, wanted: Callable[[str], bool]
) -> bytes | None:
    text = _manifest(registry, digest)
    if _sha256(text) != digest:
        raise DigestMismatch(f"{registry.hostname} answers {_sha256(text)} when asked for {digest}")
    layout = manifest.read(text, max_files=limits.max_files, max_bytes=limits.max_bytes)
    if layout.tar is not None:
        _fetch_tar(registry, layout.tar, into, access, limits=limits, wanted=wanted)
        return None
    for name, blob in layout.files.items():
        if wanted(name):
            _download(registry, blob, into / name, access)
    return text


def _connect(source: str, *, key: str | None, access: Access, seconds: float) -> Registry:
    place: OciSource = parse(source)
    logins = credentials.read(access.credentials_directory, key, host=place.host)
    return Registry(place, access=access, credentials=logins, time=TimeLimit.of(seconds, access))


def _manifest(registry: Registry, reference: str) -> bytes:
    url = f"{registry.prefix}://{registry.container(reference).manifest_url()}"
    response = registry.do_request(url, headers={"Accept": _ACCEPTED}, stream=True)
    if response.status_code != 200:
        raise SourceUnavailable(f"{registry.hostname} answered HTTP {response.status_code} for a manifest")
    text = b"".join(response.pieces(limit=manifest.MAX_MANIFEST_BYTES))
    if len(text) > manifest.MAX_MANIFEST_BYTES:
        raise ArtifactInvalid(f"the manifest is larger than {manifest.MAX_MANIFEST_BYTES} bytes")
    return text


def _fetch_tar(
    registry: Registry, blob: manifest.Blob, into: Path, access: Access, *, limits: FetchLimits, wanted: Callable[[str], bool]
) -> None:
    archive = into / ".layer.tar"
    _download(registry, blob, archive, access)
    tarball.extract(archive, into, max_files=limits.max_files, max_bytes=limits.max_bytes)
    archive.unlink()
    for path in into.iterdir():
        if not wanted(path.name):
            path.unlink()


def _download(registry: Registry, blob: manifest.Blob, path: Path, access: Access) -> None:
    remote = RemoteFile(
        name=path.name, open=partial(_open, registry, blob, path.name), size=blob.size, sha256=blob.digest.removeprefix("sha256:")
    )
    download(remote, path, key=(blob.digest,), max_bytes=blob.size, access=access, time=registry.time)


@contextmanager
def _open(registry: Registry, blob: manifest.Blob, name: str, offset: int, _validator: str | None) -> Iterator[Stream]:
    url = f"{registry.prefix}://{registry.container(blob.digest).get_blob_url(blob.digest)}"
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with ranged(lambda headers: registry.do_request(url, headers=dict(headers), stream=True), headers) as answer:
        if answer.status_code not in {200, 206}:
            raise SourceUnavailable(f"{registry.hostname} answered HTTP {answer.status_code} for file {name}")
        # A blob's digest names its bytes for ever.
        yield replace(stream_of(answer, name), validator=blob.digest)


def _sha256(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
