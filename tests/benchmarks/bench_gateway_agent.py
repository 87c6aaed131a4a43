"""Prints the latency that gateway and agent add together, over an engine simulator that answers at once, at a steady rate.

    python -m tests.benchmarks.bench_gateway_agent [--rate 300] [--seconds 10]

Gateway, agent, simulator and load generator are processes of one machine: with fewer cores than these four need, the figures show its queue and not theirs.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from taskfleet.api.agent import AdapterPhase
from tests.benchmarks.bench_gateway import build, cpu_seconds, free_port, load, process
from tests.engine import issuer
from tests.engine.adapter_files import write_adapter
from tests.engine.agent_pod import Pod, running_pod
from tests.engine.running import TINY_MODEL
from tests.unit.artifacts.registry_process import running_registry


async def measure(rate: str, seconds: str) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        binary = build(folder)
        (folder / "registry").mkdir()
        registry = stack.enter_context(running_registry(folder / "registry"))
        async with running_pod(folder, registry, TINY_MODEL / "base") as pod:
            adapter = pod.adapter(write_adapter(folder / "vendor"), "vendor")
            await pod.want(adapter)
            await pod.reach({"vendor-v1": AdapterPhase.PROVEN})
            digest = str(adapter.adapter.digest)
            await asyncio.to_thread(compare, binary, pod, digest, adapter.engine_name, ["-rate", rate, "-seconds", seconds])


def compare(binary: Path, pod: Pod, digest: str, engine_model: str, options: list[str]) -> None:
    """Engine alone, agent before it, gateway before both."""
    token, port = issuer.token(pod.uid), free_port()
    command = [sys.executable, "-m", "tests.benchmarks.gateway_process", "--port", str(port), "--upstream", f"127.0.0.1:{pod.port}"]
    with process(*command, "--token", token, "--digest", digest, port=port) as gateway:
        assert pod.agent is not None
        ways = {
            "engine alone": (pod.engine_port, engine_model),
            "agent": (pod.port, engine_model),
            "gateway and agent": (port, "finance/vendor"),
        }
        base = None
        for name, (way, model) in ways.items():
            given = ["-model", model, "-token", token, *options]
            load(binary, way, *given)
            before = cpu_seconds(gateway), cpu_seconds(pod.agent)
            figures = load(binary, way, *given)
            spent = [
                (after - first) / figures.requests * 1e6
                for after, first in zip((cpu_seconds(gateway), cpu_seconds(pod.agent)), before, strict=True)
            ]
            base = base or figures
            print(
                f"{name:18} p50 {figures.p50_ms:6.2f} ms (+{figures.p50_ms - base.p50_ms:.2f})   p99 {figures.p99_ms:6.2f} ms (+{figures.p99_ms - base.p99_ms:.2f})   "
                f"gateway {spent[0]:4.0f} us, agent {spent[1]:4.0f} us CPU per request   {figures.requests / figures.seconds:.0f} requests/s, {figures.failures} failed"
            )
    print(f"reach: +2 ms at p50, +8 ms at p99   ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="300", help="requests a second")
    parser.add_argument("--seconds", default="10")
    given = parser.parse_args()
    asyncio.run(measure(given.rate, given.seconds))


if __name__ == "__main__":
    main()
