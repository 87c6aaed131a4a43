"""Headers of safetensors files that are wrong on purpose."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from taskfleet.artifacts import safetensors_header
from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.safetensors_header import Tensor
from tests.unit.artifacts.model_files import safetensors, safetensors_file


def entry(begin: int, end: int, shape: list[object], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'

BROKEN: dict[str, bytes] = {
    "empty": b"",
    "shorter than its length": b"\x01\x02",
    "header longer than the file": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 2) + b"{]",
    "a list": struct.pack("<Q", 2) + b"[]",
    "nested without end": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "unknown type": safetensors_file({"a": entry(0, 4, [1], "PICKLE")}, bytes(4)),
    "type is a list": safetensors_file({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "shape is missing": safetensors_file({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "negative shape": safetensors_file({"a": entry(0, 4, [-1])}, bytes(4)),
    "shape of true": safetensors_file({"a": entry(0, 4, [True])}, bytes(4)),
    "shape that overflows": safetensors_file({"a": entry(0, 4, [2**60, 2**60])}, bytes(4)),
    "one offset": safetensors_file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, bytes(4)),
    "too few bytes for the shape": safetensors_file({"a": entry(0, 4, [2])}, bytes(4)),
    "overlap": safetensors_file({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)),
    "gap": safetensors_file({"a": entry(4, 8, [1])}, bytes(8)),
    "bytes left over": safetensors_file({"a": entry(0, 4, [1])}, bytes(5)),
    "bytes missing": safetensors_file({"a": entry(0, 4, [1])}, bytes(3)),
    "a name twice": struct.pack("<Q", len(TWICE)) + TWICE + bytes(4),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_broken_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ArtifactInvalid, match=r"x\.safetensors is no valid safetensors file"):
        safetensors_header.read(tmp_path / "x.safetensors")


def test_header_tells_types_and_shapes(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors({"a": (2, 3), "b": ()}))
    assert safetensors_header.read(tmp_path / "x.safetensors") == {"a": Tensor("F32", (2, 3)), "b": Tensor("F32", ())}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 120), value=st.integers(0, 255), cut=st.integers(0, 30))
def test_whatever_we_accept_the_real_library_accepts_too(tmp_path: Path, position: int, value: int, cut: int) -> None:
    content = bytearray(safetensors({"a": (2, 3), "b": (4,)}))
    content[position % len(content)] = value
    path = tmp_path / "x.safetensors"
    path.write_bytes(content[: len(content) - cut])
    try:
        ours = safetensors_header.read(path)
    except ArtifactInvalid:
        return
    try:
        assert {name for name, _ in deserialize(path.read_bytes())} == set(ours)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        pytest.fail(f"accepted what the library refuses: {error}")
