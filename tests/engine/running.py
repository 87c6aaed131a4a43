"""Engines as processes of the tests: the simulator and the real vLLM, started by the very same arguments of the driver."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from taskfleet.engines.settings import EngineSettings
from taskfleet.engines.vllm.arguments import COMMAND, arguments, environment
from tests.engine.environment import ensure
from tests.engine.process_facts import children

REPOSITORY = Path(__file__).resolve().parents[2]
TINY_MODEL = REPOSITORY / "examples" / "tiny-model"
BASE_NAME = "tiny"

# What vLLM needs on a CPU: bfloat16 dies of an illegal instruction on some virtual ones, and one thread too many spins against the others.
CPU_ARGUMENTS = ("--dtype=float32", "--enforce-eager", "--max-num-seqs=32")
CPU_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "2"}
# Seconds until an engine must answer: vLLM takes half a minute on an idle machine and was seen to take two on a busy one.
START_LIMIT = {"simulator": 60.0, "vllm": 420.0}


class EngineNotStartedError(RuntimeError):
    """The process ended or never answered; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """One engine process. `kind` is `simulator` or `vllm`; `adapters` the folder below which it may load adapters."""

    kind: str
    base_url: str
    process: subprocess.Popen[bytes]
    adapters: Path
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def core_process(self) -> int:
        """The id of the process in which the engine's core runs: the one child that vLLM names so, the only one that the simulator has."""
        for child in children(self.process.pid):
            if self.kind == "simulator" or "EngineCore" in _command(child):
                return child
        raise LookupError(f"no core among the children of {self.process.pid}")

    def stop(self) -> None:
        """End the process and everything that it started."""
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        # The group is the engine's own: whatever outlived its leader goes with it.
        if _group_exists(self.process.pid):
            os.killpg(self.process.pid, signal.SIGKILL)


def start(kind: str, folder: Path, settings: EngineSettings, *more: str) -> RunningEngine:
    """Start an engine and wait until it answers. `folder` takes its log. Raises EngineNotStartedError."""
    log = folder / f"{kind}-{settings.port}.log"
    command, variables = _simulator() if kind == "simulator" else _vllm(folder)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments(settings), *more],
            env={**variables, **environment(settings)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    engine = RunningEngine(kind, f"http://127.0.0.1:{settings.port}", process, Path(settings.adapter_prefix), log)
    deadline = time.monotonic() + START_LIMIT[kind]
    while not _answers(settings.port):
        if not engine.alive or time.monotonic() > deadline:
            engine.stop()
            raise EngineNotStartedError(
                f"{kind} did not start (exit code {process.returncode}):\n{log.read_text(errors='replace')[-4000:]}"
            )
        time.sleep(0.1)
    return engine


def settings(adapters: Path, **changes: object) -> EngineSettings:
    """A small engine on the tiny model: two adapters in a batch, four in memory, rank 8 at most."""
    chosen: dict[str, object] = {
        "served_base_name": BASE_NAME,
        "model_path": str(TINY_MODEL / "base"),
        "adapter_prefix": str(adapters),
        "port": free_port(),
        "max_loras": 2,
        "max_cpu_loras": 4,
        "max_lora_rank": 8,
        "extra_args": CPU_ARGUMENTS,
    }
    return EngineSettings(**{**chosen, **changes})  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def _simulator() -> tuple[tuple[str, ...], dict[str, str]]:
    return (sys.executable, "-m", "simulator"), {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def _vllm(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    made = ensure()
    home = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(made.site_packages), "VLLM_CACHE_ROOT": str(made.vllm_cache)}
    return (str(made.python), *COMMAND[1:]), {**home, **CPU_ENVIRONMENT}


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
