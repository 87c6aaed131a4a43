"""What an OCI manifest may say: files as layers with titles, as `oras push` makes them, or one plain tar layer, as image volumes need it."""

import json
from dataclasses import dataclass
from typing import Any

from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactTooLarge
from taskfleet.artifacts.filenames import check_name
from taskfleet.artifacts.source import check_digest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # the distribution specification asks registries for no more
TITLE = "org.opencontainers.image.title"
MANIFEST_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_TAR_TYPES = frozenset({"application/vnd.oci.image.layer.v1.tar", "application/x-tar"})
_COMPRESSED = ("+gzip", "+zstd", ".gzip", "gzip")


@dataclass(frozen=True, slots=True)
class Blob:
    """One layer. `size` in bytes, as the manifest says it."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What is to be fetched: files by name, or one tar that holds them."""

    files: dict[str, Blob]
    tar: Blob | None = None


def read(text: bytes, *, max_files: int, max_bytes: int) -> Layout:
    """The layout of a manifest, its limits checked by what it says of itself. Raises ArtifactInvalid, ArtifactTooLarge."""
    layers = _layers(text)
    if not layers:
        raise ArtifactInvalid("the artifact is empty: its manifest has no layers")
    if len(layers) > max_files:
        raise ArtifactInvalid(f"the artifact has {len(layers)} files, at most {max_files} are allowed")
    blobs = [_blob(layer) for layer in layers]
    total = sum(blob.size for blob in blobs)
    if total > max_bytes:
        raise ArtifactTooLarge(f"the artifact has {total} bytes, at most {max_bytes} are allowed")
    if len(layers) == 1 and _is_tar(layers[0]):
        return Layout({}, blobs[0])
    return Layout(_named(layers, blobs))


def _layers(text: bytes) -> list[dict[str, Any]]:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        raise ArtifactInvalid("the manifest is no JSON") from None
    if not isinstance(manifest, dict):
        raise ArtifactInvalid("the manifest is no JSON object")
    if "manifests" in manifest or manifest.get("mediaType") in INDEX_TYPES:
        raise ArtifactInvalid("the version is an index of several manifests; push a single artifact (one platform, without attestations)")
    layers = manifest.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ArtifactInvalid("the manifest's layers are no list of objects")
    return layers


def _blob(layer: dict[str, Any]) -> Blob:
    digest, size = layer.get("digest"), layer.get("size")
    if not isinstance(digest, str):
        raise ArtifactInvalid("a layer has no digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ArtifactInvalid(f"layer {digest} has no size")
    return Blob(check_digest(digest), size)


def _title(layer: dict[str, Any]) -> str | None:
    annotations = layer.get("annotations")
    title = annotations.get(TITLE) if isinstance(annotations, dict) else None
    return title if isinstance(title, str) else None


def _is_tar(layer: dict[str, Any]) -> bool:
    return str(layer.get("mediaType")) in _TAR_TYPES and (_title(layer) is None or str(_title(layer)).endswith(".tar"))


def _named(layers: list[dict[str, Any]], blobs: list[Blob]) -> dict[str, Blob]:
    files: dict[str, Blob] = {}
    for layer, blob in zip(layers, blobs, strict=True):
        title = _title(layer)
        if title is None:
            raise ArtifactInvalid(f"layer {blob.digest} has no file name (annotation {TITLE}), and is not the only layer as a plain tar")
        if str(layer.get("mediaType", "")).endswith(_COMPRESSED):
            raise ArtifactInvalid(f"layer {title!r} is compressed; push the files as they are, or one plain tar")
        check_name(title)
        if title in files:
            raise ArtifactInvalid(f"the artifact has two files named {title!r}")
        files[title] = blob
    return files
