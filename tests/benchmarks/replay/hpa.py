"""The HorizontalPodAutoscaler, autoscaling/v2, with its defaults and the pods' requests in flight as its metric.

By Kubernetes' documentation (Horizontal Pod Autoscaling: "Algorithm details", "Default behavior"): a look every 15 s; replicas times the ratio of the mean to the target,
rounded up; nothing within 10 % of it; pods that aren't ready count as having no load when it goes up and not at all when it goes down; going up by 4 pods or to twice as many in
15 s, whichever is more; going down to the highest recommendation of 5 minutes. It never goes below 1, since it can't see what is held for a pool without pods.
"""

import math
from collections import deque

from tests.benchmarks.replay.rules import Observation, Target

TOLERANCE = 0.1
EPSILON = 1e-9
STABILIZATION_SECONDS = 300.0
UP_PODS = 4
UP_FACTOR = 2
LEAST = 1


class HorizontalPodAutoscaler:
    """Its state is the recommendations of the last five minutes."""

    name = "HPA v2"
    interval = 15.0
    wakes_after = None

    def __init__(self, target: Target) -> None:
        self._target = target
        self._recommended: deque[tuple[float, int]] = deque()

    def replicas(self, seen: Observation) -> int:
        if not self._recommended:
            self._recommended.append((seen.now, seen.replicas))
        wanted = recommendation(
            in_flight=seen.demand.total.in_flight,
            target=self._target.concurrency,
            replicas=seen.replicas,
            ready=seen.ready,
            starting=seen.starting,
        )
        self._recommended.append((seen.now, wanted))
        while self._recommended[0][0] <= seen.now - STABILIZATION_SECONDS:
            self._recommended.popleft()
        if wanted < seen.replicas:
            # The highest of the window, but not above what there is: a look back is no reason to go up.
            wanted = min(seen.replicas, max(count for _, count in self._recommended))
        fastest = max(seen.replicas + UP_PODS, seen.replicas * UP_FACTOR)
        return max(LEAST, min(wanted, fastest, self._target.most))


def recommendation(*, in_flight: int, target: int, replicas: int, ready: int, starting: int) -> int:
    """What the metric alone asks for."""
    if not ready:
        return replicas
    ratio = in_flight / ready / target
    pods = ready
    if ratio > 1 and starting:
        pods = ready + starting
        ratio = in_flight / pods / target
        if ratio < 1:  # with the pods that start, it would go the other way
            return replicas
    if abs(ratio - 1) <= TOLERANCE + EPSILON:
        return replicas
    return math.ceil(ratio * pods)
