"""Puts any folder into an OCI registry as one layer per file, bad ones included, and takes artifacts away, by the registry's plain HTTP API."""

import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def upload(registry: str, repository: str, tag: str, folder: Path) -> str:
    """Pushes over plain HTTP to HOST:PORT; gives the manifest's digest. An empty folder makes an artifact without layers."""
    pool = urllib3.PoolManager(retries=False, timeout=30)
    layers = []
    for path in sorted(folder.iterdir()):
        layer = _blob(pool, registry, repository, path.read_bytes(), "application/octet-stream")
        layers.append(layer | {"annotations": {"org.opencontainers.image.title": path.name}})
    config = _blob(pool, registry, repository, b"{}", "application/vnd.oci.empty.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.adapter",
        "config": config,
        "layers": layers,
    }
    text = json.dumps(manifest).encode()
    url = f"http://{registry}/v2/{repository}/manifests/{tag}"
    _expect(pool.request("PUT", url, body=text, headers={"content-type": MANIFEST}), 201)
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def remove(registry: str, repository: str, digest: str) -> None:
    """Takes an artifact away: all tags that stand for it, and what can be had by its digest."""
    pool = urllib3.PoolManager(retries=False, timeout=30)
    url = f"http://{registry}/v2/{repository}/manifests/{digest}"
    _expect(pool.request("DELETE", url), 202)
    _expect(pool.request("GET", url, headers={"accept": MANIFEST}), 404)


def _blob(pool: urllib3.PoolManager, registry: str, repository: str, content: bytes, media_type: str) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = _expect(pool.request("POST", f"http://{registry}/v2/{repository}/blobs/uploads/"), 202)
    # The registry may name itself by an address that only pods know; its path is what counts.
    place = urlsplit(begun.headers["location"])
    url = f"http://{registry}{place.path}?{place.query}&digest={digest}"
    _expect(pool.request("PUT", url, body=content, headers={"content-type": "application/octet-stream"}), 201)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _expect(reply: urllib3.BaseHTTPResponse, status: int) -> urllib3.BaseHTTPResponse:
    assert reply.status == status, f"the registry answered {reply.status}: {reply.data[:300].decode(errors='replace')}"
    return reply
