"""Command line: vLLM's arguments as far as they change what can be observed, and the simulator's own."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`max_*` as vLLM's arguments of the same names; `*_seconds` are the simulator's own, to be slow on purpose."""

    model: Path
    served_model_name: str
    host: str
    port: int
    enable_lora: bool
    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    max_num_seqs: int
    max_model_len: int | None
    pooling: bool
    tool_parser: bool
    startup_seconds: float
    load_seconds: float
    first_token_seconds: float
    token_seconds: float


def parse(arguments: list[str]) -> Options:
    """Arguments that are unknown here are ignored with a warning: they matter to a real engine only."""
    parser = argparse.ArgumentParser(prog="simulator", description="A stand-in for vLLM in tests.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--enable-lora", action="store_true")
    # vLLM's own defaults, traps included.
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-cpu-loras", type=int)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--runner", choices=["auto", "generate", "pooling"], default="auto")
    parser.add_argument("--enable-auto-tool-choice", action="store_true")
    parser.add_argument("--tool-call-parser")
    parser.add_argument("--sim-startup-seconds", type=float, default=0.5, help="from the start of the process until it listens")
    parser.add_argument("--sim-load-seconds", type=float, default=0.0, help="how long reading an adapter takes")
    parser.add_argument("--sim-first-token-seconds", type=float, default=0.0)
    parser.add_argument("--sim-token-seconds", type=float, default=0.0, help="between one token and the next")
    known, unknown = parser.parse_known_args(arguments)
    if known.enable_auto_tool_choice and known.tool_call_parser is None:
        parser.error("--enable-auto-tool-choice requires --tool-call-parser")
    if unknown:
        print(f"warning: not simulated: {' '.join(unknown)}", file=sys.stderr, flush=True)
    return Options(
        model=known.model,
        served_model_name=known.served_model_name or str(known.model),
        host=known.host,
        port=known.port,
        enable_lora=known.enable_lora,
        max_loras=known.max_loras,
        max_cpu_loras=known.max_cpu_loras or known.max_loras,
        max_lora_rank=known.max_lora_rank,
        max_num_seqs=known.max_num_seqs,
        max_model_len=known.max_model_len,
        pooling=known.runner == "pooling",
        tool_parser=known.tool_call_parser is not None,
        startup_seconds=known.sim_startup_seconds,
        load_seconds=known.sim_load_seconds,
        first_token_seconds=known.sim_first_token_seconds,
        token_seconds=known.sim_token_seconds,
    )
