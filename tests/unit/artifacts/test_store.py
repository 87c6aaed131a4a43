"""The content-addressed store: all of an artifact or nothing of it."""

import asyncio
import threading
from pathlib import Path

import pytest

from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.store import Shelf, Store

DIGEST = "sha256:" + "a" * 64


def fill(folder: Path) -> None:
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

    def slow(folder: Path) -> None:
        downloads.append(1)
        begun.set()
        gate.wait(10)
        fill(folder)

    asking = [asyncio.create_task(store.ensure(Shelf.ADAPTERS, DIGEST, slow, check=no_check)) for _ in range(5)]
    assert await asyncio.to_thread(begun.wait, 10)
    assert store.digests(Shelf.ADAPTERS) == []
    gate.set()
    assert {path.name for path in await asyncio.gather(*asking)} == {DIGEST.replace(":", "-")}
    assert len(downloads) == 1


async def test_refused_artifact_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def refuse(_folder: Path) -> None:
        raise ArtifactInvalid("no")

    with pytest.raises(ArtifactInvalid):
        await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=refuse)
    assert list((tmp_path / "adapters").iterdir()) == []


async def test_what_is_there_is_checked_again_but_not_fetched_again(store: Store) -> None:
    await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=no_check)

    def refuse(_folder: Path) -> None:
        raise ArtifactInvalid("the limit is lower now")

    def never(_folder: Path) -> None:
        pytest.fail("fetched again")

    with pytest.raises(ArtifactInvalid):
        await store.ensure(Shelf.ADAPTERS, DIGEST, never, check=refuse)
    assert store.digests(Shelf.ADAPTERS) == [DIGEST]


async def test_leftovers_of_a_crash_go_and_complete_artifacts_stay(store: Store, tmp_path: Path) -> None:
    path = await store.ensure(Shelf.BASE, DIGEST, fill, check=no_check)
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
    await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=no_check)
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: False)
    assert store.digests(Shelf.ADAPTERS) == [DIGEST]
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: True)
    assert store.digests(Shelf.ADAPTERS) == []
    await store.delete(Shelf.ADAPTERS, DIGEST, unused=lambda: True)


async def test_engine_can_read_the_files_and_nobody_else_can_write_them(store: Store) -> None:
    path = await store.ensure(Shelf.ADAPTERS, DIGEST, fill, check=no_check)
    assert (path / "file.json").stat().st_mode & 0o777 == 0o644
    assert path.stat().st_mode & 0o777 == 0o755


async def test_manifest_is_kept_outside_the_folder_and_goes_with_it(store: Store, tmp_path: Path) -> None:
    def fill_and_vouch(folder: Path) -> bytes:
        fill(folder)
        return b"names and hashes"

    path = await store.ensure(Shelf.ADAPTERS, DIGEST, fill_and_vouch, check=no_check)
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
    await store.ensure(Shelf.BASE, DIGEST, fill, check=no_check)
    assert store.manifest(Shelf.BASE, DIGEST) is None
