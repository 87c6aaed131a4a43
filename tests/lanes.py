"""Lanes: the workers among which pytest-xdist divides a tier's files. Each has a cluster of its own, since tests install, kill and cut off what they share it with."""

import os


def cluster_of_lane() -> str:
    """The instance that this process's tests use: TASKFLEET_TEST_CLUSTER, `test` by default, with the lane's name where there are several."""
    name, lane = os.environ.get("TASKFLEET_TEST_CLUSTER") or "test", os.environ.get("PYTEST_XDIST_WORKER")
    return f"{name}-{lane}" if lane else name


def clusters_of_lanes(name: str, lanes: int) -> list[str]:
    """The instances that tests in so many lanes may have started, and the one of tests without lanes."""
    return [name, *(f"{name}-gw{lane}" for lane in range(lanes))]
