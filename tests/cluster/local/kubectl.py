"""The real kubectl and helm against an instance."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from .commands import run
from .instance import Instance


def link_programs(instance: Instance, programs: Mapping[str, Path]) -> None:
    """Puts the instance's own kubectl and helm into its folder, where people's PATH may lead."""
    instance.programs.mkdir(parents=True, exist_ok=True)
    for name, path in programs.items():
        link = instance.programs / name
        link.unlink(missing_ok=True)
        link.symlink_to(path)


def kubectl(instance: Instance, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Kubectl's standard output. Raises ClusterError with its words when it refuses."""
    return run([instance.programs / "kubectl", f"--kubeconfig={instance.kubeconfig}", *arguments], stdin=stdin, timeout=timeout)


def helm(instance: Instance, *arguments: str, timeout: float = 600) -> str:
    """Helm's standard output, with its caches and settings in the instance's folder rather than the person's."""
    home = instance.state / "helm"
    places = {"HELM_CACHE_HOME": home / "cache", "HELM_CONFIG_HOME": home / "config", "HELM_DATA_HOME": home / "data"}
    environment = {**os.environ, "KUBECONFIG": str(instance.kubeconfig), **{name: str(path) for name, path in places.items()}}
    return run([instance.programs / "helm", *arguments], environment=environment, timeout=timeout)


def apply(instance: Instance, objects: list[dict[str, object]]) -> None:
    """Server-side apply of objects, in their order."""
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl(instance, "apply", "--server-side", "--force-conflicts", "--field-manager=taskfleet-local-cluster", "-f", "-", stdin=content)
