"""Artifacts in repositories of the Hugging Face hub: `hf://owner/name`, `hf://owner/name/folder`, with a branch, tag or commit as version.

A version is resolved to its commit first, and everything is read at that commit: a branch that moves meanwhile mixes nothing. Source of the protocol: the hub's OpenAPI
description, and the client `huggingface_hub` 2.4, against whose server in the tests both are held.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urljoin

from taskfleet.artifacts import store_credentials
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid, ArtifactNotFound, CredentialsMissing, SourceUnavailable
from taskfleet.artifacts.http_file import http_file
from taskfleet.artifacts.listing import Inquiry, Listing, RemoteFile
from taskfleet.artifacts.store_credentials import HubCredentials
from taskfleet.artifacts.transport import Answer, Origin, Transport

MAX_ENTRIES = 10_000  # of one folder, served or not
MAX_PAGE_BYTES = 4 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at a hub. `folder` is empty for its top."""

    endpoint: str
    name: str
    folder: str

    def revision_url(self, version: str) -> str:
        return f"{self.endpoint}/api/models/{self.name}/revision/{quote(version, safe='')}"

    def tree_url(self, commit: str) -> str:
        folder = f"/{quote(self.folder)}" if self.folder else ""
        return f"{self.endpoint}/api/models/{self.name}/tree/{commit}{folder}?expand=false&recursive=false"

    def file_url(self, commit: str, path: str) -> str:
        return f"{self.endpoint}/{self.name}/resolve/{commit}/{quote(path)}"


def listing(inquiry: Inquiry) -> Listing:
    """The files of the folder at the version's commit. Raises ArtifactError."""
    repository = _repository(inquiry)
    credentials = partial(_credentials, inquiry)
    with Transport(inquiry.access, inquiry.time) as transport:
        head = _commit(transport, repository, inquiry, credentials)
        entries = list(_entries(transport, repository, head, inquiry))
    return Listing(files=tuple(_file(inquiry, repository, head, entry) for entry in entries))


def commit(inquiry: Inquiry) -> str:
    """The commit that the version stands for now. Raises ArtifactError."""
    with Transport(inquiry.access, inquiry.time) as transport:
        return _commit(transport, _repository(inquiry), inquiry, partial(_credentials, inquiry))


def _repository(inquiry: Inquiry) -> Repository:
    source = inquiry.order.source
    owner, *rest = source.partition("://")[2].rstrip("/").split("/")
    name = "/".join((owner, *rest[:1]))
    parts = [owner, *rest]
    if not all(_NAME.fullmatch(part) for part in parts[:2]) or any(part in {"", ".", ".."} for part in parts):
        raise ArtifactInvalid(f"source {source!r} names no repository: hf://owner/name, and a folder of it if need be")
    return Repository(_entry(inquiry).url, name, "/".join(rest[1:]))


def _entry(inquiry: Inquiry) -> HubCredentials:
    key = inquiry.order.credentials_key
    return (
        store_credentials.read_hub(inquiry.access.credentials_directory, key)
        if key is not None
        else HubCredentials(host=store_credentials.HUB_HOST)
    )


def _credentials(inquiry: Inquiry, _url: str) -> Mapping[str, str]:
    """Read anew for each request. The transport sends it to the hub only: files come from another host, whose addresses are signed."""
    token = _entry(inquiry).token
    return {"Authorization": f"Bearer {token}"} if token is not None else {}


def _commit(transport: Transport, repository: Repository, inquiry: Inquiry, credentials: Any) -> str:
    url = repository.revision_url(inquiry.order.version)
    with transport.get(url, credentials=credentials(url)) as answer:
        found = _json(answer, repository, inquiry)
    commit = found.get("sha") if isinstance(found, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise SourceUnavailable(f"{answer.origin} does not say which commit {inquiry.order.version} of {repository.name} is: it is no hub")
    return commit


def _entries(transport: Transport, repository: Repository, commit: str, inquiry: Inquiry) -> Iterator[dict[str, Any]]:
    url: str | None = repository.tree_url(commit)
    hub, count, seen = Origin.of(repository.endpoint), 0, set[str]()
    while url is not None:
        if url in seen or Origin.of(url) != hub:
            raise SourceUnavailable(f"{hub} does not go on with its listing of {repository.name} at its own address")
        seen.add(url)
        with transport.get(url, credentials=_credentials(inquiry, url)) as answer:
            page = _json(answer, repository, inquiry)
            following = _NEXT.search(answer.headers.get("Link", ""))
        if not isinstance(page, list) or not all(isinstance(entry, dict) and isinstance(entry.get("path"), str) for entry in page):
            raise SourceUnavailable(f"{hub} answers with no listing of {repository.name}")
        count += len(page)
        if count > MAX_ENTRIES:
            raise ArtifactInvalid(f"{repository.name} has more than {MAX_ENTRIES} entries in one folder")
        yield from (entry for entry in page if entry.get("type") == "file")
        url = urljoin(url, following[1]) if following is not None else None


def _file(inquiry: Inquiry, repository: Repository, commit: str, entry: dict[str, Any]) -> RemoteFile:
    path, large = entry["path"], entry.get("lfs")
    size = entry.get("size")
    oid = large.get("oid") if isinstance(large, dict) else None
    return http_file(
        inquiry,
        name=path.removeprefix(f"{repository.folder}/") if repository.folder else path,
        url=repository.file_url(commit, path),
        credentials=partial(_credentials, inquiry),
        size=size if isinstance(size, int) and size >= 0 else None,
        # Of large files the hub knows the hash; of others only git's own.
        sha256=oid if isinstance(oid, str) and _SHA256.fullmatch(oid) else None,
    )


def _json(answer: Answer, repository: Repository, inquiry: Inquiry) -> Any:
    if answer.status_code != 200:
        raise _refusal(answer, repository, inquiry)
    try:
        return json.loads(answer.read(limit=MAX_PAGE_BYTES))
    except (ValueError, RecursionError):
        raise SourceUnavailable(f"{answer.origin} answers with no JSON: it is no hub") from None


def _refusal(answer: Answer, repository: Repository, inquiry: Inquiry) -> ArtifactError:
    """The hub has a code of its own beside the HTTP status: 401 is also what it says of a repository that does not exist."""
    code, key, version = answer.headers.get("X-Error-Code", ""), inquiry.order.credentials_key, inquiry.order.version
    where = f"{answer.origin}, repository {repository.name}"
    if code == "GatedRepo":
        whose = f"the token of entry {key!r} has no access" if key is not None else "set credentialsKey"
        return CredentialsMissing(f"{where}: it is gated, and {whose}")
    if answer.status_code in {401, 403}:
        whose = (
            f"with entry {key!r} of the Secret taskfleet-credentials" if key is not None else "or it needs credentials: set credentialsKey"
        )
        return CredentialsMissing(f"{where}: not to be seen {whose}")
    if answer.status_code == 404:
        what = {"RevisionNotFound": f"there is no revision {version}", "EntryNotFound": f"there is no folder {repository.folder}"}.get(
            code, "there is no such repository"
        )
        return ArtifactNotFound(f"{where}: {what}")
    return SourceUnavailable(f"{where}: HTTP {answer.status_code}")
