"""A moving average of requests in flight over 10 minutes, looked at every 10 s: the way of KubeAI.

By KubeAI's documentation ("Autoscaling", "Configure autoscaling") and its configuration's defaults: the average of 60 samples, which begin at 0, divided by the target and
rounded up; down only after `scaleDownDelaySeconds` (30) of looks in a row that ask for fewer; a request that finds no replica makes one at once.
"""

import math
from collections import deque

from tests.benchmarks.replay.rules import Observation, Target

SAMPLES = 60
INTERVAL_SECONDS = 10.0
DOWN_DELAY_SECONDS = 30.0


class MovingAverage:
    """Its state: the samples, and how often in a row they asked for fewer."""

    name = "moving average"
    interval = INTERVAL_SECONDS
    wakes_after = 0.0

    def __init__(self, target: Target) -> None:
        self._target = target
        self._samples: deque[int] = deque([0] * SAMPLES, SAMPLES)
        self._fewer = 0
        self._looked = -math.inf

    def replicas(self, seen: Observation) -> int:
        if seen.now - self._looked < INTERVAL_SECONDS:  # woken between two looks
            return max(1, seen.replicas)
        self._looked = seen.now
        self._samples.append(seen.asked)
        wanted = min(self._target.most, math.ceil(sum(self._samples) / SAMPLES / self._target.concurrency))
        if wanted >= seen.replicas:
            self._fewer = 0
            return wanted
        if self._fewer < math.ceil(DOWN_DELAY_SECONDS / INTERVAL_SECONDS):
            self._fewer += 1
            return seen.replicas
        return wanted
