"""A real control plane for tests that need no node: etcd, API server and controller-manager, started as processes within seconds.

An instance belongs to the process that started it, so that several test runs stand side by side; what an earlier run left behind when it was killed is removed first.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.local.binaries import ensure_programs, program_path
from tests.cluster.local.cache import cache_folder
from tests.cluster.local.control_plane import api_server_ready, start_api_server, start_controller_manager, start_etcd
from tests.cluster.local.debian import ensure_packages
from tests.cluster.local.instance import REPOSITORY, Instance, claim
from tests.cluster.local.kubectl import link_programs
from tests.cluster.local.lifecycle import down
from tests.cluster.local.namespaces import create
from tests.cluster.local.pki import write_pki
from tests.cluster.local.processes import start_time
from tests.cluster.local.progress import Progress
from tests.cluster.local.waiting import wait_until

PREFIX = "apiserver-"


@contextmanager
def control_plane(*, controllers: bool = True) -> Iterator[Instance]:
    """An instance without a node; gone afterwards. Without `controllers` nobody but the API server itself acts on objects."""
    progress = Progress()
    _remove_abandoned(progress)
    log = cache_folder() / "log" / "build.log"
    ensure_packages(progress, log)
    ensure_programs(progress, log)
    name = f"{PREFIX}{os.getpid()}"
    instance = claim(name)
    try:
        create(instance)
        write_pki(instance)
        link_programs(instance, {tool: program_path(tool) for tool in ("kubectl", "helm")})
        start_etcd(instance)
        start_api_server(instance)
        wait_until(api_server_ready(instance), "the API server is ready", seconds=120, advice=f"read {instance.logs}")
        if controllers:
            # Garbage collection, namespaces' end, default ServiceAccounts.
            start_controller_manager(instance)
        yield instance
    finally:
        down(name, progress)


def _remove_abandoned(progress: Progress) -> None:
    for folder in REPOSITORY.glob(f".cluster-{PREFIX}*"):
        owner = re.fullmatch(rf"\.cluster-{PREFIX}(\d+)", folder.name)
        if owner and start_time(int(owner[1])) is None:
            down(folder.name.removeprefix(".cluster-"), progress)
