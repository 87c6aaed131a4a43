"""Downloads that are given up leave a beginning, and the next one goes on there."""

import hashlib
import os
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import fetching, lora, oci
from taskfleet.artifacts.access import Access, FetchLimits
from taskfleet.artifacts.addresses import parse_networks
from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactTooLarge, SourceUnavailable
from taskfleet.artifacts.listing import Order
from taskfleet.artifacts.partials import KEEP_SECONDS, Partials
from taskfleet.artifacts.push import push
from tests.unit.artifacts.folder_source import PIECE, FolderSource
from tests.unit.artifacts.model_files import write_adapter
from tests.unit.artifacts.registry_process import RegistryProcess

ORDER = Order(kind=ArtifactKind.ADAPTER, source="folder://host/x", version="v1")
LIMITS = FetchLimits(max_bytes=1_000_000, max_files=8, seconds=30)
WEIGHTS_KEY = (ORDER.source, ORDER.version, lora.WEIGHTS)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    source = FolderSource(tmp_path / "source")
    write_adapter(source.root / "v1")
    monkeypatch.setattr(fetching, "LISTERS", {"folder": source.list})
    monkeypatch.setattr("taskfleet.artifacts.download.PAUSE_SECONDS", 0.001)
    return source


def partials(tmp_path: Path) -> Partials:
    """As a process finds them when it starts."""
    found = Partials(tmp_path / "partial")
    found.prepare()
    return found


def fetch(tmp_path: Path, name: str, limits: FetchLimits = LIMITS) -> dict[str, bytes]:
    into = tmp_path / name
    into.mkdir()
    access = Access(credentials_directory=tmp_path, partials=partials(tmp_path))
    fetching.fetch_files(ORDER, into, access=access, limits=limits)
    return {path.name: path.read_bytes() for path in into.iterdir()}


def give_up(source: FolderSource, tmp_path: Path) -> None:
    """A download whose weights break off after the first piece, and then bring nothing more."""
    source.breaks = [10**9, PIECE, 0, 0, 0]
    with pytest.raises(SourceUnavailable, match="broke"):
        fetch(tmp_path, "given-up")
    source.opened.clear()


def contents(source: FolderSource) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (source.root / "v1").iterdir()}


def weights(source: FolderSource) -> list[int]:
    return [offset for name, offset in source.opened if name == lora.WEIGHTS]


def left(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "partial").iterdir())


def test_later_process_goes_on_where_an_earlier_one_gave_up(source: FolderSource, tmp_path: Path) -> None:
    give_up(source, tmp_path)
    assert left(tmp_path) == ["", ".json"]
    assert fetch(tmp_path, "later") == contents(source)
    assert weights(source) == [PIECE]
    assert left(tmp_path) == []


def test_bytes_that_were_not_made_safe_do_not_count(source: FolderSource, tmp_path: Path) -> None:
    give_up(source, tmp_path)
    with partials(tmp_path).of(*WEIGHTS_KEY) as partial:
        assert partial is not None
        with partial.path.open("ab") as file:
            file.write(bytes(5 * PIECE))
    assert fetch(tmp_path, "later") == contents(source)
    assert weights(source) == [PIECE]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{}",
        "[]",
        '{"length": 0, "validator": "x"}',
        '{"length": 99999999, "validator": "x"}',
        '{"length": 10}',
        '{"length": "x", "validator": 1}',
    ],
)
def test_beginning_that_nothing_vouches_for_is_no_beginning(source: FolderSource, tmp_path: Path, note: str) -> None:
    give_up(source, tmp_path)
    next((tmp_path / "partial").glob("*.json")).write_text(note)
    assert fetch(tmp_path, "later") == contents(source)
    assert weights(source) == [0]


def test_other_bytes_at_the_source_are_fetched_from_their_beginning(source: FolderSource, tmp_path: Path) -> None:
    give_up(source, tmp_path)
    write_adapter(source.root / "v1", rank=2)
    os.utime(source.root / "v1" / lora.WEIGHTS, (1, 1))
    assert fetch(tmp_path, "later") == contents(source)


def test_wrong_beginning_of_a_file_with_a_listed_hash_is_fetched_anew(source: FolderSource, tmp_path: Path) -> None:
    registry_like = {name: hashlib.sha256(content).hexdigest() for name, content in contents(source).items()}
    give_up(source, tmp_path)
    with partials(tmp_path).of(*WEIGHTS_KEY) as partial:
        assert partial is not None
        with partial.path.open("r+b") as file:
            file.write(b"damaged")
    source.hashes = registry_like
    assert fetch(tmp_path, "later") == contents(source)
    assert weights(source) == [PIECE, 0]


def test_what_can_never_be_used_leaves_nothing(source: FolderSource, tmp_path: Path) -> None:
    give_up(source, tmp_path)
    config = (source.root / "v1" / lora.CONFIG).stat().st_size
    with pytest.raises(ArtifactTooLarge):
        fetch(tmp_path, "too-large", replace(LIMITS, max_bytes=config + 10))
    with pytest.raises(ArtifactInvalid):
        fetch(tmp_path, "still-too-large", replace(LIMITS, max_bytes=config + 10))
    assert fetch(tmp_path, "later") == contents(source)


def test_one_download_at_a_time_has_a_beginning_and_it_is_not_removed_meanwhile(tmp_path: Path) -> None:
    all_partials = partials(tmp_path)
    with all_partials.of("a") as first, all_partials.of("a") as second, all_partials.of("b") as other:
        assert first is not None
        assert second is None
        assert other is not None
        assert other.path != first.path
        first.path.write_bytes(b"x")
        all_partials.clear()
        assert first.path.exists()
    all_partials.clear()
    assert not first.path.exists()
    with all_partials.of("a") as again:
        assert again is not None


def test_beginnings_that_nobody_comes_back_for_go(tmp_path: Path) -> None:
    old, new = tmp_path / "partial" / "old", tmp_path / "partial" / "new"
    partials(tmp_path)
    for path in (old, new):
        path.write_bytes(b"x")
    past = time.time() - KEEP_SECONDS - 60
    os.utime(old, (past, past))
    partials(tmp_path)
    assert not old.exists()
    assert new.exists()


def test_blob_of_a_registry_is_gone_on_with(registry: RegistryProcess, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", rank=3)
    digest = push(folder, f"{registry.host}/resumed:v1", insecure=True)
    content = (folder / lora.WEIGHTS).read_bytes()
    found = partials(tmp_path)
    blob = "sha256:" + hashlib.sha256(content).hexdigest()
    with found.of(blob) as partial:
        assert partial is not None
        with partial.path.open("wb") as file:
            file.write(content[:1000])
            partial.save(file, blob)
    # Only what is still missing can come from there.
    stored = registry.blob(blob)
    stored.write_bytes(bytes(1000) + content[1000:])
    access = Access(
        credentials_directory=tmp_path,
        insecure_hosts=frozenset({registry.host}),
        allowed_networks=parse_networks("127.0.0.0/8"),
        lookup=lambda _host, _port: [ip_address("127.0.0.1")],
        partials=found,
    )
    (tmp_path / "got").mkdir()
    oci.fetch(
        f"oci://{registry.host}/resumed", digest, tmp_path / "got", key=None, access=access, limits=LIMITS, wanted=lora.FILES.__contains__
    )
    assert (tmp_path / "got" / lora.WEIGHTS).read_bytes() == content
