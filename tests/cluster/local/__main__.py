"""`python -m tests.cluster.local`: the local cluster from the command line."""

import argparse
import sys

from .failures import ClusterError
from .images import provide_images
from .instance import REPOSITORY, Instance, find
from .lifecycle import down, status, up
from .progress import Progress
from .registry import ADDRESS_IN_PODS, address_on_host


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
    instance = up(name, progress)
    progress.say(f"cluster `{name}` is ready")
    _describe(instance)
    return 0


def _down(name: str) -> int:
    if not down(name, Progress()):
        print(f"no cluster `{name}` was started from here", file=sys.stderr)
    return 0


def _images(name: str) -> int:
    instance = find(name)
    if instance is None:
        print(f"cluster `{name}` is not running", file=sys.stderr)
        return 3
    provide_images(instance, Progress())
    return 0


def _status(name: str) -> int:
    instance = find(name)
    if instance is None:
        print(f"cluster `{name}`: not started")
        return 3
    rows = status(instance)
    for row in rows:
        print(f"{row.name:26} {'running' if row.running else 'stopped':8} {row.pid or '':>8}  {row.log}")
    _describe(instance)
    return 0 if all(row.running for row in rows) else 3


def _describe(instance: Instance) -> None:
    folder = instance.state.relative_to(REPOSITORY)
    print(f"  kubeconfig  {folder}/kubeconfig      (export KUBECONFIG=$PWD/{folder}/kubeconfig PATH=$PWD/{folder}/bin:$PATH)")
    print(f"  API server  https://{instance.node_address}:6443")
    print(f"  registry    {address_on_host(instance)} from the machine, {ADDRESS_IN_PODS} from pods, plain HTTP")


if __name__ == "__main__":
    sys.exit(main())
