"""Prints what a request costs in the gateway, beside a Go reverse proxy that rewrites the same JSON in the same run.

    python -m tests.benchmarks.bench_gateway [--seconds 5]

CPU time per request is what the figures of a shared machine can be compared by; throughput of one core is its inverse. Targets: the design's table of figures.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Figures:
    """One measurement. Times in milliseconds."""

    requests: int
    failures: int
    seconds: float
    p50_ms: float
    p99_ms: float


def build(folder: Path) -> Path:
    """The Go program of the measurement."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    binary = folder / "proxybench"
    subprocess.run([go, "build", "-o", str(binary), "."], cwd=HERE / "proxybench", check=True)
    return binary


@contextmanager
def process(*command: str, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on a loopback port, ended with the block."""
    running = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)
    try:
        wait_for(port, running)
        yield running
    finally:
        running.terminate()
        running.wait(timeout=10)


def wait_for(port: int, running: subprocess.Popen[bytes], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise RuntimeError(f"what should listen on {port} ended with {running.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def load(binary: Path, port: int, *options: str) -> Figures:
    """Runs the load generator against a port."""
    command = [str(binary), "load", "-url", f"http://127.0.0.1:{port}", *options]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Figures(**json.loads(printed))


def cpu_seconds(running: subprocess.Popen[bytes]) -> float:
    """User and system time of a process so far."""
    values = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def cost(binary: Path, port: int, running: subprocess.Popen[bytes], options: Sequence[str]) -> tuple[float, Figures]:
    """CPU microseconds per request, under as much load as it takes, and the figures of the load."""
    load(binary, port, "-seconds", "1", *options)
    before = cpu_seconds(running)
    figures = load(binary, port, *options)
    return (cpu_seconds(running) - before) / max(1, figures.requests + figures.failures) * 1e6, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    seconds = str(given.seconds)
    with ExitStack() as stack:
        binary = build(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        upstream, proxy, gateway = free_port(), free_port(), free_port()
        stack.enter_context(process(str(binary), "upstream", "-listen", f"127.0.0.1:{upstream}", port=upstream))
        reference = stack.enter_context(
            process(
                str(binary), "proxy", "-listen", f"127.0.0.1:{proxy}", "-to", f"http://127.0.0.1:{upstream}", port=proxy, GOMAXPROCS="1"
            )
        )
        ours = stack.enter_context(
            process(
                *(sys.executable, "-m", "tests.benchmarks.gateway_process"),
                *("--port", str(gateway), "--upstream", f"127.0.0.1:{upstream}"),
                port=gateway,
            )
        )
        go_cost, go_figures = cost(binary, proxy, reference, ["-seconds", seconds])
        our_cost, our_figures = cost(binary, gateway, ours, ["-seconds", seconds])
        stream_cost, stream_figures = cost(binary, gateway, ours, ["-seconds", seconds, "-stream"])
        steady = ["-seconds", seconds, "-rate", "300"]
        direct, through = load(binary, upstream, *steady), load(binary, gateway, *steady)
    failures = go_figures.failures + our_figures.failures + stream_figures.failures + direct.failures + through.failures
    print(f"reference proxy (Go)   {go_cost:8.0f} us CPU per request   {go_figures.requests / go_figures.seconds:8.0f} requests/s")
    print(f"gateway                {our_cost:8.0f} us CPU per request   {our_figures.requests / our_figures.seconds:8.0f} requests/s")
    print(f"gateway : reference    {our_cost / go_cost:8.2f} (reach: 2.5)   one core: {1e6 / our_cost:.0f} requests/s (reach: 1800)")
    print(f"streams of 100 events  {stream_cost:8.0f} us CPU per stream    {100 * 1e6 / stream_cost:8.0f} events/s of one core")
    print(
        f"at 300 requests/s      p50 +{through.p50_ms - direct.p50_ms:.2f} ms, p99 +{through.p99_ms - direct.p99_ms:.2f} ms (gateway alone)"
    )
    print(f"failed requests        {failures}")


if __name__ == "__main__":
    main()
