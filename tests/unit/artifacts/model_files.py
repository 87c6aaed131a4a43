"""Bases and adapters on disk, small and written byte by byte, so that each can be broken in one way."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

HIDDEN = 16
LAYERS = 2
PROJECTIONS = ("q_proj", "v_proj")

Shape = tuple[int, ...]


def safetensors(shapes: Mapping[str, Shape]) -> bytes:
    """A safetensors file of zeros."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return safetensors_file(header, bytes(offset))


def safetensors_file(header: object, content: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def base_shapes(*, hidden: int = HIDDEN, layers: int = LAYERS) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (32, hidden), "lm_head.weight": (32, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        for projection in PROJECTIONS:
            shapes[f"model.layers.{layer}.self_attn.{projection}.weight"] = (hidden, hidden)
    return shapes


def write_base(folder: Path, *, hidden: int = HIDDEN, layers: int = LAYERS, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors(base_shapes(hidden=hidden, layers=layers)))
    return folder


def adapter_shapes(*, rank: int = 4, hidden: int = HIDDEN, layers: int = LAYERS) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for layer in range(layers):
        for projection in PROJECTIONS:
            stem = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
            shapes |= {f"{stem}.lora_A.weight": (rank, hidden), f"{stem}.lora_B.weight": (hidden, rank)}
    return shapes


def adapter_config(*, rank: int = 4, **more: object) -> dict[str, object]:
    return {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "bias": "none", "target_modules": list(PROJECTIONS), **more}


def write_adapter(folder: Path, *, rank: int = 4, shapes: Mapping[str, Shape] | None = None, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config(rank=rank, **config)))
    content = safetensors(adapter_shapes(rank=rank) if shapes is None else shapes)
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder
