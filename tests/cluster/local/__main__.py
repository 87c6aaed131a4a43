"""`python -m tests.cluster.local`: the local cluster from the command line."""

import argparse
import sys

from .backends import attach, end, provide
from .cluster import Cluster
from .failures import ClusterError
from .instance import REPOSITORY
from .lifecycle import status
from .progress import Progress


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "images"])
    parser.add_argument("--name", default="dev", help="which of several clusters side by side (default: dev)")
    chosen = parser.parse_args(arguments)
    try:
        return {"up": _up, "down": _down, "status": _status, "images": _images}[chosen.command](chosen.name)
    except ClusterError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; `python -m tests.cluster.local down --name {chosen.name}` removes what was started", file=sys.stderr)
        return 130


def _up(name: str) -> int:
    progress = Progress()
    cluster = provide(name, progress)
    progress.say(f"cluster `{name}` is ready")
    _describe(cluster)
    return 0


def _down(name: str) -> int:
    if not end(name, Progress()):
        print(f"no cluster `{name}` was started from here", file=sys.stderr)
    return 0


def _images(name: str) -> int:
    cluster = attach(name)
    if cluster is None:
        print(f"cluster `{name}` is not running", file=sys.stderr)
        return 3
    cluster.provide_images()
    return 0


def _status(name: str) -> int:
    cluster = attach(name)
    if cluster is None:
        print(f"cluster `{name}`: not started")
        return 3
    rows = status(cluster.instance) if type(cluster) is Cluster else []
    for row in rows:
        print(f"{row.name:26} {'running' if row.running else 'stopped':8} {row.pid or '':>8}  {row.log}")
    _describe(cluster)
    return 0 if all(row.running for row in rows) else 3


def _describe(cluster: Cluster) -> None:
    folder = cluster.instance.state.relative_to(REPOSITORY)
    print(f"  kubeconfig  {folder}/kubeconfig      (export KUBECONFIG=$PWD/{folder}/kubeconfig PATH=$PWD/{folder}/bin:$PATH)")
    print(f"  registry    {cluster.registry_on_host} from the machine, {cluster.registry_in_pods} from pods, plain HTTP")


if __name__ == "__main__":
    sys.exit(main())
