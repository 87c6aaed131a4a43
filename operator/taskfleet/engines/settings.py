"""What an engine has to be told at its start, in no engine's own words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """One engine process: one base model, and room for adapters.

    `served_base_name` is the name that the base answers to; `model_path` a folder with its files. `adapter_prefix` is the folder below which alone adapters may be
    loaded from. `max_loras` counts adapters that one batch may hold, `max_cpu_loras` those kept in memory (never fewer), `max_lora_rank` is the greatest rank
    accepted. `max_model_length` bounds prompt and answer together, in tokens; None leaves it to the model. `extra_args` are the administrator's own.
    """

    served_base_name: str
    model_path: str
    adapter_prefix: str
    port: int = 8000
    enable_lora: bool = True
    max_loras: int = 8
    max_cpu_loras: int = 32
    max_lora_rank: int = 16
    max_model_length: int | None = None
    extra_args: tuple[str, ...] = ()
