"""Watches pods as they start, and counts how long each took, once.

What is remembered is lost with the process: pods that became Ready while no leader looked are not counted, and none is counted twice.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskfleet.api.modelpool import ModelPool, StartStatus
from taskfleet.controller import metrics
from taskfleet.controller.keys import PoolKey
from taskfleet.logs import fields
from taskfleet.planning.scaling.coldstart import StartWatch, latest
from taskfleet.planning.snapshot import AgentView, PodView

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pool:
    watch: StartWatch = field(default_factory=StartWatch)
    last: StartStatus | None = None


class ColdStarts:
    """Of all pools."""

    def __init__(self) -> None:
        self._pools: dict[PoolKey, _Pool] = {}

    def look(self, pool: ModelPool, pods: Sequence[PodView], agents: Sequence[AgentView]) -> StartStatus | None:
        """The last start of the pool that was watched, after one more look."""
        known = self._pools.setdefault(PoolKey(pool.metadata.namespace, pool.metadata.name), _Pool())
        known.watch, starts = known.watch.looked(pods, agents)
        for start in starts:
            log.info("pod has started", extra=fields(pool=pool.metadata.key, pod=start.pod, seconds=start.seconds, slowest=start.slowest))
            metrics.COLD_START_SECONDS.labels(pool.spec.serving_class_name).observe(float(start.seconds))
            for part in start.phases:
                metrics.COLD_START_PHASE_SECONDS.labels(pool.spec.serving_class_name, part.phase).observe(float(part.seconds))
        known.last = latest([*([known.last] if known.last is not None else []), *starts])
        return known.last

    def forget(self, key: PoolKey) -> None:
        """The pool is gone."""
        self._pools.pop(key, None)
