"""What operator and gateways say of themselves at /metrics."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.cluster.api import POD, Api


class Writes:
    """The operator's own count of its writes, Leases aside, over all its replicas."""

    METRIC = re.compile(r"^taskfleet_kube_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
    READS = frozenset({"get", "list", "watch"})
    # Leases live; tokens and reviews write nothing.
    OTHERS = frozenset({"leases", "serviceaccounts/token", "tokenreviews", "subjectaccessreviews"})

    def __init__(self, metrics: "Iterable[MetricsSource]") -> None:
        self._sources = tuple(metrics)

    def count(self) -> float:
        total, lines = 0.0, 0
        for source in self._sources:
            for found in self.METRIC.finditer(source.text()):
                lines += 1
                labels = dict(re.findall(r'(\w+)="([^"]*)"', found["labels"]))
                if labels["verb"] not in self.READS and labels["resource"] not in self.OTHERS:
                    total += float(found["value"])
        assert lines, "the operator's metrics count no calls to the API server"
        return total


@dataclass(frozen=True, slots=True)
class MetricsSource:
    """A process's /metrics."""

    api: Api
    namespace: str
    pod: str
    port: int

    def text(self) -> str:
        # Through the API server's proxy: pods need not be in reach of the tests, and NetworkPolicies stay as they are.
        return self.api.request("GET", f"{POD.path(self.namespace, self.pod)}:{self.port}/proxy/metrics").decode()

    def value(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.text(), re.MULTILINE)
        assert found, f"{self.pod} has no metric {name}"
        return float(found[1])
