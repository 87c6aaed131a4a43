"""Where a golden set's text comes from: a mounted file, or one file of an artifact. It is data, whatever is in it.

A registry's artifact has the digest of its manifest, as everywhere. A file elsewhere has its own, as `sha256sum` tells it: https://host/folder and s3://bucket/folder, with the
file's name behind it.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from taskfleet.api.agent import ArtifactKind
from taskfleet.api.taskmodel import Dataset
from taskfleet.artifacts import credentials, filenames, oci, s3
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.download import download
from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactNotFound, DigestMismatch, SourceUnavailable, UnsupportedSource
from taskfleet.artifacts.http_file import http_file
from taskfleet.artifacts.listing import Inquiry, Order, RemoteFile
from taskfleet.artifacts.transport import Origin
from taskfleet.evaluation.golden import MAX_BYTES, digest_of

FETCH_SECONDS = 120.0


def mounted(path: Path, digest: str | None) -> bytes:
    """A file's text. Raises SourceUnavailable, also for another text than the digest's: what is mounted may be newer than what the operator has seen."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceUnavailable(f"the golden set can't be read: {error.strerror}") from None
    if digest is not None and digest_of(text) != digest:
        raise SourceUnavailable(f"the golden set has changed: {digest_of(text)} is mounted, {digest} was to be measured")
    return text


def fetched(dataset: Dataset, *, access: Access) -> bytes:
    """The text of a dataset with a source. Blocks. Raises ArtifactError."""
    source = (dataset.source or "").rstrip("/")
    if dataset.digest is None:
        raise ArtifactInvalid("a golden set at a source needs a digest")
    filenames.check_name(dataset.key)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / dataset.key
        if source.startswith("oci://"):
            limits = FetchLimits(max_bytes=MAX_BYTES, seconds=FETCH_SECONDS)
            oci.fetch(
                source, dataset.digest, path.parent, key=dataset.credentials_key, access=access, limits=limits, wanted=dataset.key.__eq__
            )
        else:
            time = TimeLimit.of(FETCH_SECONDS, access)
            remote = _remote(dataset, source, Inquiry(order=_order(dataset, source), access=access, time=time))
            download(remote, path, key=(source, dataset.key), max_bytes=MAX_BYTES, access=access, time=time)
        if not path.is_file():
            raise ArtifactNotFound(f"{source} has no file {dataset.key}")
        text = path.read_bytes()
    if not source.startswith("oci://") and digest_of(text) != dataset.digest:
        raise DigestMismatch(f"{source}/{dataset.key} has other bytes ({digest_of(text)}) than those of its digest ({dataset.digest})")
    return text


def _order(dataset: Dataset, source: str) -> Order:
    """The folder of the file counts as a version of what is above it: that is how listings of artifacts are asked for."""
    above, _, last = source.rpartition("/")
    return Order(kind=ArtifactKind.ADAPTER, source=above, version=last, credentials_key=dataset.credentials_key)


def _remote(dataset: Dataset, source: str, inquiry: Inquiry) -> RemoteFile:
    scheme = source.partition("://")[0]
    if scheme == "https":

        def headers(url: str) -> Mapping[str, str]:
            directory, key = inquiry.access.credentials_directory, dataset.credentials_key
            return credentials.read(directory, key, host=str(Origin.of(url))).headers(str(Origin.of(url)))

        return http_file(inquiry, name=dataset.key, url=f"{source}/{dataset.key}", credentials=headers)
    if scheme not in {"s3", "gs"}:
        raise UnsupportedSource(f"golden sets come from a ConfigMap, or from oci://, https://, s3:// or gs://; {scheme}:// is none of them")
    found = next((file for file in s3.listing(inquiry).files if file.name == dataset.key), None)
    if found is None:
        raise ArtifactNotFound(f"{source} has no file {dataset.key}")
    return found
