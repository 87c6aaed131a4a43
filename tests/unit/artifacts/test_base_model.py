"""Which bases are served."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taskfleet.artifacts import base_model
from taskfleet.artifacts.errors import ArtifactInvalid
from tests.unit.artifacts.model_files import HIDDEN, write_base

Breaking = Callable[[Path], object]


def index(folder: Path, *shards: str) -> None:
    content = {"weight_map": {f"layer.{number}": shard for number, shard in enumerate(shards)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


REFUSED: dict[str, tuple[Breaking, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
    "a pickle": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80\x04."), "may hold a pickle"),
    "code": (lambda folder: (folder / "modeling_evil.py").write_text("import os"), "is code"),
    "a link to code": (lambda folder: (folder / "evil.so").symlink_to("/bin/true"), "is code"),
    "code by config": (
        lambda folder: (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}'),
        "config.json has auto_map",
    ),
    "code by tokenizer": (
        lambda folder: (folder / "tokenizer_config.json").write_text('{"auto_map": {}}'),
        "tokenizer_config.json has auto_map",
    ),
    "a shard is missing": (lambda folder: index(folder, "model.safetensors", "model-00002.safetensors"), "model-00002.safetensors"),
    "garbage": (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "no valid safetensors|empty"),
}


@pytest.mark.parametrize(("breaking", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_base_that_no_engine_may_see_is_refused(tmp_path: Path, breaking: Breaking, said: str) -> None:
    folder = write_base(tmp_path / "base")
    breaking(folder)
    with pytest.raises(ArtifactInvalid, match=said):
        base_model.verify(folder)


def test_empty_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="empty"):
        base_model.verify(tmp_path)


def test_shapes_of_a_base_are_known_by_module(tmp_path: Path) -> None:
    shapes = base_model.verify(write_base(tmp_path / "base"))
    assert shapes.layers == 2
    assert shapes.of("model.layers.1.self_attn.q_proj") == (HIDDEN, HIDDEN)
    assert shapes.of("lm_head") == (32, HIDDEN)
    assert shapes.of("model.layers.2.self_attn.q_proj") is None
