"""The folder outside the checkout in which built things are kept: complete and checked, or not there at all."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SEAL = "sealed.json"


def cache_folder() -> Path:
    """`$TASKFLEET_CACHE`, or `taskfleet` in the user's cache folder."""
    own = os.environ.get("TASKFLEET_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskfleet"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, so that two runs do not do the same work twice. The kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(folder: Path) -> bool:
    """Whether every file that the folder was sealed with is there with the same size and bytes."""
    seal = folder / SEAL
    if not seal.is_file():
        return False
    files: dict[str, dict[str, str | int]] = json.loads(seal.read_text())
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == fact["size"] and sha256_of(folder / name) == fact["sha256"]
        for name, fact in files.items()
    )


def publish(folder: Path, fill: Callable[[Path], None]) -> None:
    """Makes `folder` by filling a temporary one beside it, sealing it and renaming it, so that a half-made folder is never seen."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fill(draft)
        files = [path for path in sorted(draft.rglob("*")) if path.is_file() and not path.is_symlink()]
        facts = {str(path.relative_to(draft)): {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files}
        (draft / SEAL).write_text(json.dumps(facts, indent=1))
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
