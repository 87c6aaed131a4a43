"""Processes that outlive the command that starts them, recorded so that exactly those are ended.

A record is the process's number together with its start time (clock ticks since boot, `/proc/PID/stat` field 22): numbers are used again.
"""

import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .failures import ClusterError
from .instance import Instance


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of an instance."""

    name: str
    pid: int
    started: int


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which a process began, or None where there is no such process (or only its remains)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in {"Z", "X"} else int(fields[19])


def _stat(pid: int) -> list[str] | None:
    """What the kernel says of a process, from its state on."""
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may hold anything.
    return stat.rpartition(")")[2].split()


def alive(record: ProcessRecord) -> bool:
    return start_time(record.pid) == record.started


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`."""
    try:
        return [int(child) for child in (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def records_folder(instance: Instance) -> Path:
    return instance.state / "processes"


def read_record(instance: Instance, name: str) -> ProcessRecord | None:
    file = records_folder(instance) / f"{name}.json"
    return ProcessRecord(**json.loads(file.read_text())) if file.is_file() else None


def all_records(instance: Instance) -> list[ProcessRecord]:
    folder = records_folder(instance)
    if not folder.is_dir():
        return []
    return [ProcessRecord(**json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))]


def write_record(instance: Instance, name: str, pid: int) -> ProcessRecord:
    record = ProcessRecord(name=name, pid=pid, started=start_time(pid) or 0)
    file = records_folder(instance) / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(record)))
    draft.rename(file)
    return record


def forget(instance: Instance, name: str) -> None:
    (records_folder(instance) / f"{name}.json").unlink(missing_ok=True)


def start_outside(instance: Instance, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> ProcessRecord:
    """Starts a process of the machine (not inside the instance's namespaces), detached from the terminal."""
    instance.logs.mkdir(parents=True, exist_ok=True)
    log = os.open(instance.logs / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    # An interrupt between start and record would leave a process that nobody knows of.
    interrupts = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupts)
    try:
        # Not subprocess.Popen: it complains about a process that outlives its object, which is the purpose here.
        pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(os.environ if environment is None else environment),
            file_actions=[(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
            setsigmask=(),
        )
        return write_record(instance, name, pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(log)
        os.close(nothing)


def stop(instance: Instance, name: str, *, grace: float = 10) -> None:
    """Ends a recorded process: asked first, killed after `grace` seconds. Does nothing where it is gone already."""
    record = read_record(instance, name)
    if record is None:
        return
    if alive(record):
        os.kill(record.pid, signal.SIGTERM)
        if not _gone_within(record, grace):
            os.kill(record.pid, signal.SIGKILL)
            if not _gone_within(record, 30):
                raise ClusterError(f"{name} (process {record.pid}) was killed and does not end")
    _collect(record.pid)
    forget(instance, name)


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # Started by an earlier command: its parent is the machine's first process.
        return


def _gone_within(record: ProcessRecord, seconds: float) -> bool:
    """Whether the process is gone with all its threads.

    A killed process counts as a zombie when its first thread has ended. Others may still be ending, and hold its ports until then: only the descriptor tells of the last one.
    """
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        # The number may have gone to another process before the descriptor was opened.
        fields = _stat(record.pid)
        if fields is None or int(fields[19]) != record.started:
            return True
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
