"""Digests that need a download: one however many ask, which outlives who asks."""

import asyncio
from pathlib import Path

import pytest

from taskfleet.agent.resolving import Resolving
from taskfleet.agent.staging import Staging
from taskfleet.api.agent import ArtifactKind, Limits, ResolveRequest
from taskfleet.artifacts import base_model, fetching
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.errors import DigestMismatch, SourceUnavailable, StillFetching
from taskfleet.artifacts.listing import Order
from taskfleet.artifacts.store import Shelf, Store
from tests.unit.agent.builders import DIGEST, adapter, no_peers
from tests.unit.artifacts.folder_source import FolderSource
from tests.unit.artifacts.model_files import write_adapter, write_base

ORDER = Order(kind=ArtifactKind.ADAPTER, source="folder://host/x", version="v1")
LIMITS = Limits(max_rank=8, max_adapter_bytes=1_000_000, max_base_bytes=1_000_000)


class Slow:
    """A download that ends when it is let to."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self, _order: Order, _limits: Limits) -> str:
        self.begun += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return DIGEST


async def test_all_who_ask_share_one_download() -> None:
    slow = Slow()
    resolving = Resolving(slow.fetch, patience=30)
    asking = [asyncio.create_task(resolving.digest(ORDER, LIMITS)) for _ in range(5)]
    await asyncio.sleep(0)
    slow.may_end.set()
    assert await asyncio.gather(*asking) == [DIGEST] * 5
    assert slow.begun == 1


async def test_download_that_takes_longer_goes_on_and_is_found_by_the_next_who_asks() -> None:
    slow = Slow()
    resolving = Resolving(slow.fetch, patience=0.01)
    with pytest.raises(StillFetching, match="being fetched"):
        await resolving.digest(ORDER, LIMITS)
    gone = asyncio.create_task(resolving.digest(ORDER, LIMITS))
    await asyncio.sleep(0)
    gone.cancel()
    slow.may_end.set()
    await asyncio.sleep(0.02)
    assert await resolving.digest(ORDER, LIMITS) == DIGEST
    assert slow.begun == 1


async def test_result_is_handed_out_once_and_the_source_asked_anew_then() -> None:
    slow = Slow()
    slow.may_end.set()
    resolving = Resolving(slow.fetch, patience=30)
    assert [await resolving.digest(ORDER, LIMITS) for _ in range(2)] == [DIGEST] * 2
    assert slow.begun == 2


async def test_failure_reaches_who_asks_and_the_next_question_tries_again() -> None:
    slow = Slow()
    slow.may_end.set()
    slow.error = SourceUnavailable("away")
    resolving = Resolving(slow.fetch, patience=30)
    with pytest.raises(SourceUnavailable, match="away"):
        await resolving.digest(ORDER, LIMITS)
    slow.error = None
    assert await resolving.digest(ORDER, LIMITS) == DIGEST


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    source = FolderSource(tmp_path / "source")
    monkeypatch.setattr(fetching, "LISTERS", {"folder": source.list})
    return source


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    store = Store(tmp_path / "store")
    store.prepare()
    return Staging(store, Access(credentials_directory=tmp_path), no_peers(), seconds=30, patience=30)


def request(digest: str | None = None) -> ResolveRequest:
    return ResolveRequest(kind=ArtifactKind.ADAPTER, source=ORDER.source, version="v1", digest=digest)


async def test_bytes_that_were_fetched_for_their_digest_are_not_fetched_again(
    source: FolderSource, staging: Staging, tmp_path: Path
) -> None:
    write_adapter(source.root / "v1")
    digest = (await staging.resolve(request(), LIMITS)).digest
    assert staging.store.digests(Shelf.ADAPTERS) == [digest]
    assert staging.leftovers() == []
    opened = len(source.opened)
    wish = adapter("a", digest)
    wish = wish.model_copy(update={"adapter": wish.adapter.model_copy(update={"source": ORDER.source})})
    await staging.adapter(wish, base_model.verify(write_base(tmp_path / "base")), LIMITS)
    assert len(source.opened) == opened
    assert staging.leftovers() == [digest]


async def test_pin_that_is_in_the_store_needs_no_source(source: FolderSource, staging: Staging) -> None:
    write_adapter(source.root / "v1")
    digest = (await staging.resolve(request(), LIMITS)).digest
    opened = len(source.opened)
    assert (await staging.resolve(request(digest), LIMITS)).digest == digest
    assert len(source.opened) == opened
    with pytest.raises(DigestMismatch, match="is pinned"):
        await staging.resolve(request(DIGEST), LIMITS)


async def test_swapped_bytes_get_a_digest_of_their_own_and_leave_the_old_ones_alone(source: FolderSource, staging: Staging) -> None:
    write_adapter(source.root / "v1", rank=4)
    first = (await staging.resolve(request(), LIMITS)).digest
    write_adapter(source.root / "v1", rank=2)
    second = (await staging.resolve(request(), LIMITS)).digest
    assert staging.store.digests(Shelf.ADAPTERS) == sorted([first, second])


async def test_without_a_document_nothing_says_how_much_may_be_fetched(source: FolderSource, staging: Staging) -> None:
    with pytest.raises(SourceUnavailable, match="no document yet"):
        await staging.resolve(request(), None)
