"""The operator's figures, in the process's default registry; those of API calls stand in `kube.metrics`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector

from taskfleet.controller.devicetime import DeviceSeconds

RECONCILE_SECONDS = Histogram(
    "taskfleet_reconcile_seconds",
    "Time of one reconciliation by kind of key and result (done, retry, error), in seconds.",
    ["kind", "result"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
LEADER = Gauge("taskfleet_leader", "1 where this replica is the leader.")
LEADER_CHANGES = Counter("taskfleet_leader_changes", "Times that this replica became the leader.")
EVENTS = Counter("taskfleet_events", "Kubernetes Events written, by type and reason.", ["type", "reason"])
EVENTS_DROPPED = Counter("taskfleet_events_dropped", "Kubernetes Events that the API server did not take.")
APPLIES = Counter("taskfleet_applies", "Server-side applies by kind and whether they were sent or skipped as equal.", ["kind", "result"])
CACHED_OBJECTS = Gauge("taskfleet_cached_objects", "Objects in the cache by kind.", ["kind"])
RELIST_CORRECTIONS = Counter(
    "taskfleet_relist_corrections", "Objects that a comparison with the API server found missed by the watch.", ["kind"]
)
AGENT_CALLS = Counter("taskfleet_agent_calls", "Calls to agents by route and HTTP status; 0 where there was no answer.", ["route", "code"])
MEASURED_GATEWAYS = Gauge("taskfleet_measured_gateways", "Replicas of the gateway whose measurements this operator reads now.")
ROLLOUTS = Counter("taskfleet_rollouts", "Rollouts that have ended: Promoted, or the reason why the revision was rejected.", ["outcome"])
ROLLOUT_SECONDS = Histogram(
    "taskfleet_rollout_seconds",
    "From the beginning of a rollout to its end by outcome, in seconds.",
    ["outcome"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800),
)
ROLLBACK_SECONDS = Histogram(
    "taskfleet_rollback_seconds",
    "From the verdict on a candidate with traffic until the API server has its end, in seconds.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
COLD_START_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 1800)
COLD_START_SECONDS = Histogram(
    "taskfleet_cold_start_seconds",
    "From a pool pod's creation until it was Ready by ServingClass, in seconds; each pod once.",
    ["serving_class"],
    buckets=COLD_START_BUCKETS,
)
COLD_START_PHASE_SECONDS = Histogram(
    "taskfleet_cold_start_phase_seconds",
    "The parts of that by phase (Schedule, Pull, Base, Engine, Adapters, Ready), in seconds.",
    ["serving_class", "phase"],
    buckets=COLD_START_BUCKETS,
)

POOL_REQUESTS = Gauge(
    "taskfleet_pool_requests",
    "Requests for a ModelPool's tasks at a time, waiting ones included: mean over some seconds, as the leader hears it from all gateways.",
    ["namespace", "pool"],
)
WAKE_UPS = Counter("taskfleet_pool_wakeups", "Times that a ModelPool was woken from zero.", ["namespace", "pool"])

ConditionCounts = Mapping[tuple[str, str, str], int]  # (kind, condition, status) → objects
RevisionFigures = Mapping[tuple[str, str, str], float]  # (namespace, TaskModel, revision) → percent
_POOL = ("namespace", "pool")
_REVISION = ("namespace", "task_model", "revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """The size of one ModelPool. `reason`: why it is wanted so; empty while nobody has said."""

    namespace: str
    pool: str
    desired: int
    ready: int
    reason: str


def forget_pool(namespace: str, pool: str) -> None:
    """The pool is gone, and so are its figures."""
    for metric in (WAKE_UPS, POOL_REQUESTS):
        with suppress(KeyError):
            metric.remove(namespace, pool)


class FleetCollector(Collector):
    """Figures that are counted when somebody asks."""

    def __init__(
        self,
        *,
        depths: Callable[[], Mapping[str, int]],
        kinds: Iterable[str],
        conditions: Callable[[], ConditionCounts],
        shares: Callable[[], RevisionFigures],
        scores: Callable[[], RevisionFigures],
        pools: Callable[[], Iterable[PoolFigures]],
        device_seconds: Callable[[], Iterable[DeviceSeconds]],
    ) -> None:
        self._depths = depths
        self._kinds = tuple(kinds)
        self._conditions = conditions
        self._shares = shares
        self._scores = scores
        self._pools = pools
        self._device_seconds = device_seconds

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        depth = GaugeMetricFamily("taskfleet_queue_depth", "Keys that are due or in work, by kind.", labels=["kind"])
        now = self._depths()
        for kind in self._kinds:
            depth.add_metric([kind], now.get(kind, 0))
        yield depth
        objects = GaugeMetricFamily(
            "taskfleet_objects", "Objects by kind, condition and the condition's status.", labels=["kind", "condition", "status"]
        )
        for labels, count in self._conditions().items():
            objects.add_metric(list(labels), count)
        yield objects
        share = GaugeMetricFamily(
            "taskfleet_rollout_share_percent", "Share of a TaskModel's conversations by revision while two have one.", labels=_REVISION
        )
        for labels, percent in self._shares().items():
            share.add_metric(list(labels), percent)
        yield share
        score = GaugeMetricFamily("taskfleet_gate_score_percent", "Score on the golden set, by revision.", labels=_REVISION)
        for labels, percent in self._scores().items():
            score.add_metric(list(labels), percent)
        yield score
        yield from self._sizes()
        held = CounterMetricFamily(
            "taskfleet_device_seconds",
            "Seconds that pods of a ModelPool held devices, by the TaskModel that they worked for; pods of a class without accelerator count as one.",
            labels=[*_POOL, "task_model"],
        )
        for found in self._device_seconds():
            held.add_metric([found.namespace, found.pool, found.task_model], found.seconds)
        yield held

    def _sizes(self) -> Iterator[GaugeMetricFamily]:
        desired = GaugeMetricFamily("taskfleet_pool_replicas_desired", "Pods that a ModelPool is to have.", labels=_POOL)
        ready = GaugeMetricFamily("taskfleet_pool_replicas_actual", "Pods of a ModelPool that are Ready.", labels=_POOL)
        reason = GaugeMetricFamily(
            "taskfleet_pool_scaling_info", "1 for the reason why a ModelPool is to have so many pods.", labels=[*_POOL, "reason"]
        )
        for found in self._pools():
            desired.add_metric([found.namespace, found.pool], found.desired)
            ready.add_metric([found.namespace, found.pool], found.ready)
            if found.reason:
                reason.add_metric([found.namespace, found.pool, found.reason], 1)
        yield from (desired, ready, reason)

    def register(self) -> None:
        REGISTRY.register(self)

    def unregister(self) -> None:
        REGISTRY.unregister(self)
