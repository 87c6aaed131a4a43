"""LoRA adapters made by the tests: good ones whose bytes follow from a seed, and one for each way in which an artifact can be bad.

They fit the tiny base model of `examples/`, whose shapes are read from its config. They answer nothing sensible: tests on the simulator only ask whose
bytes answered.
"""

import hashlib
import json
import pickle
import random
import struct
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BASE = Path(__file__).resolve().parents[2] / "examples/tiny-model/base"


class Flaw(StrEnum):
    """Why an artifact must be refused before an engine sees it."""

    WRONG_BASE = "wrong-base"  # shapes of another model
    OVER_RANK = "over-rank"  # a rank above the class's limit
    CORRUPT = "corrupt"  # safetensors cut off in the middle
    PICKLE = "pickle"  # weights that would execute code when loaded
    NO_WEIGHTS = "no-weights"  # a configuration and nothing else
    EMPTY = "empty"  # no file at all


OVER_RANK = 64


def write(folder: Path, *, seed: str, rank: int = 8) -> str:
    """A good adapter; gives the SHA-256 of its weights in hexadecimal."""
    return _write(folder, seed=seed, rank=rank)


def write_flawed(folder: Path, flaw: Flaw) -> None:
    """An adapter with one flaw and no other."""
    write(folder, seed=flaw)
    _SPOIL[flaw](folder)


def _wrong_base(folder: Path) -> None:
    _write(folder, seed="wrong base", rank=8, scale=2)


def _over_rank(folder: Path) -> None:
    write(folder, seed="over rank", rank=OVER_RANK)


def _corrupt(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"weights": [0.0]}))


def _no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


_SPOIL: dict[Flaw, Callable[[Path], None]] = {
    Flaw.WRONG_BASE: _wrong_base,
    Flaw.OVER_RANK: _over_rank,
    Flaw.CORRUPT: _corrupt,
    Flaw.PICKLE: _pickle,
    Flaw.NO_WEIGHTS: _no_weights,
    Flaw.EMPTY: _empty,
}


def _shapes(rank: int, scale: int) -> dict[str, tuple[int, int]]:
    """Tensors of an adapter on the base's attention; `scale` times as wide."""
    base = json.loads((BASE / "config.json").read_text())
    hidden, heads = scale * base["hidden_size"], base["num_attention_heads"]
    width = scale * (base.get("head_dim") or base["hidden_size"] // heads)
    grown = {"q_proj": heads * width, "v_proj": base.get("num_key_value_heads", heads) * width}
    shapes = {}
    for layer in range(base["num_hidden_layers"]):
        for projection, rows in grown.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
            shapes[f"{stem}.lora_A.weight"] = (rank, hidden)
            shapes[f"{stem}.lora_B.weight"] = (rows, rank)
    return shapes


def _write(folder: Path, *, seed: str, rank: int, scale: int = 1) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "base_model_name_or_path": "taskfleet/tiny-invoices",
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    (folder / CONFIG).write_text(json.dumps(configuration, indent=1))
    chance = random.Random(seed)  # noqa: S311  reproducible bytes, no secret
    header, bodies, offset = {}, [], 0
    for name, (rows, columns) in _shapes(rank, scale).items():
        body = struct.pack(f"<{rows * columns}f", *(chance.uniform(-0.01, 0.01) for _ in range(rows * columns)))
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, offset + len(body)]}
        offset += len(body)
        bodies.append(body)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    content = struct.pack("<Q", len(head)) + head + b"".join(bodies)
    (folder / WEIGHTS).write_bytes(content)
    return hashlib.sha256(content).hexdigest()
