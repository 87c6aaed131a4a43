"""Makes the engine of one pod slow, as a noisy neighbour or a throttled GPU would: its processes are stopped most of the time."""

from tests.cluster.local.cluster import Cluster

STOPPED_SECONDS = 0.4
RUNNING_SECONDS = 0.1
# It ends by itself, and leaves the engine running, also when nobody is there any more.
ROUNDS = 600

# Run inside the engine's container, where the first process can't be stopped; those that compute are its children.
_HOLD_UP = f"""
import os, signal, sys, time
from pathlib import Path
def parent(pid):
    try:
        return int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
engine = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == 1]
if not engine:
    sys.exit("the engine has no process that computes")
if os.fork():
    os._exit(0)
os.setsid()
for descriptor in range(3):
    os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
for _ in range({ROUNDS}):
    for what, seconds in ((signal.SIGSTOP, {STOPPED_SECONDS}), (signal.SIGCONT, {RUNNING_SECONDS})):
        for pid in engine:
            os.kill(pid, what)
        time.sleep(seconds)
"""


def hold_up(cluster: Cluster, pod: str, namespace: str) -> None:
    """Holds the engine up for the next minutes, or until its pod goes. Raises ClusterError where that can't be done."""
    cluster.kubectl("exec", "-n", namespace, pod, "-c", "engine", "--", "python3", "-c", _HOLD_UP)
