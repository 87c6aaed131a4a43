"""Images built without a Docker engine: buildah with a storage of its own in the cache, and pushes to an instance's registry."""

import os
from collections.abc import Mapping
from pathlib import Path

from .cache import cache_folder
from .commands import run
from .instance import Instance
from .registry import address_on_host

LOCAL = "taskfleet.local"  # the registry part of the names of all our images; it exists nowhere but in local clusters


def buildah(*arguments: str | Path, log: Path | None = None, timeout: float = 1800, advice: str = "") -> str:
    storage = cache_folder() / "buildah"
    storage.mkdir(parents=True, exist_ok=True)
    # In mounts of its own, so that an interrupted build leaves none on the machine.
    command: list[str | Path] = [
        "unshare",
        "--mount",
        "buildah",
        "--root",
        storage / "storage",
        "--runroot",
        storage / "run",
        "--storage-driver",
        "overlay",
    ]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(_temporary(storage))}
    return run([*command, *arguments], log=log, environment=environment, timeout=timeout, advice=advice)


def exists(image: str) -> bool:
    """Whether the storage holds an image of exactly this name."""
    return bool(buildah("images", "--quiet", "--filter", f"reference={image}").strip())


def build(
    image: str,
    *,
    containerfile: Path,
    context: Path,
    log: Path,
    arguments: Mapping[str, str] | None = None,
    secrets: Mapping[str, Path] | None = None,
) -> None:
    """Builds with the layers of earlier builds as far as they still fit."""
    options: list[str | Path] = ["--layers", "--isolation", "chroot", "--format", "oci", "--tag", image, "--file", containerfile]
    for name, value in (arguments or {}).items():
        options += ["--build-arg", f"{name}={value}"]
    for name, path in (secrets or {}).items():
        options += ["--secret", f"id={name},src={path}"]
    buildah("build", *options, context, log=log, advice=f"see {log}")


def push(instance: Instance, image: str, log: Path) -> None:
    """Copies an image into the instance's registry, uncompressed: the way is short, and compressing would take most of the time."""
    target = f"docker://{address_on_host(instance)}/{image.removeprefix(f'{LOCAL}/')}"
    buildah("push", "--disable-compression", "--tls-verify=false", image, target, log=log, advice=f"see {log}")


def _temporary(storage: Path) -> Path:
    folder = storage / "tmp"
    folder.mkdir(exist_ok=True)
    return folder
