"""The Debian packages that the cluster is made of, installed when they are missing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import run
from .failures import ClusterError
from .progress import Progress

# Package → a file by which it is known to be there.
PACKAGES = {
    "buildah": "/usr/bin/buildah",
    "conntrack": "/usr/sbin/conntrack",
    "containerd": "/usr/bin/containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "debootstrap": "/usr/sbin/debootstrap",
    "docker-registry": "/usr/bin/docker-registry",
    "etcd-server": "/usr/bin/etcd",
    "iproute2": "/usr/bin/ip",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "runc": "/usr/sbin/runc",
    "util-linux": "/usr/bin/nsenter",
}

NO_SERVICES = Path("/usr/sbin/policy-rc.d")


def ensure_packages(progress: Progress, log: Path) -> None:
    """Installs what is missing. Raises ClusterError where that needs rights or a package tool that aren't there."""
    missing = sorted(package for package, file in PACKAGES.items() if not Path(file).exists())
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"these programs are missing: {', '.join(missing)}", advice="install them, or start a Docker engine so that kind is used"
        )
    if os.geteuid() != 0:
        raise ClusterError(f"these Debian packages are missing: {', '.join(missing)}", advice=f"run as root: {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"installing Debian packages: {', '.join(missing)}"), _without_starting_services():
        run(["apt-get", "update"], log=log, environment=environment, advice="check this machine's package sources")
        run(
            ["apt-get", "install", "-y", "--no-install-recommends", *missing],
            log=log,
            environment=environment,
            advice=f"try by hand: {command}",
        )


@contextmanager
def _without_starting_services() -> Iterator[None]:
    # On a machine with systemd the packages would start an etcd, a containerd and a registry that nobody asked for.
    if NO_SERVICES.exists():
        yield
        return
    NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()
