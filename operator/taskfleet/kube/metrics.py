"""Figures of the calls to the API server, in the process's default registry."""

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "taskfleet_kube_requests",
    "Calls to the API server by verb, resource and HTTP status; 0 where there was no answer.",
    ["verb", "resource", "code"],
)
SECONDS = Histogram(
    "taskfleet_kube_request_seconds",
    "Time of calls to the API server, without watches, in seconds.",
    ["verb"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
THROTTLED = Histogram(
    "taskfleet_kube_throttled_seconds",
    "Time that calls waited for this process's own rate limit, in seconds.",
    buckets=(0.01, 0.1, 0.5, 1, 5, 20),
)
