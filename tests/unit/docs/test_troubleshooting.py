"""The tables of the troubleshooting page: nothing that people can meet is missing, and nothing stands there that they can't."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeGuard

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.registry import Collector

import taskfleet.kube.metrics  # noqa: F401  its figures are in the default registry
from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.api import remedies
from taskfleet.api.conditions import Reason
from taskfleet.api.metrics import MetricDefinition, metric_definitions
from taskfleet.api.troubleshooting import PAGE, metrics_table, reasons_table, with_tables
from taskfleet.controller.metrics import FleetCollector
from taskfleet.gateway.meter import Meter

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERIES = ("_bucket", "_sum", "_count")


def exported(collectors: Iterable[Collector], part: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(part, name, type, labels) of what collectors export."""
    for collector in collectors:
        for metric in collector.collect():
            if metric.name.startswith("taskfleet_"):
                labels: Iterable[str] = getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ())
                name = f"{metric.name}_total" if metric.type == "counter" else metric.name
                yield part, name, metric.type, tuple(labels)


def collectors_of(registry: CollectorRegistry) -> set[Collector]:
    return set(registry._collector_to_names)


def test_the_list_of_metrics_is_what_the_parts_really_export() -> None:
    agent_metrics = AgentMetrics(Board("pod-a", Flights()))
    gateway = CollectorRegistry()
    Meter(gateway)
    operator = collectors_of(REGISTRY) | {
        FleetCollector(depths=dict, kinds=("pool",), conditions=dict, shares=dict, scores=dict, pools=list, device_seconds=list)
    }
    found = {
        *exported(operator, "operator"),
        *exported(collectors_of(gateway), "gateway"),
        *exported(collectors_of(agent_metrics._registry), "agent"),
    }
    assert {(one.part, one.name, one.type, one.labels) for one in metric_definitions()} == found


def package(folder: Path, source: str) -> Path:
    for part in ("controller", "kube", "gateway", "agent"):
        (folder / part).mkdir()
    (folder / "agent" / "figures.py").write_text(source)
    return folder


def test_a_metric_is_read_as_it_is_written(tmp_path: Path) -> None:
    source = 'BY = ("a", "b")\nONE = PrometheusCounter("taskfleet_agent_one", "One.", (*BY, "code"), registry=registry)\n'
    assert metric_definitions(package(tmp_path, source)) == [
        MetricDefinition(name="taskfleet_agent_one_total", type="counter", part="agent", help="One.", labels=("a", "b", "code"))
    ]


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        ('Gauge("taskfleet_a", HELP)', "line 1: a metric's name, help and labels must be written out"),
        ('Gauge("taskfleet_a", "A.", labels())', "must be written out"),
        ('Summary("taskfleet_a", "A.")', "none of prometheus_client's classes"),
        ('Gauge("taskfleet_a", "A.")\nGauge("taskfleet_a", "B.")', "two metrics are called taskfleet_a"),
    ],
)
def test_a_metric_that_cannot_be_listed_is_refused(tmp_path: Path, source: str, trouble: str) -> None:
    with pytest.raises(ValueError, match=re.escape(trouble)):
        metric_definitions(package(tmp_path, source))


def test_every_reason_needs_a_text() -> None:
    with pytest.raises(ValueError, match=r"the reason EngineCrashing has no text in OF_REASONS of operator/taskfleet/api/remedies\.py"):
        reasons_table({reason: "Do it." for reason in Reason if reason is not Reason.ENGINE_CRASHING})


def test_every_metric_needs_a_text_and_every_text_a_metric() -> None:
    metric = MetricDefinition(name="taskfleet_new", type="gauge", part="agent", help="New | old.", labels=("kind",))
    with pytest.raises(ValueError, match="the metric taskfleet_new has no text in OF_METRICS"):
        metrics_table({}, [metric])
    with pytest.raises(ValueError, match="no part exports taskfleet_old any more"):
        metrics_table({"taskfleet_new": "Look.", "taskfleet_old": "Look."}, [metric])
    assert "| `taskfleet_new{kind}` | agent | gauge | New \\| old. | Look. |" in metrics_table({"taskfleet_new": "Look."}, [metric])


def test_the_page_needs_places_for_its_tables() -> None:
    with pytest.raises(ValueError, match="between which the table of reasons stands"):
        with_tables("# Troubleshooting\n")


def test_texts_tell_more_than_that_there_is_nothing_to_do() -> None:
    fine = {"Valid", "MemberOfPool", "Proven", "Serving", "UpToDate"}
    assert {reason.value for reason, text in remedies.OF_REASONS.items() if text == "Nothing."} == fine


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    names = {one.name for one in metric_definitions()}
    named = set(re.findall(r"\btaskfleet_[a-z_]*[a-z]\b(?!\*|_)", page.read_text()))
    unknown = {name for name in named if name not in names and not any(name == f"{one}{end}" for one in names for end in SERIES)}
    assert not {name for name in unknown if not any(one.startswith(f"{name}_") for one in names)}


def test_the_page_speaks_of_every_reason_once_in_its_table() -> None:
    _, _, table = (ROOT / PAGE).read_text().partition("\n## Reasons\n")
    for reason in Reason:
        assert table.count(f"\n| `{reason.value}` | ") == 1, reason


def error_codes() -> set[str]:
    """Every value of `error.code` that the gateway can answer with, from its source."""
    codes: set[str] = set()
    for path in (ROOT / "operator/taskfleet/gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                codes.add(str(node.value.value))
            elif isinstance(node, ast.ClassDef):
                codes |= {str(one.value.value) for one in node.body if _names_code(one) and isinstance(one.value, ast.Constant)}
    return codes


def _names_code(node: ast.stmt) -> TypeGuard[ast.Assign | ast.AnnAssign]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == "code" for target in targets)


def test_the_page_explains_every_error_that_a_client_can_get() -> None:
    _, _, section = (ROOT / PAGE).read_text().partition("\n## Requests get an error\n")
    section, _, _ = section.partition("\n## ")
    assert {"model_not_found", "queue_full", "upstream_failed"} <= error_codes()
    missing = sorted(code for code in error_codes() if f"`{code}`" not in section)
    assert not missing, f"'Requests get an error' in {PAGE} has no row for {missing}: say what it means to a client and what to do"
