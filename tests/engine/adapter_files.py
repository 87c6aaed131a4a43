"""Adapters on disk, good and broken, written byte by byte: no library that would refuse to write the broken ones."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

HIDDEN = 128
LAYERS = 4
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def write_adapter(folder: Path, *, seed: int = 0, rank: int = 8, hidden: int = HIDDEN) -> Path:
    """A LoRA adapter for the tiny model with random weights: it loads and answers, and says nothing sensible."""
    folder.mkdir(parents=True)
    source = random.Random(seed)  # noqa: S311
    tensors: dict[str, tuple[int, int]] = {}
    for layer in range(LAYERS):
        for target in TARGETS:
            stem = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{stem}.lora_A.weight"] = (rank, hidden)
            tensors[f"{stem}.lora_B.weight"] = (hidden, rank)
    header, offset, content = {}, 0, bytearray()
    for name, (rows, columns) in tensors.items():
        values = struct.pack(f"<{rows * columns}f", *(source.gauss(0, 0.02) for _ in range(rows * columns)))
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, offset + len(values)]}
        offset += len(values)
        content += values
    encoded = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + content)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16, "target_modules": list(TARGETS), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _over_rank(folder: Path) -> None:
    write_adapter(folder, rank=16)


def _other_base(folder: Path) -> None:
    write_adapter(folder, hidden=2 * HIDDEN)


def _cut_off(folder: Path) -> None:
    weights = write_adapter(folder) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _garbage(folder: Path) -> None:
    (write_adapter(folder) / "adapter_model.safetensors").write_bytes(b"\x93" * 4096)


def _without_weights(folder: Path) -> None:
    (write_adapter(folder) / "adapter_model.safetensors").unlink()


def _config_no_json(folder: Path) -> None:
    (write_adapter(folder) / "adapter_config.json").write_text("rank: 8")


# Every way in which an adapter can be wrong for good, by what a test calls it.
BROKEN: dict[str, Callable[[Path], None]] = {
    "over-rank": _over_rank,
    "other-base": _other_base,
    "cut-off": _cut_off,
    "garbage": _garbage,
    "without-weights": _without_weights,
    "config-no-json": _config_no_json,
}
