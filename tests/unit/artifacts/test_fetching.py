"""Artifacts from sources that list files: chosen, bounded, hashed, and never other bytes than those of the digest."""

import threading
from pathlib import Path

import pytest

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import fetching, lora
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.content_manifest import content_manifest, digest_of
from taskfleet.artifacts.download import download, sha256_of
from taskfleet.artifacts.errors import (
    ArtifactInvalid,
    ArtifactNotFound,
    DigestMismatch,
    SourceUnavailable,
    UnsupportedSource,
)
from taskfleet.artifacts.listing import Inquiry, Order
from taskfleet.planning import admission
from tests.unit.artifacts.folder_source import PIECE, FolderSource
from tests.unit.artifacts.model_files import write_adapter, write_base

ORDER = Order(kind=ArtifactKind.ADAPTER, source="folder://host/x", version="v1")
LIMITS = FetchLimits(max_bytes=1_000_000, max_files=8, seconds=30)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    source = FolderSource(tmp_path / "source")
    monkeypatch.setattr(fetching, "LISTERS", {"folder": source.list})
    monkeypatch.setattr("taskfleet.artifacts.download.PAUSE_SECONDS", 0.001)
    return source


def fetch_files(into: Path, order: Order = ORDER, limits: FetchLimits = LIMITS) -> str:
    into.mkdir()
    return digest_of(fetching.fetch_files(order, into, access=Access(credentials_directory=into), limits=limits))


def test_adapter_is_its_two_files_whatever_lies_beside_them(source: FolderSource, tmp_path: Path) -> None:
    folder = write_adapter(source.root / "v1")
    digest = fetch_files(tmp_path / "one")
    for name in ("README.md", "optimizer.pt", "train.py", ".gitattributes"):
        (folder / name).write_text("beside")
    assert fetch_files(tmp_path / "two") == digest
    assert {path.name for path in (tmp_path / "two").iterdir()} == lora.FILES
    assert digest == digest_of(content_manifest({name: sha256_of(folder / name) for name in lora.FILES}))


def test_base_is_all_its_data_and_nothing_else(source: FolderSource, tmp_path: Path) -> None:
    folder = write_base(source.root / "v1")
    served = {path.name for path in folder.iterdir()}
    for name in ("pytorch_model.bin", "modeling.py", ".gitattributes"):
        (folder / name).write_text("beside")
    fetch_files(tmp_path / "got", Order(kind=ArtifactKind.BASE, source=ORDER.source, version="v1"))
    assert {path.name for path in (tmp_path / "got").iterdir()} == served


def test_other_bytes_under_the_same_version_are_refused(source: FolderSource, tmp_path: Path) -> None:
    write_adapter(source.root / "v1", rank=4)
    digest = fetch_files(tmp_path / "resolved")
    access = Access(credentials_directory=tmp_path)
    (tmp_path / "same").mkdir()
    manifest = fetching.fetch(ORDER, digest, tmp_path / "same", access=access, limits=LIMITS)
    assert manifest is not None
    assert digest_of(manifest) == digest
    write_adapter(source.root / "v1", rank=2)
    (tmp_path / "other").mkdir()
    with pytest.raises(DigestMismatch, match="other bytes under version v1"):
        fetching.fetch(ORDER, digest, tmp_path / "other", access=access, limits=LIMITS)


def test_broken_connection_is_gone_on_with(source: FolderSource, tmp_path: Path) -> None:
    folder = write_adapter(source.root / "v1")
    whole = digest_of(content_manifest({name: sha256_of(folder / name) for name in lora.FILES}))
    source.breaks = [10**9, PIECE, 0, PIECE, 0, 0]
    assert fetch_files(tmp_path / "got") == whole
    offsets = [offset for name, offset in source.opened if name == lora.WEIGHTS]
    assert offsets == [0, PIECE, PIECE, 2 * PIECE, 2 * PIECE, 2 * PIECE]


def test_download_begins_anew_where_the_source_has_other_bytes_now(source: FolderSource, tmp_path: Path) -> None:
    folder = write_adapter(source.root / "v1")
    whole = digest_of(content_manifest({name: sha256_of(folder / name) for name in lora.FILES}))
    source.breaks, source.resumes = [10**9, PIECE], False
    assert fetch_files(tmp_path / "got") == whole


def test_source_that_keeps_breaking_without_a_byte_is_given_up(source: FolderSource, tmp_path: Path) -> None:
    write_adapter(source.root / "v1")
    source.breaks = [0] * 10
    with pytest.raises(SourceUnavailable, match="broke"):
        fetch_files(tmp_path / "got")
    assert len(source.opened) == 3


def test_what_admission_accepts_is_what_agents_fetch() -> None:
    assert set(admission.SUPPORTED_SCHEMES) == {fetching.REGISTRY, *fetching.LISTERS}


def test_what_is_not_there_is_told_apart(source: FolderSource, tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="has no v1"):
        fetch_files(tmp_path / "one")
    (source.root / "v1").mkdir(parents=True)
    with pytest.raises(ArtifactNotFound, match="nothing to serve"):
        fetch_files(tmp_path / "two")
    with pytest.raises(UnsupportedSource, match="oci://, folder://"):
        fetching.has_own_digests("ftp://host/x")


def test_limits_hold_for_size_count_and_time(source: FolderSource, tmp_path: Path) -> None:
    write_base(source.root / "v1")
    order = Order(kind=ArtifactKind.BASE, source=ORDER.source, version="v1")
    with pytest.raises(ArtifactInvalid, match="larger than"):
        fetch_files(tmp_path / "size", order, FetchLimits(max_bytes=500))
    with pytest.raises(ArtifactInvalid, match="at most 1 "):
        fetch_files(tmp_path / "count", order, FetchLimits(max_bytes=1_000_000, max_files=1))
    with pytest.raises(SourceUnavailable, match="too long"):
        fetch_files(tmp_path / "time", order, FetchLimits(max_bytes=1_000_000, seconds=0))


def test_listed_hash_is_checked(source: FolderSource, tmp_path: Path) -> None:
    write_adapter(source.root / "v1")
    source.hashes = {lora.CONFIG: "0" * 64}
    with pytest.raises(DigestMismatch, match="listed"):
        fetch_files(tmp_path / "got")


def test_download_ends_when_the_agent_does(source: FolderSource, tmp_path: Path) -> None:
    write_adapter(source.root / "v1")
    listing = source.list(Inquiry(order=ORDER, access=Access(credentials_directory=tmp_path), time=TimeLimit(0, threading.Event())))
    access = Access(credentials_directory=tmp_path)
    time = TimeLimit(float("inf"), access.ended)
    access.ended.set()
    with pytest.raises(SourceUnavailable, match="ending"):
        download(listing.files[0], tmp_path / "file", key=("x",), max_bytes=1_000_000, access=access, time=time)
