"""Artifacts on web servers: `https://host/path`, with the version as the next part of the path.

A web server lists nothing, so names are known beforehand. `<source>/<version>/` holds an adapter's two files, or a base's:

- those that `SHA256SUMS` beside them names, as `sha256sum * > SHA256SUMS` writes it, or, without one,
- `config.json`, the weights (`model.safetensors`, or what `model.safetensors.index.json` names), and whichever of the usual tokenizer and generation files there are.

A version that ends with `.tar` is one plain tar of the files instead.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import base_model, credentials, json_file, lora
from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.http_file import http_file, refusal
from taskfleet.artifacts.listing import Inquiry, Listing, RemoteFile
from taskfleet.artifacts.transport import Answer, Origin, Transport

SUMS = "SHA256SUMS"
MAX_SUMS_BYTES = 256 * 1024
MAX_LINES = 2000
WEIGHTS = "model.safetensors"
# What transformers and engines look for beside configuration and weights.
USUAL = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "tekken.json", "special_tokens_map.json",
    "added_tokens.json", "generation_config.json", "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?([!-~]{1,255})")
_ABSENT = frozenset({401, 403, 404, 410})
_NO_HEAD = frozenset({405, 501})


def listing(inquiry: Inquiry) -> Listing:
    """The files of the version. Raises ArtifactError."""
    order = inquiry.order
    if order.version.endswith(".tar"):
        url = f"{order.source.rstrip('/')}/{order.version}"
        return Listing(tar=http_file(inquiry, name=order.version, url=url, credentials=partial(_headers, inquiry)))
    if order.kind is ArtifactKind.ADAPTER:
        return Listing(tuple(_file(inquiry, name) for name in sorted(lora.FILES)))
    with Transport(inquiry.access, inquiry.time) as transport:
        folder = _Folder(inquiry, transport)
        sums = folder.text(SUMS, limit=MAX_SUMS_BYTES)
        if sums is not None:
            return Listing(tuple(_file(inquiry, name, sha256) for name, sha256 in _sums(sums).items()))
        return Listing(tuple(_file(inquiry, name) for name in folder.usual_names()))


class _Folder:
    """The version's folder, asked name by name."""

    def __init__(self, inquiry: Inquiry, transport: Transport) -> None:
        self._inquiry = inquiry
        self._transport = transport

    def text(self, name: str, *, limit: int) -> bytes | None:
        """A small file, or None where there is none."""
        with self._ask("GET", name) as answer:
            if answer.status_code in _ABSENT:
                return None
            self._check(answer, name)
            return answer.read(limit=limit)

    def usual_names(self) -> Iterable[str]:
        """The names of a base's files, as far as they are there."""
        index = self.text(base_model.INDEX, limit=json_file.MAX_TABLE_BYTES)
        weights = [WEIGHTS] if index is None else [base_model.INDEX, *_shards(index)]
        return ["config.json", *weights, *(name for name in USUAL if self._has(name))]

    def _has(self, name: str) -> bool:
        with self._ask("HEAD", name) as answer:
            status = answer.status_code
        if status in _NO_HEAD:
            with self._ask("GET", name) as answer:
                status = answer.status_code
        if status not in _ABSENT:
            self._check(answer, name)
        return status not in _ABSENT

    def _ask(self, method: str, name: str) -> Answer:
        url = _url(self._inquiry, name)
        return self._transport.request(method, url, credentials=_headers(self._inquiry, url))

    def _check(self, answer: Answer, name: str) -> None:
        if answer.status_code != 200:
            order = self._inquiry.order
            raise refusal(answer.status_code, host=answer.origin, what=f"file {name} of version {order.version}", key=order.credentials_key)


def _file(inquiry: Inquiry, name: str, sha256: str | None = None) -> RemoteFile:
    return http_file(inquiry, name=name, url=_url(inquiry, name), credentials=partial(_headers, inquiry), sha256=sha256)


def _url(inquiry: Inquiry, name: str) -> str:
    return f"{inquiry.order.source.rstrip('/')}/{inquiry.order.version}/{quote(name)}"


def _headers(inquiry: Inquiry, url: str) -> Mapping[str, str]:
    """Read anew for each request: what was rotated is used by the next one."""
    host = str(Origin.of(url))
    return credentials.read(inquiry.access.credentials_directory, inquiry.order.credentials_key, host=host).headers(host)


def _sums(text: bytes) -> dict[str, str]:
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError:
        raise ArtifactInvalid(f"{SUMS} is no text") from None
    matches = [_LINE.fullmatch(line) for line in lines if line]
    if not matches or len(matches) > MAX_LINES or None in matches:
        raise ArtifactInvalid(f"{SUMS} is no list of hashes and names, as sha256sum writes it")
    return {match[2]: match[1] for match in matches if match is not None}


def _shards(text: bytes) -> list[str]:
    try:
        index: Any = json.loads(text)
    except (ValueError, RecursionError):
        index = None
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ArtifactInvalid(f"{base_model.INDEX} has no weight_map")
    return sorted(set(shards.values()))
