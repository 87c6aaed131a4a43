"""Artifacts in mounted claims: found by folder, read as they are, and never from outside of the claim."""

import os
from pathlib import Path

import pytest

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import claim, fetching, lora
from taskfleet.artifacts.access import Access, FetchLimits, TimeLimit
from taskfleet.artifacts.content_manifest import content_manifest, digest_of
from taskfleet.artifacts.download import sha256_of
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid, ArtifactNotFound, SourceUnavailable
from taskfleet.artifacts.listing import Inquiry, Order
from tests.unit.artifacts.model_files import write_adapter, write_base

LIMITS = FetchLimits(max_bytes=1_000_000, max_files=16, seconds=30)


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """The claim `models`, mounted."""
    mount = tmp_path / "claims" / "models"
    mount.mkdir(parents=True)
    return mount


def fetched(
    mount: Path, into: Path, *, source: str = "pvc://models/total", version: str = "v1", kind: ArtifactKind = ArtifactKind.ADAPTER
) -> str:
    """The digest of what is under a version, fetched into an empty folder."""
    into.mkdir()
    access = Access(credentials_directory=into, claims_directory=mount.parent)
    return digest_of(fetching.fetch_files(Order(kind=kind, source=source, version=version), into, access=access, limits=LIMITS))


def digest_of_adapter(folder: Path) -> str:
    return digest_of(content_manifest({name: sha256_of(folder / name) for name in lora.FILES}))


def test_version_is_the_last_folder(mount: Path, tmp_path: Path) -> None:
    first, second = (write_adapter(mount / "total" / version, rank=rank) for version, rank in (("v1", 4), ("v2", 2)))
    assert fetched(mount, tmp_path / "one") == digest_of_adapter(first)
    assert fetched(mount, tmp_path / "two", version="v2") == digest_of_adapter(second)
    assert {path.name for path in (tmp_path / "one").iterdir()} == lora.FILES


def test_base_may_stand_at_the_top_of_a_claim(mount: Path, tmp_path: Path) -> None:
    folder = write_base(mount / "v1")
    (folder / "original").mkdir()
    fetched(mount, tmp_path / "got", source="pvc://models/", kind=ArtifactKind.BASE)
    assert {path.name for path in (tmp_path / "got").iterdir()} == {path.name for path in folder.iterdir() if path.is_file()}


def test_links_within_the_claim_are_followed(mount: Path, tmp_path: Path) -> None:
    """As the hub's cache has them: a snapshot is links to blobs."""
    blobs = write_adapter(mount / "blobs" / "abc")
    snapshot = mount / "total" / "real"
    snapshot.mkdir(parents=True)
    for name in lora.FILES:
        (snapshot / name).symlink_to(os.path.relpath(blobs / name, snapshot))
    (mount / "total" / "v1").symlink_to("real")
    assert fetched(mount, tmp_path / "got") == digest_of_adapter(blobs)


@pytest.mark.parametrize("where", ["file", "folder"])
def test_links_out_of_the_claim_are_refused(mount: Path, tmp_path: Path, where: str) -> None:
    other = write_adapter(mount.parent / "other-claim" / "v1")
    if where == "file":
        write_adapter(mount / "total" / "v1")
        (mount / "total" / "v1" / lora.WEIGHTS).unlink()
        (mount / "total" / "v1" / lora.WEIGHTS).symlink_to(other / lora.WEIGHTS)
    else:
        (mount / "total").symlink_to(other.parent)
    with pytest.raises(ArtifactInvalid, match="leaves the claim"):
        fetched(mount, tmp_path / "got")


def test_file_that_becomes_a_link_meanwhile_is_not_followed(mount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes to the claim can exchange a file between the look at it and its opening."""
    folder = write_adapter(mount / "total" / "v1")
    secret = tmp_path / "secret"
    secret.write_text("{}")
    look = os.path.realpath

    def look_and_exchange(path: Path, *, strict: bool) -> str:
        seen = look(path, strict=strict)
        if Path(path).name == lora.CONFIG and not (folder / lora.CONFIG).is_symlink():
            (folder / lora.CONFIG).unlink()
            (folder / lora.CONFIG).symlink_to(secret)
        return seen

    monkeypatch.setattr(os.path, "realpath", look_and_exchange)
    access = Access(credentials_directory=tmp_path, claims_directory=mount.parent)
    order = Order(kind=ArtifactKind.ADAPTER, source="pvc://models/total", version="v1")
    files = {file.name: file for file in claim.listing(Inquiry(order=order, access=access, time=TimeLimit.of(30, access))).files}
    with pytest.raises(SourceUnavailable, match="symbolic links"), files[lora.CONFIG].open(0, None):
        pass


def test_what_is_no_file_is_refused_and_nobody_waits_for_it(mount: Path, tmp_path: Path) -> None:
    folder = write_adapter(mount / "total" / "v1")
    (folder / lora.CONFIG).unlink()
    os.mkfifo(folder / lora.CONFIG)
    with pytest.raises(ArtifactInvalid, match="no regular file"):
        fetched(mount, tmp_path / "got")


NOT_THERE: tuple[tuple[str, str, type[ArtifactError], str], ...] = (
    ("pvc://models/total", "v9", ArtifactNotFound, "pvc://models/total/v9 does not exist"),
    ("pvc://models/absent", "v1", ArtifactNotFound, "pvc://models/absent/v1 does not exist"),
    ("pvc://models/total/v1", "adapter_config.json", ArtifactNotFound, "does not exist"),
    ("pvc://not-mounted/total", "v1", SourceUnavailable, "PersistentVolumeClaim not-mounted is not mounted"),
    ("pvc://models/../other", "v1", ArtifactInvalid, "names no folder"),
    ("pvc://../claims", "v1", ArtifactInvalid, "names no folder"),
    ("pvc://models//total", "v1", ArtifactInvalid, "names no folder"),
)


@pytest.mark.parametrize("case", NOT_THERE, ids=lambda case: f"{case[0]}-{case[1]}")
def test_what_is_not_there_is_said(mount: Path, tmp_path: Path, case: tuple[str, str, type[ArtifactError], str]) -> None:
    source, version, error, words = case
    write_adapter(mount / "total" / "v1")
    with pytest.raises(error, match=words):
        fetched(mount, tmp_path / "got", source=source, version=version)


def test_reading_goes_on_where_it_broke_off_and_begins_anew_with_other_bytes(mount: Path, tmp_path: Path) -> None:
    folder = write_adapter(mount / "total" / "v1")
    access = Access(credentials_directory=tmp_path, claims_directory=mount.parent)
    order = Order(kind=ArtifactKind.ADAPTER, source="pvc://models/total", version="v1")
    files = {file.name: file for file in claim.listing(Inquiry(order=order, access=access, time=TimeLimit.of(30, access))).files}
    whole = (folder / lora.WEIGHTS).read_bytes()
    with files[lora.WEIGHTS].open(0, None) as stream:
        validator = stream.validator
        assert (stream.begins_at, stream.size) == (0, len(whole))
    with files[lora.WEIGHTS].open(100, validator) as stream:
        assert stream.begins_at == 100
        assert b"".join(stream.pieces) == whole[100:]
    (folder / lora.WEIGHTS).write_bytes(whole + b"more")
    with files[lora.WEIGHTS].open(100, validator) as stream:
        assert stream.begins_at == 0
        assert b"".join(stream.pieces) == whole + b"more"


def test_folder_without_end_is_not_listed(mount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "MAX_ENTRIES", 3)
    folder = write_adapter(mount / "total" / "v1")
    for number in range(3):
        (folder / f"{number}.txt").touch()
    with pytest.raises(ArtifactInvalid, match="more than 3 files"):
        fetched(mount, tmp_path / "got")
