"""Is this a LoRA adapter that the pool's engine can serve?

A chain of small checks over one record, read from the adapter's two files; the first objection is the message that people see. Engines answer all of these with the same
HTTP 500 at best (vLLM 0.32.0, measured), and some only with a wrong answer: so nothing reaches them unchecked.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskfleet.artifacts import json_file, safetensors_header
from taskfleet.artifacts.base_model import BaseShapes, layer_of
from taskfleet.artifacts.errors import ArtifactInvalid

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# An adapter of 100 layers with seven modules each has 1,400 tensors and a header of some 250 KB. Many adapters are checked beside one another.
MAX_HEADER_BYTES = 2 * 1024 * 1024
FILES = frozenset({CONFIG, WEIGHTS})

_TENSOR = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>A|B|embedding_A|embedding_B)(?:\.weight)?")


@dataclass(frozen=True, slots=True)
class Pair:
    """Shapes of one module's two matrices: A is (rank, input), B is (output, rank). None where the file has none."""

    a: tuple[int, ...] | None = None
    b: tuple[int, ...] | None = None
    embedding: bool = False  # its weight in the base is (input, output)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """What the checks look at."""

    config: dict[str, Any]
    pairs: dict[str, Pair]  # by module
    strange: tuple[str, ...]  # tensors that belong to no LoRA module
    base: BaseShapes
    max_rank: int


Check = Callable[[AdapterRecord], str | None]


def is_lora(record: AdapterRecord) -> str | None:
    peft_type = record.config.get("peft_type")
    return None if peft_type == "LORA" else f"{CONFIG}: peft_type is {peft_type!r}, only LORA is served"


def rank_is_a_number(record: AdapterRecord) -> str | None:
    rank, pattern = record.config.get("r"), record.config.get("rank_pattern") or {}
    if not _is_rank(rank):
        return f"{CONFIG}: r is no positive whole number"
    if not isinstance(pattern, dict) or not all(_is_rank(value) for value in pattern.values()):
        return f"{CONFIG}: rank_pattern is no map of names to positive whole numbers"
    return None


def rank_within_limit(record: AdapterRecord) -> str | None:
    rank = max(_ranks(record))
    return None if rank <= record.max_rank else f"rank {rank} is above the limit of {record.max_rank} of the ServingClass"


def plain_lora(record: AdapterRecord) -> str | None:
    # What vLLM's PEFTHelper refuses (0.32.0, lora/peft_helper.py).
    if record.config.get("use_dora"):
        return f"{CONFIG}: use_dora is not supported"
    if (record.config.get("bias") or "none") != "none":
        return f"{CONFIG}: bias must be none"
    if record.config.get("modules_to_save"):
        return f"{CONFIG}: modules_to_save is not supported"
    return None


def no_code(record: AdapterRecord) -> str | None:
    return f"{CONFIG}: auto_map asks for code that comes with the adapter" if "auto_map" in record.config else None


def has_weights(record: AdapterRecord) -> str | None:
    return None if record.pairs else f"{WEIGHTS} holds no LoRA weights"


def only_lora_weights(record: AdapterRecord) -> str | None:
    return f"{WEIGHTS}: tensor {record.strange[0]!r} belongs to no LoRA module" if record.strange else None


def pairs_are_whole(record: AdapterRecord) -> str | None:
    ranks = _ranks(record)
    for module, pair in record.pairs.items():
        a, b = pair.a, pair.b
        if a is None or b is None:
            return f"{WEIGHTS}: {module} has only one of lora_A and lora_B"
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            return f"{WEIGHTS}: the shapes {list(a)} and {list(b)} of {module} don't go together"
        if a[0] not in ranks:
            return f"{WEIGHTS}: {module} has rank {a[0]}, {CONFIG} says {', '.join(map(str, sorted(ranks)))}"
    return None


def layers_exist(record: AdapterRecord) -> str | None:
    for module in record.pairs:
        layer = layer_of(module)
        if layer is not None and record.base.layers and layer >= record.base.layers:
            return f"wrong base: {module} is beyond the base's {record.base.layers} layers"
    return None


def shapes_fit_base(record: AdapterRecord) -> str | None:
    transposed = bool(record.config.get("fan_in_fan_out"))
    for module, pair in record.pairs.items():
        shape = record.base.of(module)
        if shape is None:
            # Quantised checkpoints keep their matrices under other names and packed shapes.
            if record.base.quantized:
                continue
            return f"wrong base: it has no module {module}"
        outer, inner = reversed(shape) if transposed or pair.embedding else shape
        if pair.a is not None and pair.b is not None and (pair.a[1], pair.b[0]) != (inner, outer):
            return f"wrong base: {module} is {outer}×{inner} there, and {pair.b[0]}×{pair.a[1]} in the adapter"  # noqa: RUF001
    return None


CHECKS: tuple[Check, ...] = (
    is_lora,  # first: nothing else means anything for another kind of adapter
    rank_is_a_number,
    rank_within_limit,  # the engine was started with this limit
    plain_lora,
    no_code,
    has_weights,
    only_lora_weights,
    pairs_are_whole,
    layers_exist,
    shapes_fit_base,  # last: the adapter is sound in itself, but may have been trained on another base
)


def verify(directory: Path, *, base: BaseShapes, max_rank: int) -> None:
    """Checks an adapter's files against its base; raises ArtifactInvalid with the first objection among `CHECKS`."""
    for name in sorted(FILES):
        if not (directory / name).is_file():
            raise ArtifactInvalid(f"the adapter has no {name}")
    config = json_file.read(directory / CONFIG)
    pairs, strange = _pairs(safetensors_header.read(directory / WEIGHTS, max_header_bytes=MAX_HEADER_BYTES))
    record = AdapterRecord(config=config, pairs=pairs, strange=strange, base=base, max_rank=max_rank)
    for check in CHECKS:
        if objection := check(record):
            raise ArtifactInvalid(objection)


def _pairs(tensors: dict[str, safetensors_header.Tensor]) -> tuple[dict[str, Pair], tuple[str, ...]]:
    pairs: dict[str, Pair] = {}
    strange: list[str] = []
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            strange.append(name)
            continue
        pair = replace(pairs.get(match["module"], Pair()), embedding=match["side"].startswith("embedding"))
        pairs[match["module"]] = replace(pair, a=tensor.shape) if match["side"].endswith("A") else replace(pair, b=tensor.shape)
    return pairs, tuple(strange)


def _ranks(record: AdapterRecord) -> set[int]:
    return {record.config["r"], *(record.config.get("rank_pattern") or {}).values()}


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
