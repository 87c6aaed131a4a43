"""Packs a folder as an artifact and pushes it: what `oras push` would make of its files."""

import hashlib
import json
import tempfile
from pathlib import Path

import oras.oci

from taskfleet.artifacts import addresses
from taskfleet.artifacts.access import Access, TimeLimit
from taskfleet.artifacts.credentials import Credentials
from taskfleet.artifacts.errors import ArtifactInvalid, SourceUnavailable
from taskfleet.artifacts.filenames import check_name
from taskfleet.artifacts.manifest import MANIFEST_TYPES, TITLE
from taskfleet.artifacts.registry import Registry
from taskfleet.artifacts.source import check_tag, parse

ARTIFACT_TYPE = "application/vnd.taskfleet.model.v1"
PUSH_SECONDS = 3600.0


def push(directory: Path, reference: str, *, insecure: bool = False, credentials: Credentials | None = None) -> str:
    """Pushes the folder's files to `host/repository:tag` (with or without oci://) and returns the artifact's digest.

    Raises ArtifactInvalid for a folder with other than allowed files, and SourceUnavailable or CredentialsMissing when the registry doesn't take it.
    """
    repository, separator, tag = reference.removeprefix("oci://").rpartition(":")
    if not separator or "/" in tag:
        raise ArtifactInvalid(f"reference {reference!r} has no tag")
    place = parse(f"oci://{repository}")
    # Nobody but the person who pushes has chosen the host.
    access = Access(
        credentials_directory=Path(), insecure_hosts=frozenset({place.host} if insecure else ()), allowed_networks=addresses.ANYWHERE
    )
    with Registry(place, access=access, credentials=credentials or Credentials(), time=TimeLimit.of(PUSH_SECONDS, access)) as registry:
        return _upload(registry, _files(directory), check_tag(tag))


def _files(directory: Path) -> list[Path]:
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise ArtifactInvalid(f"{path} is no regular file")
        check_name(path.name)
    if not paths:
        raise ArtifactInvalid(f"folder {directory} has no files")
    return paths


def _upload(registry: Registry, paths: list[Path], tag: str) -> str:
    container = registry.container(tag)
    layers = []
    for path in paths:
        layer = oras.oci.NewLayer(str(path), media_type="application/octet-stream")
        layer["annotations"] = {TITLE: path.name}
        _accepted(registry, registry.upload_blob(str(path), container, layer), path.name)
        layers.append(layer)
    with tempfile.NamedTemporaryFile(suffix=".json") as empty:
        empty.write(b"{}")
        empty.flush()
        config = oras.oci.NewLayer(empty.name, media_type="application/vnd.oci.empty.v1+json")
        _accepted(registry, registry.upload_blob(empty.name, container, config), "config")
    text = _manifest(config, layers)
    url = f"{registry.prefix}://{container.manifest_url()}"
    _accepted(registry, registry.do_request(url, "PUT", data=text, headers={"Content-Type": MANIFEST_TYPES[0]}), "manifest")
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _manifest(config: dict[str, object], layers: list[dict[str, object]]) -> bytes:
    # Written here and not by oras: equal folders shall have equal digests, so the bytes are ours.
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "artifactType": ARTIFACT_TYPE,
        "config": {key: config[key] for key in ("mediaType", "digest", "size")},
        "layers": [{key: layer[key] for key in ("mediaType", "digest", "size", "annotations")} for layer in layers],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _accepted(registry: Registry, response: object, what: str) -> None:
    status = getattr(response, "status_code", None)
    if status not in {200, 201, 202}:
        raise SourceUnavailable(f"{registry.hostname} refused {what}: HTTP {status}")
