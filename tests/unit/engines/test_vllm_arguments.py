"""How vLLM is started, and what nobody may set beside it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.engines.settings import EngineSettings
from taskfleet.engines.vllm.arguments import (
    DEFAULTS,
    FORBIDDEN_ARGUMENTS,
    FORBIDDEN_ENVIRONMENT,
    LORA_RANKS,
    arguments,
    environment,
    forbidden_arguments,
    forbidden_environment,
)

SETTINGS = EngineSettings(served_base_name="pool", model_path="/store/base/current", adapter_prefix="/store/adapters")


def option(settings: EngineSettings, name: str) -> str | None:
    """The value that argparse would end with: the last one."""
    values = [argument.partition("=")[2] for argument in arguments(settings) if argument.partition("=")[0] == name]
    return values[-1] if values else None


def test_engine_listens_on_loopback_only() -> None:
    assert option(SETTINGS, "--host") == "127.0.0.1"
    assert environment(SETTINGS)["GLOO_SOCKET_IFNAME"] == "lo"


def test_adapter_limits_are_always_given_because_the_defaults_are_traps() -> None:
    settings = replace(SETTINGS, max_loras=4, max_cpu_loras=64, max_lora_rank=32)
    assert [option(settings, f"--{name}") for name in ("max-loras", "max-cpu-loras", "max-lora-rank")] == ["4", "64", "32"]
    assert "--enable-lora" in arguments(settings)
    assert environment(settings)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert environment(settings)["VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES"] == "/store/adapters"


def test_memory_holds_at_least_a_batch_of_adapters() -> None:
    assert option(replace(SETTINGS, max_loras=8, max_cpu_loras=2), "--max-cpu-loras") == "8"


@given(st.integers(1, LORA_RANKS[-1]))
def test_rank_is_raised_to_one_that_vllm_accepts(rank: int) -> None:
    given_rank = int(option(replace(SETTINGS, max_lora_rank=rank), "--max-lora-rank") or 0)
    assert given_rank in LORA_RANKS
    assert given_rank >= rank
    assert all(accepted < rank for accepted in LORA_RANKS if accepted < given_rank)


def test_rank_beyond_vllm_is_an_error() -> None:
    with pytest.raises(ValueError, match="rank 512"):
        arguments(replace(SETTINGS, max_lora_rank=513))


def test_engine_without_adapters_has_no_door_for_them() -> None:
    settings = replace(SETTINGS, enable_lora=False)
    assert not [argument for argument in arguments(settings) if "lora" in argument]
    assert not [name for name in environment(settings) if "LORA" in name]


def test_model_length_is_left_to_the_model_unless_said() -> None:
    assert option(SETTINGS, "--max-model-len") is None
    assert option(replace(SETTINGS, max_model_length=2048), "--max-model-len") == "2048"


def test_ours_stand_after_the_administrators() -> None:
    settings = replace(SETTINGS, extra_args=("--host=0.0.0.0", "--dtype=float32"))
    assert option(settings, "--host") == "127.0.0.1"
    assert option(settings, "--dtype") == "float32"


def test_engine_fetches_no_address_that_stands_in_a_request() -> None:
    settings = replace(SETTINGS, extra_args=("--allowed-media-domains=metadata.internal",))
    assert option(settings, "--allowed-media-domains") == "none.invalid"


def test_nothing_is_fetched_and_nobody_is_told() -> None:
    chosen = environment(SETTINGS)
    assert {chosen[name] for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK")} == {"1"}


def test_every_argument_of_ours_is_forbidden_to_others() -> None:
    ours = [argument for argument in arguments(replace(SETTINGS, max_model_length=1)) if argument not in DEFAULTS]
    assert forbidden_arguments(ours) == ours


def test_every_variable_that_guards_something_is_forbidden_to_others() -> None:
    guards = {
        name for name in environment(SETTINGS) if name not in ("HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK")
    }
    assert guards <= set(FORBIDDEN_ENVIRONMENT)
    assert forbidden_environment(["OMP_NUM_THREADS", "VLLM_SERVER_DEV_MODE"]) == ["VLLM_SERVER_DEV_MODE"]


@given(
    argument=st.sampled_from(FORBIDDEN_ARGUMENTS),
    length=st.integers(3, 40),
    underscores=st.booleans(),
    tail=st.sampled_from(["", "=x", ".key=x"]),
)
def test_no_spelling_gets_around(*, argument: str, length: int, underscores: bool, tail: str) -> None:
    """Underscores pass for dashes in vLLM, and abbreviations in argparse."""
    spelled = argument[:length]
    if underscores:
        spelled = "--" + spelled[2:].replace("-", "_")
    assert forbidden_arguments([spelled + tail]) == [spelled + tail]


@pytest.mark.parametrize(
    "harmless",
    [
        "--dtype=float32",
        "--enforce-eager",
        "--max-num-seqs",
        "32",
        "--gpu-memory-utilization=0.9",
        "--enable-prefix-caching",
        "-tp",
        "--quantization=fp8",
    ],
)
def test_ordinary_arguments_pass(harmless: str) -> None:
    assert forbidden_arguments([harmless]) == []
