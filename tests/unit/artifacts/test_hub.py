"""Artifacts from a hub: at one commit, in pages, with large files from another host, and never with a token for somebody else."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from taskfleet.agent.staging import Staging
from taskfleet.api.agent import ArtifactKind, DesiredAdapter, Limits, ResolveRequest
from taskfleet.api.taskmodel import Adapter
from taskfleet.artifacts import base_model, fetching, hub, lora
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.content_manifest import digest_of
from taskfleet.artifacts.errors import (
    ArtifactError,
    ArtifactInvalid,
    ArtifactNotFound,
    CredentialsMissing,
    DigestMismatch,
    SourceUnavailable,
)
from taskfleet.artifacts.listing import Inquiry, Order
from taskfleet.artifacts.store import Store
from tests.sources.hub_server import PAGE, TOKEN, HubServer, running_hub
from tests.unit.agent.builders import no_peers
from tests.unit.artifacts.model_files import write_adapter, write_base

LIMITS = FetchLimits(max_bytes=10_000_000, max_files=64, seconds=60)
POOL_LIMITS = Limits(max_rank=64, max_adapter_bytes=10_000_000, max_base_bytes=10_000_000)
REPOSITORY = "acme/invoice-total"


@pytest.fixture
def server() -> Iterator[HubServer]:
    with running_hub() as running:
        yield running


@pytest.fixture
def access(server: HubServer, tmp_path: Path) -> Access:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "hub").write_text(json.dumps({"endpoint": server.endpoint, "token": TOKEN}))
    (folder / "anonymous").write_text(json.dumps({"endpoint": server.endpoint}))
    (folder / "wrong").write_text(json.dumps({"endpoint": server.endpoint, "token": "hf_wrong"}))
    return Access(
        credentials_directory=folder,
        insecure_hosts=frozenset({server.hub, server.content}),
        allowed_networks=(ip_network("127.0.0.1/32"),),
    )


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def order(
    version: str = "main", *, source: str = f"hf://{REPOSITORY}", key: str | None = "hub", kind: ArtifactKind = ArtifactKind.ADAPTER
) -> Order:
    return Order(kind=kind, source=source, version=version, credentials_key=key)


def fetched(asked: Order, access: Access, into: Path) -> str:
    into.mkdir()
    return digest_of(fetching.fetch_files(asked, into, access=access, limits=LIMITS))


def test_server_speaks_the_hubs_language_to_the_hubs_own_client(server: HubServer, tmp_path: Path) -> None:
    files = {**files_of(write_base(tmp_path / "base")), "README.md": b"# tiny", "extra/notes.txt": b"beside"}
    repository = server.repository("acme/tiny")
    commit = repository.commit(files)
    repository.refs["v1"] = commit
    api = HfApi(endpoint=server.endpoint, token=TOKEN)
    assert api.model_info("acme/tiny", revision="v1").sha == commit
    assert {entry.path for entry in api.list_repo_tree("acme/tiny", recursive=True) if hasattr(entry, "blob_id")} == files.keys()
    assert len(files) > PAGE, "the tree has several pages"
    got = snapshot_download("acme/tiny", revision="v1", endpoint=server.endpoint, token=TOKEN, cache_dir=tmp_path / "cache")
    assert {name: (Path(got) / name).read_bytes() for name in files} == files
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/tiny", revision="v9")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/none")
    server.repository("acme/gated", gated=True).commit(files)
    with pytest.raises(GatedRepoError):
        snapshot_download("acme/gated", endpoint=server.endpoint, token=False, cache_dir=tmp_path / "gated")


def test_branch_tag_and_commit_are_the_same_bytes(server: HubServer, access: Access, tmp_path: Path) -> None:
    files = files_of(write_adapter(tmp_path / "adapter"))
    repository = server.repository(REPOSITORY)
    commit = repository.commit({**files, "README.md": b"beside", "training_args.bin": b"pickle", "checkpoint-1/optimizer.pt": b"pickle"})
    repository.refs["v1"] = commit
    digests = {fetched(order(version), access, tmp_path / version) for version in ("main", "v1", commit)}
    assert len(digests) == 1
    assert files_of(tmp_path / "v1") == {name: files[name] for name in lora.FILES}


def test_base_comes_without_what_is_not_served(server: HubServer, access: Access, tmp_path: Path) -> None:
    """Repositories have pickles beside the safetensors, and scripts: nobody asks for them."""
    files = files_of(write_base(tmp_path / "base"))
    server.repository("acme/tiny").commit({**files, ".gitattributes": b"*", "pytorch_model.bin": b"pickle", "modeling.py": b"import os"})
    fetched(order(source="hf://acme/tiny", kind=ArtifactKind.BASE), access, tmp_path / "got")
    assert files_of(tmp_path / "got") == files
    assert not [path for _, path, _ in server.asked if "pytorch_model" in path or "modeling.py" in path]


def test_adapter_may_be_in_a_folder_of_the_repository(server: HubServer, access: Access, tmp_path: Path) -> None:
    files = files_of(write_adapter(tmp_path / "adapter"))
    server.repository(REPOSITORY).commit({f"adapters/total/{name}": body for name, body in files.items()})
    fetched(order(source=f"hf://{REPOSITORY}/adapters/total"), access, tmp_path / "got")
    assert files_of(tmp_path / "got") == {name: files[name] for name in lora.FILES}


def test_branch_that_moves_meanwhile_mixes_nothing(server: HubServer, access: Access, tmp_path: Path) -> None:
    first, second = (files_of(write_adapter(tmp_path / str(rank), rank=rank)) for rank in (4, 2))
    repository = server.repository(REPOSITORY)
    repository.commit(first)
    listing = hub.listing(Inquiry(order=order(), access=access, time=TimeLimit.of(60, access)))
    repository.commit(second)
    for file in listing.files:
        with file.open(0, None) as stream:
            assert b"".join(stream.pieces) == first[file.name]


def test_moved_branch_is_noticed_and_its_commit_still_there(server: HubServer, access: Access, tmp_path: Path) -> None:
    repository = server.repository(REPOSITORY)
    commit = repository.commit(files_of(write_adapter(tmp_path / "one", rank=4)))
    digest = fetched(order(), access, tmp_path / "resolved")
    repository.commit(files_of(write_adapter(tmp_path / "two", rank=2)))
    (tmp_path / "moved").mkdir()
    with pytest.raises(DigestMismatch, match="under version main"):
        fetching.fetch(order(), digest, tmp_path / "moved", access=access, limits=LIMITS)
    assert fetched(order(commit), access, tmp_path / "pinned") == digest


async def test_pod_that_starts_after_the_branch_has_moved_has_the_bytes_that_were_resolved(
    server: HubServer, access: Access, tmp_path: Path
) -> None:
    """The commit is recorded with the digest, and fetched from."""
    repository = server.repository(REPOSITORY)
    base = base_model.verify(write_base(tmp_path / "base"))
    commit = repository.commit(files_of(write_adapter(tmp_path / "one")))
    asked = ResolveRequest(kind=ArtifactKind.ADAPTER, source=f"hf://{REPOSITORY}", version="main", credentials_key="hub")
    reply = await staging(tmp_path / "first", access).resolve(asked, POOL_LIMITS)
    assert reply.version == commit
    repository.commit(files_of(write_adapter(tmp_path / "two", rank=2)))

    adapter = Adapter(source=asked.source, version="main", digest=reply.digest, credentials_key="hub")
    wish = DesiredAdapter(engine_name="finance.total.x", revision="total-1", adapter=adapter, resolved_version=reply.version)
    folder = await staging(tmp_path / "second", access).adapter(wish, base, POOL_LIMITS)
    assert files_of(folder) == {name: repository.commits[commit][name] for name in lora.FILES}
    with pytest.raises(DigestMismatch):
        await staging(tmp_path / "third", access).adapter(wish.model_copy(update={"resolved_version": None}), base, POOL_LIMITS)


def staging(folder: Path, access: Access) -> Staging:
    """That of a pod of its own."""
    store = Store(folder)
    store.prepare()
    return Staging(store, access, no_peers(), seconds=60, patience=60)


def test_token_goes_to_the_hub_and_not_to_the_host_of_large_files(server: HubServer, access: Access, tmp_path: Path) -> None:
    server.repository(REPOSITORY, gated=True).commit(files_of(write_adapter(tmp_path / "adapter")))
    fetched(order(), access, tmp_path / "got")
    by_role = {role: {authorization for asked, _, authorization in server.asked if asked == role} for role in ("hub", "content")}
    assert by_role == {"hub": {f"Bearer {TOKEN}"}, "content": {None}}


def test_large_file_is_gone_on_with_where_its_connection_broke(
    server: HubServer, access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskfleet.artifacts.download.PAUSE_SECONDS", 0.001)
    files = files_of(write_adapter(tmp_path / "adapter"))
    server.repository(REPOSITORY).commit(files)
    server.breaks = [1000, 1000]
    fetched(order(), access, tmp_path / "got")
    assert files_of(tmp_path / "got") == {name: files[name] for name in lora.FILES}
    assert server.ranges == ["bytes=1000-", "bytes=2000-"]


def test_bytes_other_than_the_hub_lists_are_refused(server: HubServer, access: Access, tmp_path: Path) -> None:
    files = files_of(write_adapter(tmp_path / "adapter"))
    server.repository(REPOSITORY).commit(files)
    listing = hub.listing(Inquiry(order=order(), access=access, time=TimeLimit.of(60, access)))
    assert {file.name for file in listing.files if file.sha256 is not None} == {lora.WEIGHTS}


REFUSALS: dict[str, tuple[Order, type[ArtifactError], str]] = {
    "no repository, signed in": (order(source="hf://acme/none"), ArtifactNotFound, "no such repository"),
    "no repository, anonymous": (order(source="hf://acme/none", key="anonymous"), CredentialsMissing, "acme/none"),
    "no revision": (order("v9"), ArtifactNotFound, "no revision v9"),
    "no folder": (order(source=f"hf://{REPOSITORY}/none"), ArtifactNotFound, "no folder none"),
    "gated, anonymous": (order(source="hf://acme/gated", key="anonymous"), CredentialsMissing, "HTTP 401"),
    "wrong token": (order(key="wrong"), CredentialsMissing, "entry 'wrong'"),
    "no entry": (order(key="absent"), CredentialsMissing, "no entry 'absent'"),
    "no name": (order(source="hf://acme/../x"), ArtifactInvalid, "names no repository"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cant_be_had_is_said(server: HubServer, access: Access, tmp_path: Path, case: str) -> None:
    asked, error, words = REFUSALS[case]
    files = files_of(write_adapter(tmp_path / "adapter"))
    server.repository(REPOSITORY).commit(files)
    server.repository("acme/gated", gated=True).commit(files)
    with pytest.raises(error, match=words) as raised:
        fetched(asked, access, tmp_path / "got")
    assert "hf_" not in str(raised.value)


@pytest.mark.parametrize("where", ["elsewhere", "here"])
def test_listing_goes_on_at_the_hub_and_comes_to_an_end(server: HubServer, access: Access, tmp_path: Path, where: str) -> None:
    server.repository(REPOSITORY).commit({f"{number}.json": b"{}" for number in range(PAGE + 1)})
    server.next_elsewhere = (
        f"http://{server.content}/next" if where == "elsewhere" else f"{server.endpoint}/api/models/{REPOSITORY}/tree/main"
    )
    if where == "elsewhere":
        with pytest.raises(SourceUnavailable, match="at its own address"):
            fetched(order(), access, tmp_path / "got")
        assert not [path for role, path, _ in server.asked if role == "content"]
    else:
        with pytest.raises(ArtifactNotFound):
            fetched(order(), access, tmp_path / "got")


def test_what_is_no_hub_is_said(access: Access, server: HubServer, tmp_path: Path) -> None:
    (access.credentials_directory / "content").write_text(json.dumps({"endpoint": f"http://{server.content}"}))
    with pytest.raises(ArtifactNotFound, match="no such repository"):
        fetched(order(key="content"), access, tmp_path / "got")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("no JSON hf_secret", "is none for a hub"),
        ('{"token": 5}', "token"),
        ('{"token": "hf_secret\\nX: y"}', "token"),
        ('{"endpoint": "https://user:hf_secret@hub.example"}', "endpoint"),
        ('{"endpoint": "file:///etc/passwd"}', "endpoint"),
        ('{"endpoint": "https://hub.example/path"}', "endpoint"),
        # A token that is for nobody in particular is sent to nobody.
        ('{"token": "hf_secret"}', "names no hub"),
        ('{"token": "hf_secret", "host": "one.example", "endpoint": "https://two.example"}', "names no hub"),
        ('{"token": "hf_secret", "host": "one.example/../two"}', "with a host"),
    ],
)
def test_entry_that_is_none_is_said_without_its_content(access: Access, tmp_path: Path, entry: str, words: str) -> None:
    (access.credentials_directory / "broken").write_text(entry)
    with pytest.raises(CredentialsMissing, match=words) as raised:
        fetched(order(key="broken"), access, tmp_path / "got")
    assert "hf_secret" not in str(raised.value)
