"""Which way a local cluster is made on this machine: kind where a Docker engine answers, processes elsewhere."""

from .cluster import Cluster
from .instance import find
from .kind import KindCluster, docker_answers, down_kind, find_kind, up_kind
from .lifecycle import down, up
from .progress import Progress


def provide(name: str, progress: Progress) -> Cluster:
    """The running cluster of this name; started, or completed, where needed. What an instance was begun with stays its way until `end`."""
    if find_kind(name) or (find(name) is None and docker_answers()):
        return up_kind(name, progress)
    return Cluster(up(name, progress))


def attach(name: str) -> Cluster | None:
    """The cluster of this name as it was started, or None. Nothing is started."""
    if instance := find_kind(name):
        return KindCluster(instance)
    instance = find(name)
    return Cluster(instance) if instance else None


def end(name: str, progress: Progress) -> bool:
    """Removes the cluster of this name with all that it left. Says whether there was one."""
    if instance := find_kind(name):
        down_kind(instance, progress)
        return True
    return down(name, progress)
