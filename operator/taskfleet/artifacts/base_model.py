"""Is this a base model that may be served? And what shapes must adapters for it have?"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.artifacts import json_file, safetensors_header
from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.filenames import check_name

INDEX = "model.safetensors.index.json"
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("tekken.json",), ("vocab.txt",))
# Vocabularies: large, and read by tokenizer libraries as what they are. No library takes the name of code from them.
_TABLES = frozenset({"tokenizer.json", "vocab.json", "tekken.json", INDEX})
# Checkpoints and libraries disagree about what stands before the layers (`model.`, `language_model.model.`, `model.language_model.`), not about what follows.
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)$")


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """Shapes of a base's weight matrices by the part of their name that libraries agree on. `layers` counts layers; quantised bases hide their shapes."""

    matrices: dict[str, tuple[int, ...]]
    layers: int
    quantized: bool

    def of(self, module: str) -> tuple[int, ...] | None:
        """The shape (output, input) of a module's weight; None where the base has no such weight."""
        return self.matrices.get(module_key(module))


# For an adapter whose base is not at hand: it objects to no module and no shape.
UNKNOWN_BASE = BaseShapes({}, layers=0, quantized=True)


def module_key(module: str) -> str:
    """The part of a module's path that names it in any checkpoint of its model."""
    if match := _LAYER.search(module):
        return f"{int(match[1])}.{match[2]}"
    return module.rsplit(".", 1)[-1]


def layer_of(module: str) -> int | None:
    """The layer that a module belongs to, from 0."""
    match = _LAYER.search(module)
    return int(match[1]) if match else None


def verify(directory: Path) -> BaseShapes:
    """Checks a base model's files; raises ArtifactInvalid with the first objection."""
    names = {path.name for path in directory.iterdir()}
    if not names:
        raise ArtifactInvalid("the artifact is empty")
    for name in names:
        check_name(name)
    if "config.json" not in names:
        raise ArtifactInvalid("the base has no config.json")
    config = json_file.read(directory / "config.json")
    for name in sorted(names):
        if name.endswith(".json") and name not in _TABLES:
            _check_no_code(directory / name)
    if not any(set(files) <= names for files in _TOKENIZERS):
        raise ArtifactInvalid("the base has no tokenizer: tokenizer.json, tokenizer.model, or vocab.json with merges.txt")
    return _shapes(config, _weights(directory, names))


def _check_no_code(path: Path) -> None:
    if "auto_map" in json_file.read(path, max_bytes=json_file.MAX_TABLE_BYTES):
        raise ArtifactInvalid(
            f"{path.name} has auto_map, which asks for code that comes with the model; only built-in architectures are served"
        )


def _weights(directory: Path, names: set[str]) -> dict[str, safetensors_header.Tensor]:
    shards = sorted(name for name in names if name.endswith(".safetensors"))
    if not shards:
        raise ArtifactInvalid("the base has no weights: no *.safetensors")
    if INDEX in names:
        _check_index(json_file.read(directory / INDEX, max_bytes=json_file.MAX_TABLE_BYTES), names)
    weights: dict[str, safetensors_header.Tensor] = {}
    for shard in shards:
        weights |= safetensors_header.read(directory / shard)
    if not weights:
        raise ArtifactInvalid("the base's weights are empty")
    return weights


def _check_index(index: dict[str, Any], names: set[str]) -> None:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        raise ArtifactInvalid(f"{INDEX} has no weight_map")
    missing = sorted({str(shard) for shard in weight_map.values()} - names)
    if missing:
        raise ArtifactInvalid(f"the base lacks {json.dumps(missing[0])}, which {INDEX} names")


def _shapes(config: dict[str, Any], weights: dict[str, safetensors_header.Tensor]) -> BaseShapes:
    matrices: dict[str, tuple[int, ...]] = {
        module_key(name.removesuffix(".weight")): tensor.shape
        for name, tensor in weights.items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    }
    layers = [layer for name in weights if (layer := layer_of(name)) is not None]
    return BaseShapes(matrices, max(layers, default=-1) + 1, "quantization_config" in config)
