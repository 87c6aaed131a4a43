"""Tars that are hostile."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from taskfleet.artifacts import tarball
from taskfleet.artifacts.errors import ArtifactInvalid


def member(name: str, content: bytes = b"{}", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


HOSTILE: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "leaves the folder": member("../x.json"),
    "absolute": member("/srv/x.json"),
    "in a folder": member("a/x.json"),
    "symbolic link": member("x.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member("x.json", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": member("x.json", b"", type=tarfile.CHRTYPE),
    "pipe": member("x.json", b"", type=tarfile.FIFOTYPE),
    "folder": member("sub", b"", type=tarfile.DIRTYPE),
    "pickle": member("x.bin"),
    "too large": member("x.json", b" " * 2000),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_member_is_refused_and_nothing_leaves_the_folder(tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes]) -> None:
    into = tmp_path / "into"
    into.mkdir()
    archive = write_tar(tmp_path / "x.tar", member("fine.json"), hostile)
    with pytest.raises(ArtifactInvalid):
        tarball.extract(archive, into, max_files=8, max_bytes=1000)
    assert {path.name for path in tmp_path.iterdir()} == {"into", "x.tar"}
    assert not any(path.is_symlink() for path in into.iterdir())


SPOILED: dict[str, Callable[[Path], object]] = {
    "twice the same name": lambda path: write_tar(path, member("x.json"), member("x.json")),
    "too many": lambda path: write_tar(path, *(member(f"{number}.json") for number in range(9))),
    "compressed": lambda path: write_tar(path, member("x.json"), mode="w:gz"),
    "no tar": lambda path: path.write_bytes(b"\x93" * 10_240),
    "cut off": lambda path: path.write_bytes(write_tar(path, member("x.json", b"1" * 900)).read_bytes()[:1000]),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_tar_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    (tmp_path / "into").mkdir()
    spoil(tmp_path / "x.tar")
    with pytest.raises(ArtifactInvalid):
        tarball.extract(tmp_path / "x.tar", tmp_path / "into", max_files=8, max_bytes=1000)


def with_header(archive: Path, number: int, *, at: int, value: bytes) -> Path:
    """Overwrites a field of the n-th block and makes its checksum right again."""
    content = bytearray(archive.read_bytes())
    header = content[number * 512 : (number + 1) * 512]
    header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[number * 512 : (number + 1) * 512] = header
    archive.write_bytes(content)
    return archive


SIZE, TYPE = 124, 156
NEGATIVE, HUGE = b"\xff" * 10 + b"\xfc\x00", b"\x80" + b"\x7f" * 11
HEADERS: dict[str, list[tuple[int, int, bytes]]] = {
    "a size that leads back": [(0, SIZE, NEGATIVE)],
    "a folder whose size leads back": [(2, TYPE, b"5"), (2, 0, b"./" + bytes(98)), (2, SIZE, NEGATIVE)],
    "an extended header as large as the machine": [(0, TYPE, b"x"), (0, SIZE, HUGE)],
    "an extended header of gigabytes": [(0, TYPE, b"x"), (0, SIZE, b"77777777777\0")],
    "a long name of gigabytes": [(0, TYPE, b"L"), (0, SIZE, b"77777777777\0")],
    "a size that is no number": [(0, SIZE, b"no number..\0")],
    "a sparse file": [(0, TYPE, b"S")],
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS.keys())
def test_header_that_lies_ends_neither_in_a_loop_nor_in_all_of_the_memory(tmp_path: Path, fields: list[tuple[int, int, bytes]]) -> None:
    (tmp_path / "into").mkdir()
    archive = write_tar(tmp_path / "x.tar", member("a.json"), member("b.json"), member("c.json"))
    for number, at, value in fields:
        with_header(archive, number, at=at, value=value)
    with pytest.raises(ArtifactInvalid):
        tarball.extract(archive, tmp_path / "into", max_files=8, max_bytes=1000)


def test_chain_of_headers_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    links = [member(f"{number}.json", b"", type=tarfile.GNUTYPE_LONGNAME) for number in range(3000)]
    archive = write_tar(tmp_path / "x.tar", *links, member("a.json"))
    with pytest.raises(ArtifactInvalid):
        tarball.extract(archive, tmp_path / "into", max_files=8, max_bytes=1000)


def test_plain_files_come_out_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    archive = write_tar(tmp_path / "x.tar", member("./", b"", type=tarfile.DIRTYPE), member("./a.json", b"[1]", mode=0o4777))
    tarball.extract(archive, tmp_path / "into", max_files=8, max_bytes=1000)
    assert (tmp_path / "into" / "a.json").read_bytes() == b"[1]"
    assert (tmp_path / "into" / "a.json").stat().st_mode & 0o7111 == 0
