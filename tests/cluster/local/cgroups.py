"""The control groups of an instance: one tree of its own below each controller, so that pods of several instances never meet."""

import time
from pathlib import Path

from .failures import ClusterError
from .instance import Instance

ROOT = Path("/sys/fs/cgroup")
UNIFIED_CONTROLLERS = "+cpu +cpuset +memory +pids +io +hugetlb"


def create_cgroups(instance: Instance) -> None:
    """The kubelet wants its root group to exist with all controllers."""
    if _is_unified():
        wanted = set(UNIFIED_CONTROLLERS.replace("+", "").split())
        available = wanted & set((ROOT / "cgroup.controllers").read_text().split())
        switch = " ".join(f"+{controller}" for controller in sorted(available))
        (ROOT / "cgroup.subtree_control").write_text(switch)
        (ROOT / instance.cgroup).mkdir(exist_ok=True)
        (ROOT / instance.cgroup / "cgroup.subtree_control").write_text(switch)
        return
    for folder in _hierarchies():
        group = folder / instance.cgroup
        group.mkdir(exist_ok=True)
        # A new cpuset is empty, and nothing may run in an empty one.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((folder / name).read_text())


def remove_cgroups(instance: Instance) -> None:
    """Removes the instance's groups, which the kernel allows once their last process is gone. Raises ClusterError when it doesn't."""
    deadline = time.monotonic() + 20
    while left := [group for group in groups_of(instance) if not _remove_tree(group)]:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"control groups are still in use: {', '.join(map(str, left))}", advice="see which processes their cgroup.procs name"
            )
        time.sleep(0.2)


def groups_of(instance: Instance) -> list[Path]:
    folders = [ROOT] if _is_unified() else _hierarchies()
    return [folder / instance.cgroup for folder in folders if (folder / instance.cgroup).is_dir()]


def _is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    # Links such as cpuacct → cpu,cpuacct lead to the same hierarchy twice.
    return [
        folder for folder in sorted(ROOT.iterdir()) if folder.is_dir() and not folder.is_symlink() and (folder / "cgroup.procs").exists()
    ]


def _remove_tree(group: Path) -> bool:
    folders = [folder for folder in group.rglob("*") if folder.is_dir()]
    try:
        for folder in [*sorted(folders, key=lambda path: len(path.parts), reverse=True), group]:
            folder.rmdir()
    except FileNotFoundError:
        return not group.exists()
    except OSError:
        # EBUSY: a process of a killed pod has not left yet.
        return False
    return True
