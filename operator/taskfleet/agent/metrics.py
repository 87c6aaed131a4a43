"""What the agent measures. Labels never hold names of tenants' things: per-task figures are the gateway's."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet.agent.board import Board
from taskfleet.api.agent import AdapterPhase


class _BoardCollector(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        state = self._board.state()
        yield GaugeMetricFamily("taskfleet_agent_requests_in_flight", "Requests that the engine is working on.", value=state.in_flight)
        yield GaugeMetricFamily(
            "taskfleet_agent_engine_healthy", "1 while the engine answers its health route.", value=state.engine.healthy
        )
        yield CounterMetricFamily(
            "taskfleet_agent_engine_starts", "Times that the engine was seen to become healthy.", value=state.engine.starts
        )
        phases = Counter(report.phase for report in state.adapters)
        adapters = GaugeMetricFamily("taskfleet_agent_adapters", "Adapters by phase.", labels=["phase"])
        for phase in AdapterPhase:
            adapters.add_metric([phase.value], phases[phase])
        yield adapters
        yield GaugeMetricFamily(
            "taskfleet_agent_adapters_loaded",
            "Adapters that requests may go to the engine for without waiting for a load.",
            value=len(self._board.loaded),
        )


class AgentMetrics:
    """One registry per agent, so that tests may have several in a process."""

    def __init__(self, board: Board) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_BoardCollector(board))
        self.requests = PrometheusCounter(
            "taskfleet_agent_requests", "Inference requests by the status code that was answered.", ["code"], registry=self._registry
        )
        self.stage_seconds = Histogram(
            "taskfleet_agent_adapter_stage_seconds",
            "Time to have an adapter fetched and verified.",
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300),
            registry=self._registry,
        )
        self.load_seconds = Histogram(
            "taskfleet_agent_adapter_load_seconds",
            "Time that the engine takes to load an adapter.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30),
            registry=self._registry,
        )
        self.demand_loads = PrometheusCounter(
            "taskfleet_agent_adapter_demand_loads",
            "Adapters that were loaded again because a request came for them.",
            registry=self._registry,
        )
        self.demand_wait_seconds = Histogram(
            "taskfleet_agent_adapter_demand_wait_seconds",
            "Time that requests waited for their adapter to be loaded again; those that did not have to are not counted.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
            registry=self._registry,
        )
        self.copied_bytes = PrometheusCounter(
            "taskfleet_agent_copied_bytes", "Bytes of artifacts that were given to other pods of the pool.", registry=self._registry
        )
        self.copies = PrometheusCounter(
            "taskfleet_agent_copies",
            "Artifacts for which the other pods of the pool were asked, by what came of it: copied, none (no pod has it), failed.",
            ["result"],
            registry=self._registry,
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
