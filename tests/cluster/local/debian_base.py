"""The Debian base image where no registry with ready-made ones is in reach: made by debootstrap from the machine's own package mirror."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from .buildah import LOCAL, buildah, exists
from .cache import cache_folder, locked
from .commands import run
from .failures import ClusterError
from .progress import Progress

SUITE = "bookworm"
# python3-venv for our own image; libnuma1 is what vLLM's CPU build links beyond Python's wheels.
PACKAGES = ("ca-certificates", "libnuma1", "python3", "python3-venv")
IMAGE = f"{LOCAL}/engine-base:{SUITE}"

# Nobody reads manuals in a pod, and package lists are stale there.
PRUNED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists", "var/log")


def ensure_base_image(progress: Progress, log: Path) -> str:
    """The name of the base image in buildah's storage; made once for a suite and its packages."""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, PRUNED)).encode()).hexdigest()[:12]
    kept = f"{LOCAL}/engine-base:{SUITE}-{recipe}"
    with locked(cache_folder() / "buildah.lock"):
        if not exists(kept):
            with progress.step(f"making a Debian {SUITE} base image (1 to 3 minutes, once; log: {log})"):
                _make(kept, log)
        buildah("tag", kept, IMAGE)
    return kept


def mirror() -> str:
    """Where this machine's apt gets the suite from. Read at run time; it differs from machine to machine."""
    sites = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", f"Release: {SUITE}"]).split()
    if not sites:
        sites = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"]).split()
    if not sites:
        raise ClusterError(
            f"apt knows no mirror of Debian {SUITE}", advice="add one to the package sources, or start a Docker engine so that kind is used"
        )
    return sites[0]


def _make(image: str, log: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="debootstrap-", dir=cache_folder()) as scratch:
        root = Path(scratch) / "root"
        command: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, mirror()]
        # Mounts of its own: debootstrap mounts /proc and /sys below the new root and may leave them behind when interrupted.
        run(["unshare", "--mount", *command], log=log, timeout=1200, advice=f"see {log}")
        for name in PRUNED:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir(parents=True)
        container = buildah("from", "scratch").strip()
        try:
            buildah("copy", "--quiet", container, root, "/", log=log)
            buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--cmd", "python3", container)
            buildah("commit", "--quiet", container, image, log=log)
        finally:
            buildah("rm", container)
