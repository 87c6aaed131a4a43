"""No rule at all: as many replicas as the busiest minute needs, always."""

from tests.benchmarks.replay.rules import Observation


class Static:
    """A fixed number of replicas."""

    name = "static at peak"
    interval = 3600.0
    wakes_after = None

    def __init__(self, count: int) -> None:
        self._count = count

    def replicas(self, seen: Observation) -> int:  # noqa: ARG002  every rule sees it
        return self._count
