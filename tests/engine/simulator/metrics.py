"""The metrics of vLLM that anybody relies on, in its names and labels. `model_name` is always the base: there are none per adapter."""

from collections import Counter

BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)


class Histogram:
    """Seconds, counted into vLLM's buckets."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._sum = 0.0
        self._total = 0

    def observe(self, seconds: float) -> None:
        self._sum += seconds
        self._total += 1
        self._counts[next((bound for bound in BUCKETS if seconds <= bound), float("inf"))] += 1

    def lines(self, name: str, labels: str) -> list[str]:
        below, lines = 0, [f"# TYPE {name} histogram"]
        for bound in BUCKETS:
            below += self._counts[bound]
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {below}')
        return [
            *lines,
            f'{name}_bucket{{{labels},le="+Inf"}} {self._total}',
            f"{name}_sum{{{labels}}} {self._sum}",
            f"{name}_count{{{labels}}} {self._total}",
        ]


class Metrics:
    """Counters and histograms of one engine."""

    def __init__(self, model_name: str) -> None:
        self._labels = f'engine="0",model_name="{model_name}"'
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: Counter[str] = Counter()
        self.first_token = Histogram()
        self.whole = Histogram()
        self.queued = Histogram()

    def text(self, *, running: int, waiting: int) -> str:
        """The exposition in Prometheus' text format."""
        labels = self._labels
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} {running}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{{{labels}}} {waiting}",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc{{{labels}}} 0.0",
            "# TYPE vllm:prompt_tokens_total counter",
            f"vllm:prompt_tokens_total{{{labels}}} {self.prompt_tokens}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{{{labels}}} {self.generation_tokens}",
            "# TYPE vllm:request_success_total counter",
            *(
                f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {self.finished[reason]}'
                for reason in ("stop", "length", "abort")
            ),
            *self.first_token.lines("vllm:time_to_first_token_seconds", labels),
            *self.whole.lines("vllm:e2e_request_latency_seconds", labels),
            *self.queued.lines("vllm:request_queue_time_seconds", labels),
        ]
        return "\n".join(lines) + "\n"
