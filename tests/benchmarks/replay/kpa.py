"""Knative's pod autoscaler with its defaults, scaling on concurrency.

By Knative's documentation (Serving, autoscaling: "KPA-specific configuration", "Concurrency", "Scale to zero") and its configuration's defaults: a look every 2 s; the mean over
60 s against 70 % of the target; from twice what the ready pods should have, over 6 s, on: panic, in which it only goes up, until 60 s after the last such moment; at most 1,000
times up and to a half down of the ready pods in one look; to zero after 60 s without a request and a grace period, which is taken here for its longest, 30 s.
"""

import math

from tests.benchmarks.replay.rules import Observation, Target, Window

STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
PANIC_THRESHOLD = 2.0
UTILIZATION = 0.7
MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0
GRACE_SECONDS = 30.0


class KnativePodAutoscaler:
    """Its state: two windows, the panic, and since when nothing is asked."""

    name = "Knative KPA"
    interval = 2.0
    wakes_after = 0.0

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stable, self._fast = Window(STABLE_SECONDS), Window(PANIC_SECONDS)
        self._panic_since: float | None = None
        self._panic_pods = 0
        self._zero_since: float | None = None

    def replicas(self, seen: Observation) -> int:
        busy = seen.demand.total.busy_seconds
        stable, fast = self._stable.mean(seen.now, busy), self._fast.mean(seen.now, busy)
        if seen.asked and not seen.replicas:
            stable = fast = max(stable, fast, float(seen.asked))
        ready = max(1, seen.ready)
        wanted_stable = clamped(stable, ready=ready, target=self._target.concurrency)
        wanted_fast = clamped(fast, ready=ready, target=self._target.concurrency)
        self._panic(fast, ready, seen.now)
        wanted = wanted_stable
        if self._panic_since is not None:
            self._panic_pods = max(self._panic_pods, wanted_stable, wanted_fast)
            wanted = self._panic_pods
        return self._after_grace(min(wanted, self._target.most), seen)

    def _panic(self, fast: float, ready: int, now: float) -> None:
        if math.ceil(fast / (UTILIZATION * self._target.concurrency)) / ready >= PANIC_THRESHOLD:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + STABLE_SECONDS < now:
            self._panic_since, self._panic_pods = None, 0

    def _after_grace(self, wanted: int, seen: Observation) -> int:
        """The last pod stays for the grace period."""
        if wanted or not seen.replicas:
            self._zero_since = None
            return wanted
        if self._zero_since is None:
            self._zero_since = seen.now
        return 0 if seen.now - self._zero_since >= GRACE_SECONDS else 1


def clamped(concurrency: float, *, ready: int, target: int) -> int:
    """Pods for this concurrency, within what one look may change."""
    wanted = math.ceil(concurrency / (UTILIZATION * target))
    return int(min(max(wanted, math.floor(ready / MAX_DOWN_RATE)), math.ceil(MAX_UP_RATE * ready)))
