"""`down` leaves the machine as it was: what is asked here is what people would find on their machine the next day."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.local.instance import CLAIMS, REPOSITORY, find, state_folder
from tests.cluster.local.kind import docker_answers
from tests.cluster.local.lifecycle import down, status, up
from tests.cluster.local.namespaces import COVERED
from tests.cluster.local.processes import all_records, start_time
from tests.cluster.local.progress import Progress
from tests.cluster.local.registry import registry_answers
from tests.lanes import cluster_of_lane

pytestmark = pytest.mark.skipif(docker_answers(), reason="a Docker engine answers: clusters are kind's here, not ours to take down")

NAME = "teardown"
SETTINGS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")


@dataclass(frozen=True)
class Machine:
    """Everything of the machine that a cluster could leave something in. Two snapshots are equal when nothing was left."""

    mounts: frozenset[str]
    devices: frozenset[str]
    routes: str
    tables: str
    cgroups: frozenset[str]
    settings: tuple[str, ...]
    folders: frozenset[str]
    claims: frozenset[str]


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def machine(number: int | None = None) -> Machine:
    """What there is now. Clusters of other checkouts and tests come and go meanwhile; only those with `number` count, and none where it is None."""

    def counts(match: re.Match[str] | None) -> bool:
        return match is None or int(match[1]) == number

    def lines(text: str, pattern: str) -> str:
        return "\n".join(line for line in text.splitlines() if counts(re.search(pattern, line)))

    watched = [Path(path) for path in (*COVERED, "/run/netns", "/run/containerd", "/var/log/pods", "/var/log/containers", "/etc/cni/net.d")]
    return Machine(
        mounts=frozenset(Path("/proc/mounts").read_text().splitlines()),
        devices=frozenset(name for name in names(Path("/sys/class/net")) if counts(re.fullmatch(r"tfleet(\d+)", name))),
        routes=lines(command("ip", "route", "show", "table", "all"), r"dev tfleet(\d+)"),
        tables=command("nft", "list", "tables"),
        # Directly below the root with version 2 of control groups, below each controller with version 1.
        cgroups=frozenset(
            str(path)
            for pattern in ("taskfleet-*", "*/taskfleet-*")
            for path in Path("/sys/fs/cgroup").glob(pattern)
            if counts(re.fullmatch(r"taskfleet-(\d+)", path.name))
        ),
        settings=tuple((Path("/proc/sys") / name).read_text() for name in SETTINGS),
        folders=frozenset(str(path) for path in watched if path.exists()) - {"/var/log"},
        claims=frozenset(name for name in names(CLAIMS) - {"lock"} if name == str(number)),
    )


def processes_of(state: Path) -> list[str]:
    """Command lines that name the instance's folder, and processes in namespaces that its first process made."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(state) in line:
            found.append(line)
    return found


@pytest.fixture(autouse=True)
def no_instance_before_and_after() -> None:
    down(NAME, Progress())


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """A test that fails leaves no cluster behind either."""
    yield
    down(NAME, Progress())


def test_nothing_remains_after_down_and_a_neighbour_is_not_disturbed() -> None:
    neighbour = find(cluster_of_lane())
    before = machine()
    instance = up(NAME, Progress())
    started = all_records(instance)
    namespace_of_first = (Path("/proc") / str(next(record.pid for record in started if record.name == "anchor")) / "ns" / "pid").readlink()
    assert all(row.running for row in status(instance))
    running = machine(instance.number)
    for what in ("devices", "routes", "cgroups", "claims"):
        assert getattr(running, what) != getattr(before, what), f"the snapshot looks past the {what} that a cluster leaves"
    assert processes_of(instance.state), "the search looks past the cluster's processes"

    down(NAME, Progress())

    assert machine(instance.number) == before
    assert not instance.state.exists()
    assert processes_of(instance.state) == []
    assert [record.name for record in started if start_time(record.pid) == record.started] == []
    assert [folder for folder in Path("/proc").glob("[0-9]*/ns/pid") if link(folder) == namespace_of_first] == []
    if neighbour is not None:
        assert all(row.running for row in status(neighbour))
        assert registry_answers(neighbour)


def link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except (FileNotFoundError, ProcessLookupError):
        return None


@pytest.mark.parametrize("event", ["namespaces-ready", "pki/ca.crt", "log/kube-apiserver.log", "log/kubelet.log"])
def test_nothing_remains_of_an_interrupted_start(event: str) -> None:
    before = machine()
    state = state_folder(NAME)
    # Tests that a shell runs in the background inherit that SIGINT is ignored, and would pass it on; a terminal's programs don't.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        starting = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.local", "up", "--name", NAME],
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, inherited)
    try:
        deadline = time.monotonic() + 120
        while not (state / event).exists():
            assert starting.poll() is None, "the start ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        # As a terminal does it: to the whole group.
        os.killpg(starting.pid, signal.SIGINT)
        _, errors = starting.communicate(timeout=60)
    finally:
        starting.kill()
        starting.wait()
    assert starting.returncode == 130
    assert "interrupted" in errors
    instance = find(NAME)
    assert instance is not None

    down(NAME, Progress())

    assert machine(instance.number) == before
    assert not state.exists()
    assert processes_of(state) == []
