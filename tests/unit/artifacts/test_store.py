"""The content-addressed store: all of an artifact or nothing of it."""

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactTooLarge, StoreFull
from taskfleet.artifacts.store import SPARE_BYTES, Fill, Shelf, Store

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
MOST = 10_000_000


def fill(folder: Path, _most: int) -> None:
    (folder / "file.json").write_text("{}")


def no_check(_folder: Path) -> None:
    """Whatever is there is fine."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.prepare()
    return store


async def test_many_who_ask_at_once_share_one_download(store: Store) -> None:
    downloads: list[int] = []
    begun, gate = threading.Event(), threading.Event()

    def slow(folder: Path, most: int) -> None:
        downloads.append(1)
        begun.set()
        gate.wait(10)
        fill(folder, most)

    asking = [asyncio.create_task(store.ensure(Shelf.ADAPTERS, DIGEST, slow, check=no_check, most=MOST)) for _ in range(5)]
    assert await asyncio.to_thread(begun.wait, 10)
    assert store.digests(Shelf.ADAPTERS) == []
    gate.set()
    assert {path.name for path in await asyncio.gather(*asking)} == {DIGEST.replace(":", "-")}
    assert len(downloads) == 1


async def test_refused_artifact_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def refuse(_folder: Path) -> None:
        raise ArtifactInvalid("no")

    with pytest.raises(ArtifactInvalid):
        await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=refuse, most=MOST)
    assert list((tmp_path / "adapters").iterdir()) == []


async def test_what_is_there_is_checked_again_but_not_fetched_again(store: Store) -> None:
    await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=no_check, most=MOST)

    def refuse(_folder: Path) -> None:
        raise ArtifactInvalid("the limit is lower now")

    def never(_folder: Path, _most: int) -> None:
        pytest.fail("fetched again")

    with pytest.raises(ArtifactInvalid):
        await store.ensure(Shelf.ADAPTERS, DIGEST, never, check=refuse, most=MOST)
    assert store.digests(Shelf.ADAPTERS) == [DIGEST]


async def test_leftovers_of_a_crash_go_and_complete_artifacts_stay(store: Store, tmp_path: Path) -> None:
    path = await store.ensure(Shelf.BASE, DIGEST, fill, check=no_check, most=MOST)
    store.select_base(DIGEST)
    for leftover in (".staging-1", ".deleted-2"):
        (tmp_path / "base" / leftover).mkdir()
        (tmp_path / "base" / leftover / "half").touch()
    (tmp_path / "base" / ".current-3").symlink_to("nowhere")
    Store(tmp_path).prepare()
    assert {entry.name for entry in (tmp_path / "base").iterdir()} == {path.name, "current"}
    assert store.current_base().resolve() == path.resolve()
    assert not Path(store.current_base().readlink()).is_absolute()


async def test_files_in_use_are_not_deleted(store: Store) -> None:
    await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=no_check, most=MOST)
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: False)
    assert store.digests(Shelf.ADAPTERS) == [DIGEST]
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: True)
    assert store.digests(Shelf.ADAPTERS) == []
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: True)


async def test_engine_can_read_the_files_and_nobody_else_can_write_them(store: Store) -> None:
    path = await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=no_check, most=MOST)
    assert (path / "file.json").stat().st_mode & 0o777 == 0o644
    assert path.stat().st_mode & 0o777 == 0o755


async def test_manifest_is_kept_outside_the_folder_and_goes_with_it(store: Store, tmp_path: Path) -> None:
    def fill_and_vouch(folder: Path, most: int) -> bytes:
        fill(folder, most)
        return b"names and hashes"

    path = await store.ensure(Shelf.ADAPTERS, DIGEST, fill_and_vouch, check=no_check, most=MOST)
    assert store.manifest(Shelf.ADAPTERS, DIGEST) == b"names and hashes"
    assert [file.name for file in path.iterdir()] == ["file.json"]
    assert store.manifest(Shelf.BASE, DIGEST) is None
    Store(tmp_path).prepare()
    assert Store(tmp_path).manifest(Shelf.ADAPTERS, DIGEST) == b"names and hashes"
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: True)
    assert store.manifest(Shelf.ADAPTERS, DIGEST) is None
    assert not [one for one in (tmp_path / "manifests").rglob("*") if one.is_file()]


async def test_manifest_without_its_artifact_is_a_leftover(store: Store, tmp_path: Path) -> None:
    left = tmp_path / "manifests" / "adapters" / DIGEST.replace(":", "-")
    left.write_text("of a crash before the rename")
    assert store.manifest(Shelf.ADAPTERS, DIGEST) is None
    Store(tmp_path).prepare()
    assert not left.exists()


async def test_artifact_that_nothing_vouches_for_file_by_file_has_no_manifest(store: Store) -> None:
    await store.ensure(Shelf.BASE, DIGEST, fill, check=no_check, most=MOST)
    assert store.manifest(Shelf.BASE, DIGEST) is None


def of_size(size: int) -> Fill:
    """Fills with one file of so many bytes, as a source does that counts while it writes."""

    def written(folder: Path, most: int) -> None:
        if size > most:
            raise ArtifactTooLarge(f"{size} bytes, at most {most} are allowed")
        (folder / "weights").write_bytes(bytes(size))

    return written


async def test_artifact_without_room_is_told_apart_from_one_that_is_too_large(store: Store) -> None:
    store.limit(SPARE_BYTES + 3_000_000)
    with pytest.raises(ArtifactTooLarge):
        await store.ensure(Shelf.ADAPTERS, DIGEST, of_size(200_000), check=no_check, most=100_000)
    await store.ensure(Shelf.ADAPTERS, DIGEST, of_size(2_000_000), check=no_check, most=MOST)
    with pytest.raises(StoreFull, match=r"store\.sizeLimit"):
        await store.ensure(Shelf.ADAPTERS, OTHER, of_size(2_000_000), check=no_check, most=MOST)
    assert store.digests(Shelf.ADAPTERS) == [DIGEST]
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: True)
    await store.ensure(Shelf.ADAPTERS, OTHER, of_size(2_000_000), check=no_check, most=MOST)
    assert store.digests(Shelf.ADAPTERS) == [OTHER]


async def test_downloads_at_the_same_time_do_not_outgrow_the_store_together(store: Store) -> None:
    store.limit(SPARE_BYTES + 3_000_000)
    asked = [store.ensure(Shelf.ADAPTERS, digest, of_size(2_000_000), check=no_check, most=MOST) for digest in (DIGEST, OTHER)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, BaseException)] == [StoreFull]
    assert len(store.digests(Shelf.ADAPTERS)) == 1


async def test_what_is_deleted_while_the_store_is_counted_takes_no_room_and_breaks_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.limit(SPARE_BYTES + 3_000_000)
    await store.ensure(Shelf.ADAPTERS, DIGEST, of_size(2_000_000), check=no_check, most=MOST)
    scandir = os.scandir

    def deleted_just_before(folder: str | int) -> object:
        if str(folder) == str(store.path(Shelf.ADAPTERS, DIGEST)):
            shutil.rmtree(str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", deleted_just_before)
    await store.ensure(Shelf.ADAPTERS, OTHER, of_size(2_000_000), check=no_check, most=MOST)
    assert store.digests(Shelf.ADAPTERS) == [OTHER]


async def test_full_disk_is_no_fault_of_the_source(store: Store, tmp_path: Path) -> None:
    def no_space(_folder: Path, _most: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFull, match="No space left"):
        await store.ensure(Shelf.ADAPTERS, DIGEST, no_space, check=no_check, most=MOST)
    assert list((tmp_path / "adapters").iterdir()) == []
