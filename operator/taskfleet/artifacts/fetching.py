"""Where artifacts come from: the table of sources, and how an order is resolved and fetched, whatever the source.

A registry has a digest for an artifact, that of its manifest. The others have files only: there the digest is that of the files' names and hashes (`content_manifest`), known
once they were fetched. Whoever fetches by digest accepts no other bytes, from any source. All functions block; they are run in threads.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import claim, filenames, hub, lora, oci, s3, tarball, webserver
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.content_manifest import content_manifest, digest_of
from taskfleet.artifacts.content_manifest import read as hashes_of
from taskfleet.artifacts.copying import Expected
from taskfleet.artifacts.download import download, sha256_of
from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactNotFound, DigestMismatch, UnsupportedSource
from taskfleet.artifacts.listing import Inquiry, Lister, Listing, Order, RemoteFile

REGISTRY = "oci"
# Schemes of sources that list files. One module each.
LISTERS: Mapping[str, Lister] = {
    "gs": s3.listing,
    "hf": hub.listing,
    "https": webserver.listing,
    "pvc": claim.listing,
    "s3": s3.listing,
}
# Of these, the ones that have names for versions that never move.
_LASTING: Mapping[str, Callable[[Inquiry], str]] = {"hf": hub.commit}
LASTING_SECONDS = 30.0

# Only what an engine needs reaches it: some load a tokenizer from an adapter's folder when they find one.
_WANTED: Mapping[ArtifactKind, Callable[[str], bool]] = {
    ArtifactKind.ADAPTER: lora.FILES.__contains__,
    ArtifactKind.BASE: filenames.is_served,
}
_TAR = ".files.tar"


def has_own_digests(source: str) -> bool:
    """Does the source know an artifact's digest without handing it out? Raises UnsupportedSource."""
    scheme = source.partition("://")[0]
    if scheme != REGISTRY and scheme not in LISTERS:
        supported = ", ".join(f"{name}://" for name in (REGISTRY, *LISTERS))
        raise UnsupportedSource(f"source {source!r} is not supported by this version; {supported} are")
    return scheme == REGISTRY


def resolve(order: Order, pin: str | None, *, access: Access) -> str:
    """The digest of a version at a source that has digests of its own. With a pin, the pin, once the source is seen to have it. Raises ArtifactError."""
    return oci.resolve(order.source, order.version, pin, key=order.credentials_key, access=access)


def standing(order: Order, *, access: Access) -> str | None:
    """What a version stands for now, by the word of a source that has digests of its own. None where it has no such version, or doesn't say. Raises ArtifactError."""
    return oci.standing(order.source, order.version, key=order.credentials_key, access=access)


def lasting_version(order: Order, *, access: Access) -> str:
    """A name of the version that never stands for anything else, where the source has such names; the version itself elsewhere. Raises ArtifactError."""
    lasting = _LASTING.get(order.source.partition("://")[0])
    return (
        lasting(Inquiry(order=order, access=access, time=TimeLimit.of(LASTING_SECONDS, access))) if lasting is not None else order.version
    )


def fetch(order: Order, digest: str, into: Path, *, access: Access, limits: FetchLimits) -> bytes | None:
    """Writes the artifact's files into the empty folder `into`. Returns the manifest, whose SHA-256 is the digest; None where it doesn't name each file.

    Raises ArtifactError, DigestMismatch for any other bytes than those of `digest`; what was written until then is the caller's to remove.
    """
    if has_own_digests(order.source):
        wanted = _WANTED[order.kind] if order.kind is ArtifactKind.ADAPTER else _everything
        return oci.fetch(order.source, digest, into, key=order.credentials_key, access=access, limits=limits, wanted=wanted)
    manifest = fetch_files(order, into, access=access, limits=limits)
    if (found := digest_of(manifest)) != digest:
        raise DigestMismatch(
            f"{order.source} has other bytes under version {order.version} ({found}) than those that were resolved ({digest})"
        )
    return manifest


def expected(order: Order, manifest: bytes, *, limits: FetchLimits) -> Mapping[str, Expected] | None:
    """What the manifest of an artifact says of the files that `fetch` would write; None where it doesn't name each file. Raises ArtifactInvalid."""
    if has_own_digests(order.source):
        files = oci.expected(manifest, limits=limits)
        wanted = _WANTED[order.kind] if order.kind is ArtifactKind.ADAPTER else _everything
    else:
        files = {name: Expected(f"sha256:{hash_}", None) for name, hash_ in hashes_of(manifest).items()}
        wanted = _WANTED[order.kind]
        if len(files) > limits.max_files:
            raise ArtifactInvalid(f"the artifact has {len(files)} files, at most {limits.max_files} are allowed")
    for name in files or ():
        filenames.check_name(name)
    return None if files is None else {name: file for name, file in files.items() if wanted(name)}


def fetch_files(order: Order, into: Path, *, access: Access, limits: FetchLimits) -> bytes:
    """Writes what a source that lists files has under a version, now, into the empty folder `into`; returns their manifest. Raises ArtifactError."""
    time = TimeLimit.of(limits.seconds, access)
    listing = LISTERS[order.source.partition("://")[0]](Inquiry(order=order, access=access, time=time))
    wanted = _WANTED[order.kind]
    if listing.tar is not None:
        download(
            listing.tar,
            into / _TAR,
            key=(order.source, order.version),
            max_bytes=limits.max_bytes,
            access=access,
            time=time,
        )
        return _unpacked(into, limits=limits, wanted=wanted)
    files = _chosen(listing, order, max_files=limits.max_files, wanted=wanted)
    left, hashes = limits.max_bytes, {}
    for file in files:
        key = (order.source, order.version, file.name)
        downloaded = download(file, into / file.name, key=key, max_bytes=left, access=access, time=time)
        left -= downloaded.size
        hashes[file.name] = downloaded.sha256
    return content_manifest(hashes)


def _everything(_name: str) -> bool:
    return True


def _chosen(listing: Listing, order: Order, *, max_files: int, wanted: Callable[[str], bool]) -> list[RemoteFile]:
    files = [file for file in listing.files if wanted(file.name)]
    if not files:
        raise ArtifactNotFound(f"{order.source} has nothing to serve under version {order.version}")
    if len(files) > max_files:
        raise ArtifactInvalid(f"the artifact has {len(files)} files, at most {max_files} are allowed")
    if len({file.name for file in files}) < len(files):
        raise ArtifactInvalid("the source lists two files of one name")
    for file in files:
        filenames.check_name(file.name)
    return sorted(files, key=lambda file: file.name)


def _unpacked(into: Path, *, limits: FetchLimits, wanted: Callable[[str], bool]) -> bytes:
    tarball.extract(into / _TAR, into, max_files=limits.max_files, max_bytes=limits.max_bytes)
    (into / _TAR).unlink()
    hashes = {}
    for path in into.iterdir():
        if wanted(path.name):
            hashes[path.name] = sha256_of(path)
        else:
            path.unlink()
    return content_manifest(hashes)
