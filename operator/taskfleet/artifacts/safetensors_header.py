"""Reads the header of a safetensors file without trusting it: names and shapes of tensors, no weights.

Format: 8 bytes little-endian length, that many bytes of JSON, then the tensors' bytes without gaps (safetensors' documentation, "Format").
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from taskfleet.artifacts.errors import ArtifactInvalid

# The library itself stops at 100 MB. Parsed, a header takes some ten times its size in memory.
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 200_000

# Bits per element. Types that are not listed can't be served by any engine we drive.
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's type, as the format names it, and shape."""

    dtype: str
    shape: tuple[int, ...]


def read(path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES) -> dict[str, Tensor]:
    """Tensors by name. Raises ArtifactInvalid where the header is malformed, or does not cover the file's bytes exactly."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise _broken(path, "it is shorter than its header")
        (length,) = struct.unpack("<Q", prefix)
        if length > min(max_header_bytes, size - 8):
            raise _broken(path, f"its header would have {length} bytes")
        text = file.read(length)
    tensors, extents = _tensors(path, _entries(path, text))
    _check_extents(path, extents, size - 8 - length)
    return tensors


def _entries(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) != len(pairs):
            raise _broken(path, "a name stands twice in its header")
        return content

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise _broken(path, "its header is no JSON") from None
    if not isinstance(content, dict):
        raise _broken(path, "its header is no JSON object")
    content.pop("__metadata__", None)
    if len(content) > MAX_TENSORS:
        raise _broken(path, f"it has more than {MAX_TENSORS} tensors")
    return content


def _tensors(path: Path, entries: dict[str, Any]) -> tuple[dict[str, Tensor], list[tuple[int, int]]]:
    tensors: dict[str, Tensor] = {}
    extents: list[tuple[int, int]] = []
    for name, entry in entries.items():
        tensor, extent = _tensor(path, name, entry)
        tensors[name] = tensor
        extents.append(extent)
    return tensors, extents


def _tensor(path: Path, name: str, entry: Any) -> tuple[Tensor, tuple[int, int]]:
    dtype, shape, offsets = (
        (entry.get(key) for key in ("dtype", "shape", "data_offsets")) if isinstance(entry, dict) else (None, None, None)
    )
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _broken(path, f"tensor {name!r} has an unknown type")
    if not _whole_numbers(shape) or len(shape) > 8:
        raise _broken(path, f"tensor {name!r} has no shape")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(path, f"tensor {name!r} has no place")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise _broken(path, f"tensor {name!r} has other than the bytes that its shape needs")
    return Tensor(dtype, tuple(shape)), (begin, end)


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**48 for item in value)


def _check_extents(path: Path, extents: list[tuple[int, int]], size: int) -> None:
    position = 0
    for begin, end in sorted(extents):
        if begin != position:
            raise _broken(path, "its tensors overlap or leave gaps")
        position = end
    if position != size:
        raise _broken(path, f"its tensors have {position} bytes, the file has {size}")


def _broken(path: Path, why: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"{path.name} is no valid safetensors file: {why}")
