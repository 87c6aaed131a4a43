"""Copies from those who aren't trusted: what is taken, what is refused, and how one's failure is another's work."""

import hashlib
import json
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taskfleet.artifacts.copying import Copying, Expected, HolderBusy, HolderFailed, NoCopy
from taskfleet.artifacts.errors import ArtifactInvalid, SourceUnavailable

FILES = {"a.json": b"0123456789" * 10, "b.safetensors": b"weights" * 50, "README.md": b"not wanted"}
PIECE = 16
PIECES_OF_A = 7


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(files: Mapping[str, bytes], *, sizes: bool = True) -> bytes:
    return json.dumps({name: [sha256(content), len(content) if sizes else None] for name, content in files.items()}).encode()


def read(text: bytes) -> dict[str, Expected]:
    return {name: Expected(digest, size) for name, (digest, size) in json.loads(text).items() if name != "README.md"}


MANIFEST = manifest_of(FILES)


@dataclass
class Pod:
    """A holder that has `files`. After `breaks_after` pieces it fails once; `busy` counts how often it refuses first."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    text: bytes = MANIFEST
    has: bool = True
    breaks_after: int | None = None
    busy: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)

    def manifest(self, digest: str) -> bytes:
        if not self.has:
            raise LookupError(digest)
        return self.text

    def file(self, digest: str, name: str, *, start: int) -> Generator[bytes]:
        self.asked.append((name, start))
        if self.busy:
            self.busy -= 1
            raise HolderBusy
        if name not in self.files:
            raise LookupError(digest)
        content = self.files[name]
        for offset in range(start, len(content), PIECE):
            if self.breaks_after is not None:
                self.breaks_after -= 1
                if self.breaks_after < 0:
                    self.breaks_after = None
                    raise HolderFailed("the pod is gone")
            yield content[offset : offset + PIECE]


def copying(into: Path, *, text: bytes = MANIFEST, most: int = 10_000, seconds: float = 60, **more: object) -> Copying:
    into.mkdir(exist_ok=True)
    chosen: dict[str, object] = {"read": read, "ended": threading.Event()} | more
    return Copying(sha256(text), into, most=most, seconds=seconds, **chosen)  # type: ignore[arg-type]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


WANTED = {name: content for name, content in FILES.items() if name != "README.md"}


def test_wanted_files_are_copied_and_the_manifest_is_kept_for_the_next(into: Path) -> None:
    assert copying(into).take([Pod()]) == MANIFEST
    assert contents(into) == WANTED


def test_who_has_no_copy_is_passed_over(into: Path) -> None:
    assert copying(into).take([Pod(has=False), Pod(files={}), Pod()]) == MANIFEST
    assert contents(into) == WANTED


@pytest.mark.parametrize("holders", [[], [Pod(has=False)]], ids=["nobody there", "nobody has it"])
def test_no_copy_anywhere_is_said(into: Path, holders: list[Pod]) -> None:
    with pytest.raises(NoCopy) as refused:
        copying(into).take(holders)
    assert not refused.value.perhaps


LIARS = {
    "another manifest": Pod(text=manifest_of({"a.json": b"evil"}), files={"a.json": b"evil"}),
    "no manifest at all": Pod(text=b""),
    "other bytes of the same length": Pod(files={**FILES, "b.safetensors": b"WEIGHTS" * 50}),
    "more bytes": Pod(files={**FILES, "a.json": FILES["a.json"] + b"x"}),
    "fewer bytes": Pod(files={**FILES, "a.json": FILES["a.json"][:-1]}),
    "nothing": Pod(files={**FILES, "a.json": b""}),
}


@pytest.mark.parametrize("liar", LIARS.values(), ids=LIARS.keys())
def test_liar_alone_gives_nothing(into: Path, liar: Pod) -> None:
    with pytest.raises(NoCopy) as refused:
        copying(into).take([liar])
    assert refused.value.perhaps, "another attempt may meet an honest one"
    assert contents(into) == {}


@pytest.mark.parametrize("liar", LIARS.values(), ids=LIARS.keys())
def test_liar_does_not_keep_the_honest_from_giving(into: Path, liar: Pod) -> None:
    assert copying(into).take([liar, Pod()]) == MANIFEST
    assert contents(into) == WANTED


def test_what_one_breaks_off_the_next_goes_on_with(into: Path) -> None:
    first, second = Pod(breaks_after=PIECES_OF_A + 5), Pod()
    copying(into).take([first, second])
    assert second.asked == [("b.safetensors", 5 * PIECE)]
    assert contents(into) == WANTED


def test_beginning_by_a_liar_is_not_kept(into: Path) -> None:
    liar = Pod(files={**FILES, "a.json": b"x" * len(FILES["a.json"])}, breaks_after=3)
    honest, third = Pod(), Pod()
    copying(into).take([liar, honest, third])
    assert honest.asked == [("a.json", 3 * PIECE)], "it is not known yet that the beginning is wrong"
    assert third.asked == [("a.json", 0), ("b.safetensors", 0)]
    assert contents(into) == WANTED


def test_busy_holder_is_waited_for_only_while_copying_gets_on(into: Path) -> None:
    class Impatient(threading.Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            del timeout
            self.waits += 1
            return False

    ended = Impatient()
    with pytest.raises(NoCopy) as refused:
        copying(into, ended=ended).take([Pod(busy=9)])
    assert refused.value.perhaps
    assert ended.waits == 0, "the source is asked at once"
    halfway = Pod(breaks_after=PIECES_OF_A + 1)
    copying(into, ended=ended).take([halfway, Pod(busy=1)])
    assert ended.waits == 1
    assert contents(into) == WANTED


def test_manifest_without_sizes_is_good_enough_and_bounded(into: Path) -> None:
    text = manifest_of(FILES, sizes=False)
    copying(into, text=text).take([Pod(text=text)])
    assert contents(into) == WANTED
    with pytest.raises(NoCopy):
        copying(into.with_name("small"), text=text, most=len(FILES["a.json"]) + 20).take([Pod(text=text)])
    assert contents(into.with_name("small")) == {}


def test_endless_file_is_not_followed(into: Path) -> None:
    class Endless(Pod):
        def file(self, digest: str, name: str, *, start: int) -> Generator[bytes]:
            del digest, name, start
            while True:
                yield b"x" * PIECE

    text = manifest_of(FILES, sizes=False)
    with pytest.raises(NoCopy):
        copying(into, text=text).take([Endless(text=text)])


def test_manifest_that_names_what_may_not_be_served_is_refused_for_good(into: Path) -> None:
    def refuse(text: bytes) -> dict[str, Expected]:
        raise ArtifactInvalid(text.decode())

    with pytest.raises(ArtifactInvalid):
        copying(into, read=refuse).take([Pod()])


def test_manifest_that_vouches_for_no_single_file_is_no_copy(into: Path) -> None:
    with pytest.raises(NoCopy, match="vouch"):
        copying(into, read=lambda _text: None).take([Pod()])


def test_who_drips_is_left_for_the_next(into: Path) -> None:
    seconds = [0.0]

    class Dripping(Pod):
        def file(self, digest: str, name: str, *, start: int) -> Generator[bytes]:
            for piece in super().file(digest, name, start=start):
                seconds[0] += 25
                yield piece

    second = Pod()
    copying(into, clock=lambda: seconds[0], seconds=3600).take([Dripping(), second])
    assert second.asked[0] == ("a.json", PIECE)
    assert contents(into) == WANTED


def test_copying_ends_with_its_time_and_with_the_agent(into: Path) -> None:
    moments = iter(range(10_000))
    with pytest.raises(NoCopy, match="too long"):
        copying(into, clock=lambda: next(moments), seconds=3).take([Pod()])
    assert contents(into) == {}
    ended = threading.Event()
    ended.set()
    with pytest.raises(SourceUnavailable, match="ending"):
        copying(into, ended=ended).take([Pod()])
