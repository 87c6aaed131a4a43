"""Prints how fast the real engine writes: seconds per token by the number of requests that run at once, per prompt token, and from its start until it answers.

    python -m tests.benchmarks.bench_engine_speed [--tokens 200] [--rounds 3] [--threads 1]

vLLM on the CPU with the tiny model and one of its adapters. The replay of traffic (`bench_autoscaling`) takes its speeds from here.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engine.running import CPU_ENVIRONMENT, TINY_MODEL, RunningEngine, settings, start

CONCURRENCIES = (1, 4, 8, 16, 32)
ADAPTER = "total"


def post(engine: RunningEngine, path: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(f"{engine.base_url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310  our own engine
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        answer.read()


def complete(engine: RunningEngine, *, mark: str, prompt_tokens: int, tokens: int) -> float:
    """Seconds of one whole answer of exactly `tokens`. The mark comes first, so that no prompt is found in the engine's prefix cache."""
    prompt = (mark * prompt_tokens)[:prompt_tokens]
    begun = time.monotonic()
    post(engine, "/v1/completions", {"model": ADAPTER, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0})
    return time.monotonic() - begun


def token_seconds(engine: RunningEngine, *, concurrency: int, tokens: int, mark: str) -> float:
    """Mean seconds per token of requests that run side by side from beginning to end."""
    with ThreadPoolExecutor(concurrency) as clients:
        times = clients.map(lambda number: complete(engine, mark=f"{mark}-{number} ", prompt_tokens=20, tokens=tokens), range(concurrency))
    return statistics.mean(times) / tokens


def measure(engine: RunningEngine, *, tokens: int, rounds: int) -> None:
    complete(engine, mark="warm ", prompt_tokens=20, tokens=tokens)
    for concurrency in CONCURRENCIES:
        found = [token_seconds(engine, concurrency=concurrency, tokens=tokens, mark=f"{concurrency}-{number}") for number in range(rounds)]
        print(f"{concurrency:3} at once: {1000 * statistics.median(found):7.2f} ms per token, median of {rounds}")
    prompts = [complete(engine, mark=f"prompt {number} ", prompt_tokens=480, tokens=1) / 480 for number in range(3 * rounds)]
    print(f"prompt: {1000 * statistics.median(prompts):.3f} ms per token")
    print(f"({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, default=1, help="of the engine's arithmetic; on a busy machine each of two waits for the other"
    )
    given = parser.parse_args()
    CPU_ENVIRONMENT["OMP_NUM_THREADS"] = str(given.threads)
    with tempfile.TemporaryDirectory(prefix="taskfleet-speed-") as scratch:
        adapters = Path(scratch) / "adapters"
        shutil.copytree(TINY_MODEL / "adapters" / ADAPTER / "v1", adapters / ADAPTER)
        begun = time.monotonic()
        engine = start("vllm", Path(scratch), settings(adapters))
        try:
            print(f"engine: answers {time.monotonic() - begun:.1f} s after its start")
            post(engine, "/v1/load_lora_adapter", {"lora_name": ADAPTER, "lora_path": str(adapters / ADAPTER)})
            measure(engine, tokens=given.tokens, rounds=given.rounds)
        finally:
            engine.stop()


if __name__ == "__main__":
    main()
