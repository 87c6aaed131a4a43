"""Where a pod looks for an artifact: in its store, at its peers, at the source, in this order."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.peers import Peers
from taskfleet.agent.staging import Staging
from taskfleet.api.agent import ArtifactKind, DesiredAdapter, Limits, ResolveRequest
from taskfleet.api.taskmodel import Base
from taskfleet.artifacts import base_model, fetching
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.base_model import BaseShapes
from taskfleet.artifacts.copying import NoCopy, ReadManifest
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid, ArtifactNotFound, DigestMismatch, SourceUnavailable
from taskfleet.artifacts.store import Shelf, Store
from tests.unit.agent.builders import adapter
from tests.unit.artifacts.folder_source import FolderSource
from tests.unit.artifacts.model_files import write_adapter, write_base

LIMITS = Limits(max_rank=8, max_adapter_bytes=1_000_000, max_base_bytes=1_000_000)
SOURCE = "https://host/x"


class OtherPod(Peers):
    """A peer whose store is at hand; `gap` says why it gives nothing."""

    def __init__(self, store: Store) -> None:
        metrics = AgentMetrics(Board("asker", Flights()))
        super().__init__(token_file=Path("/nowhere"), own_address="", fixed=(), ended=threading.Event(), metrics=metrics)
        self.store = store
        self.gap: NoCopy | None = None
        self.asked: list[str] = []

    def fetch(self, shelf: Shelf, digest: str, into: Path, *, read: ReadManifest, most: int, seconds: float) -> bytes:
        del most, seconds
        self.asked.append(digest)
        manifest = self.store.manifest(shelf, digest)
        if self.gap is not None or manifest is None:
            raise self.gap or NoCopy("nobody has a copy")
        for name in read(manifest) or ():
            (into / name).write_bytes((self.store.path(shelf, digest) / name).read_bytes())
        return manifest


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    source = FolderSource(tmp_path / "source")
    monkeypatch.setattr(fetching, "LISTERS", {"https": source.list})
    return source


@pytest.fixture
def shapes(tmp_path: Path) -> BaseShapes:
    return base_model.verify(write_base(tmp_path / "shapes"))


@pytest.fixture
def pod(tmp_path: Path) -> Callable[[str, Peers | None], Staging]:
    def made(name: str, peers: Peers | None) -> Staging:
        store = Store(tmp_path / name)
        store.prepare()
        return Staging(store, Access(credentials_directory=tmp_path), peers or OtherPod(store), seconds=30, patience=30)

    return made


def wish(digest: str) -> DesiredAdapter:
    wanted = adapter("a", digest)
    return wanted.model_copy(update={"adapter": wanted.adapter.model_copy(update={"source": SOURCE})})


Pods = Callable[[str, Peers | None], Staging]


async def first_pod(pod: Pods, kind: ArtifactKind = ArtifactKind.ADAPTER) -> tuple[Staging, str]:
    """One that has resolved, and so staged, what the source has."""
    first = pod("first", None)
    return first, (await first.resolve(ResolveRequest(kind=kind, source=SOURCE, version="v1"), LIMITS)).digest


async def test_peers_are_asked_before_the_source(source: FolderSource, shapes: BaseShapes, pod: Pods) -> None:
    write_adapter(source.root / "v1")
    first, digest = await first_pod(pod)
    opened, second = len(source.opened), pod("second", OtherPod(first.store))
    path = await second.adapter(wish(digest), shapes, LIMITS)
    assert len(source.opened) == opened
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        file.name: file.read_bytes() for file in (source.root / "v1").iterdir()
    }
    assert second.store.manifest(Shelf.ADAPTERS, digest) is not None, "it can give a copy in turn"


async def test_base_comes_from_peers_too(source: FolderSource, pod: Pods) -> None:
    write_base(source.root / "v1")
    first, digest = await first_pod(pod, ArtifactKind.BASE)
    opened, second = len(source.opened), pod("second", OtherPod(first.store))
    assert (await second.base(Base(source=SOURCE, revision="v1"), digest, LIMITS)).layers > 0
    assert len(source.opened) == opened


async def test_source_is_asked_where_no_peer_gives_a_copy(source: FolderSource, shapes: BaseShapes, pod: Pods) -> None:
    write_adapter(source.root / "v1")
    first, digest = await first_pod(pod)
    peers = OtherPod(first.store)
    peers.gap = NoCopy("all are busy", perhaps=True)
    await pod("second", peers).adapter(wish(digest), shapes, LIMITS)
    assert len(source.opened) == 4


async def test_what_is_in_the_store_is_asked_of_nobody(source: FolderSource, shapes: BaseShapes, pod: Pods) -> None:
    write_adapter(source.root / "v1")
    first, digest = await first_pod(pod)
    peers = OtherPod(first.store)
    second = pod("second", peers)
    for _ in range(3):
        await second.adapter(wish(digest), shapes, LIMITS)
    assert peers.asked == [digest]


@pytest.mark.parametrize(("perhaps", "error"), [(False, ArtifactNotFound), (True, SourceUnavailable)])
async def test_sources_no_is_the_last_word_only_where_no_peer_may_have_a_copy(
    source: FolderSource, shapes: BaseShapes, pod: Pods, *, perhaps: bool, error: type[ArtifactError]
) -> None:
    del source
    peers = OtherPod(pod("first", None).store)
    peers.gap = NoCopy("those who may have a copy can't give it now", perhaps=perhaps)
    with pytest.raises(error, match="has no v1"):
        await pod("second", peers).adapter(wish("sha256:" + "1" * 64), shapes, LIMITS)


@pytest.mark.parametrize(("perhaps", "error"), [(False, DigestMismatch), (True, SourceUnavailable)])
async def test_version_that_was_swapped_at_the_source_still_comes_from_a_peer(
    source: FolderSource, shapes: BaseShapes, pod: Pods, *, perhaps: bool, error: type[ArtifactError]
) -> None:
    folder = write_adapter(source.root / "v1")
    first, digest = await first_pod(pod)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text() + " ")
    peers = OtherPod(first.store)
    peers.gap = NoCopy("not now", perhaps=perhaps)
    second = pod("second", peers)
    with pytest.raises(error):
        await second.adapter(wish(digest), shapes, LIMITS)
    peers.gap = None
    await second.adapter(wish(digest), shapes, LIMITS)


async def test_invalid_artifact_is_refused_for_good_whatever_peers_say(source: FolderSource, shapes: BaseShapes, pod: Pods) -> None:
    write_adapter(source.root / "v1", rank=16)
    first, digest = await first_pod(pod)
    second = pod("second", OtherPod(first.store))
    with pytest.raises(ArtifactInvalid, match="rank"):
        await second.adapter(wish(digest), shapes, LIMITS)
    assert second.store.digests(Shelf.ADAPTERS) == []


async def test_versions_are_resolved_at_the_source_only(source: FolderSource, pod: Pods) -> None:
    write_adapter(source.root / "v1")
    first, _ = await first_pod(pod)
    peers = OtherPod(first.store)
    (source.root / "v1").rename(source.root / "gone")
    with pytest.raises(ArtifactNotFound):
        await pod("second", peers).resolve(ResolveRequest(kind=ArtifactKind.ADAPTER, source=SOURCE, version="v1"), LIMITS)
    assert peers.asked == []
