"""Which adapters reach an engine."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskfleet.artifacts import base_model, lora
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid
from tests.unit.artifacts.model_files import HIDDEN, Shape, adapter_shapes, safetensors, write_adapter, write_base

Breaking = Callable[[Path], object]


@pytest.fixture
def base(tmp_path: Path) -> base_model.BaseShapes:
    return base_model.verify(write_base(tmp_path / "base"))


def rewrite(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))


def reshape(folder: Path, shapes: dict[str, Shape]) -> None:
    (folder / "adapter_model.safetensors").write_bytes(safetensors(shapes))


def without(shapes: dict[str, Shape], ending: str) -> dict[str, Shape]:
    return {name: shape for name, shape in shapes.items() if not name.endswith(ending)}


STEM = "base_model.model.model.layers.0.self_attn"
REFUSED: dict[str, tuple[Breaking, str]] = {
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config.json"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
    "config is no JSON": (lambda folder: (folder / "adapter_config.json").write_text("r: 8"), "is no JSON"),
    "config is a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), "no JSON object"),
    "config is nested without end": (lambda folder: (folder / "adapter_config.json").write_text("[" * 100_000), "is no JSON"),
    "config is huge": (lambda folder: (folder / "adapter_config.json").write_text(" " * 2_000_000), "is larger than"),
    "another kind of adapter": (lambda folder: rewrite(folder, peft_type="IA3"), "only LORA"),
    "rank is text": (lambda folder: rewrite(folder, r="8"), "r is no positive whole number"),
    "rank is true": (lambda folder: rewrite(folder, r=True), "r is no positive whole number"),
    "rank is zero": (lambda folder: rewrite(folder, r=0), "r is no positive whole number"),
    "rank pattern is text": (lambda folder: rewrite(folder, rank_pattern={"q_proj": "9"}), "rank_pattern"),
    "rank above the limit": (lambda folder: rewrite(folder, r=64), "rank 64 is above the limit of 8"),
    "rank above the limit by pattern": (lambda folder: rewrite(folder, rank_pattern={"q_proj": 32}), "rank 32 is above the limit of 8"),
    "DoRA": (lambda folder: rewrite(folder, use_dora=True), "use_dora"),
    "bias": (lambda folder: rewrite(folder, bias="all"), "bias must be none"),
    "modules to save": (lambda folder: rewrite(folder, modules_to_save=["lm_head"]), "modules_to_save"),
    "code": (lambda folder: rewrite(folder, auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    "empty weights": (lambda folder: reshape(folder, {}), "holds no LoRA weights"),
    "a tensor that is no LoRA": (lambda folder: reshape(folder, {**adapter_shapes(), "lm_head.weight": (32, HIDDEN)}), "no LoRA module"),
    "half a pair": (lambda folder: reshape(folder, without(adapter_shapes(), f"{STEM}.q_proj.lora_B.weight")), "only one of"),
    "a pair that doesn't multiply": (
        lambda folder: reshape(folder, {**adapter_shapes(), f"{STEM}.q_proj.lora_B.weight": (HIDDEN, 5)}),
        "don't go together",
    ),
    "another rank than the config's": (lambda folder: reshape(folder, adapter_shapes(rank=6)), "has rank 6"),
    "a base with other sizes": (lambda folder: reshape(folder, adapter_shapes(hidden=2 * HIDDEN)), "wrong base"),
    "a base with more layers": (lambda folder: reshape(folder, adapter_shapes(layers=9)), "beyond the base's 2 layers"),
    "a base with other modules": (
        lambda folder: reshape(folder, {f"{STEM}.w_q.lora_A.weight": (4, HIDDEN), f"{STEM}.w_q.lora_B.weight": (HIDDEN, 4)}),
        "it has no module",
    ),
    "cut-off weights": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes()[:-4]),
        "no valid safetensors",
    ),
    "garbage": (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x93" * 4096), "no valid safetensors"),
    "a pickle by another name": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04K\x01."),
        "no valid safetensors",
    ),
}


@pytest.mark.parametrize(("breaking", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_adapter_that_no_engine_may_see_is_refused(tmp_path: Path, base: base_model.BaseShapes, breaking: Breaking, said: str) -> None:
    folder = write_adapter(tmp_path / "adapter")
    breaking(folder)
    with pytest.raises(ArtifactInvalid, match=said):
        lora.verify(folder, base=base, max_rank=8)


def test_adapter_for_the_base_is_accepted_up_to_the_limit_of_its_rank(tmp_path: Path, base: base_model.BaseShapes) -> None:
    lora.verify(write_adapter(tmp_path / "adapter", rank=8), base=base, max_rank=8)


def test_ranks_by_pattern_are_accepted(tmp_path: Path, base: base_model.BaseShapes) -> None:
    shapes = adapter_shapes() | {f"{STEM}.q_proj.lora_A.weight": (8, HIDDEN), f"{STEM}.q_proj.lora_B.weight": (HIDDEN, 8)}
    lora.verify(write_adapter(tmp_path / "adapter", shapes=shapes, rank_pattern={"layers.0.self_attn.q_proj": 8}), base=base, max_rank=8)


def test_base_under_another_prefix_is_the_same_base(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    renamed = {name.replace("model.layers", "language_model.model.layers"): (HIDDEN, HIDDEN) for name in adapter_targets()}
    (folder / "model.safetensors").write_bytes(safetensors(renamed))
    lora.verify(write_adapter(tmp_path / "adapter"), base=base_model.verify(folder), max_rank=8)


def test_quantized_base_is_held_to_its_layers_only(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", quantization_config={"quant_method": "awq"})
    packed = {f"model.layers.{layer}.self_attn.q_proj.qweight": (HIDDEN, HIDDEN // 8) for layer in range(2)}
    (folder / "model.safetensors").write_bytes(safetensors(packed))
    shapes = base_model.verify(folder)
    lora.verify(write_adapter(tmp_path / "fits"), base=shapes, max_rank=8)
    with pytest.raises(ArtifactInvalid, match="beyond the base's 2 layers"):
        lora.verify(write_adapter(tmp_path / "other", shapes=adapter_shapes(layers=3)), base=shapes, max_rank=8)


def test_every_committed_adapter_of_the_examples_fits_their_base() -> None:
    model = Path(__file__).parents[3] / "examples" / "tiny-model"
    folders = sorted(path.parent for path in model.glob("adapters/*/*/adapter_config.json"))
    if not folders:
        pytest.skip("the tiny model's adapters are not there")
    base = base_model.verify(model / "base")
    for folder in folders:
        lora.verify(folder, base=base, max_rank=16)


def adapter_targets() -> list[str]:
    return [f"model.layers.{layer}.self_attn.{projection}.weight" for layer in range(2) for projection in ("q_proj", "v_proj")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["peft_type", "r", "rank_pattern", "use_dora", "bias", "modules_to_save", "auto_map", "fan_in_fan_out", "other"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(FIELDS, JSON, max_size=4), content=st.none() | st.binary(max_size=200))
def test_no_config_and_no_weights_can_raise_anything_but_an_artifact_error(
    tmp_path: Path, base: base_model.BaseShapes, changes: dict[str, object], content: bytes | None
) -> None:
    folder = tmp_path / "adapter"
    if not folder.exists():
        write_adapter(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, **changes}))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(adapter_shapes()) if content is None else content)
    with contextlib.suppress(ArtifactError):
        lora.verify(folder, base=base, max_rank=8)
        assert content is None
