"""Files of a base and of adapters, read as closely as vLLM's outcome depends on them: shapes, rank, and which bytes they are."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class AdapterMissingError(Exception):
    """No adapter lies at the path: vLLM answers 404."""


class AdapterBrokenError(Exception):
    """The files are no adapter that this engine can use: vLLM answers 500."""


@dataclass(frozen=True, slots=True)
class Base:
    """The base model's shape: output sizes of the projections that adapters attach to, by the projection's name."""

    hidden_size: int
    positions: int
    outputs: dict[str, int]
    inputs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter in memory. `digest` is the SHA-256 of its weights file, in hexadecimal."""

    digest: str
    rank: int


def read_base(folder: Path) -> Base:
    """Raises FileNotFoundError where config.json or the weights are missing, as vLLM does not start without them."""
    config = json.loads((folder / "config.json").read_text())
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    grown, keyed = heads * width, config.get("num_key_value_heads", heads) * width
    inner = config["intermediate_size"]
    return Base(
        hidden_size=hidden,
        positions=config["max_position_embeddings"],
        outputs={
            "q_proj": grown,
            "k_proj": keyed,
            "v_proj": keyed,
            "o_proj": hidden,
            "gate_proj": inner,
            "up_proj": inner,
            "down_proj": hidden,
        },
        inputs={
            "q_proj": hidden,
            "k_proj": hidden,
            "v_proj": hidden,
            "o_proj": grown,
            "gate_proj": hidden,
            "up_proj": hidden,
            "down_proj": inner,
        },
    )


def read_adapter(path: str, base: Base, max_rank: int) -> Adapter:
    """Raises AdapterMissingError or AdapterBrokenError, with words like vLLM's."""
    folder = Path(path)
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AdapterMissingError(path) from error
    except ValueError as error:
        raise AdapterBrokenError(f"adapter_config.json: {error}") from error
    rank = config.get("r")
    if not isinstance(rank, int):
        raise AdapterBrokenError("adapter_config.json: r is missing")
    if rank > max_rank:
        raise AdapterBrokenError(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")
    try:
        content = (folder / "adapter_model.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise AdapterBrokenError(f"{path} doesn't contain tensors") from error
    for name, shape in _shapes(content).items():
        _check(name, shape, rank, base)
    return Adapter(hashlib.sha256(content).hexdigest(), rank)


def _shapes(content: bytes) -> dict[str, list[int]]:
    """Names and shapes of a safetensors file: eight bytes with the header's length, the header as JSON, the tensors' bytes."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise AdapterBrokenError("Error while deserializing header: header too large")
    try:
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        shapes = {name: list(tensor["shape"]) for name, tensor in header.items()}
        needed = sum(math.prod(tensor["shape"]) * SIZES[tensor["dtype"]] for tensor in header.values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterBrokenError(f"Error while deserializing header: {error}") from error
    if needed != len(content) - 8 - length:
        raise AdapterBrokenError("Error while deserializing header: incomplete metadata, file not fully covered")
    return shapes


def _check(name: str, shape: list[int], rank: int, base: Base) -> None:
    # base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
    parts = name.split(".")
    projection, side = parts[-3:-1] if len(parts) >= 3 else ("", "")
    if projection not in base.outputs or side not in ("lora_A", "lora_B"):
        raise AdapterBrokenError(f"{name} is unsupported LoRA weight")
    wanted = [rank, base.inputs[projection]] if side == "lora_A" else [base.outputs[projection], rank]
    if shape != wanted:
        raise AdapterBrokenError(f"{name} has shape {shape}, expected {wanted}")
