"""The chart's alerts: expressions that Prometheus can read, over metrics and labels that exist, each with its paragraph in the runbook."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from taskfleet.api.conditions import ConditionType
from taskfleet.api.metrics import MetricDefinition, metric_definitions

ROOT = Path(__file__).parents[3]
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((ROOT / "charts/taskfleet/files/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
ENDINGS = ("_bucket", "_sum", "_count")
by_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def known() -> dict[str, MetricDefinition]:
    """Every series by its name."""
    series: dict[str, MetricDefinition] = {}
    for metric in metric_definitions():
        names = [f"{metric.name}{ending}" for ending in ENDINGS] if metric.type == "histogram" else [metric.name]
        series |= dict.fromkeys(names, metric)
    return series


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(series, label → value or pattern) of an expression."""
    for name, matchers in re.findall(r"\b(taskfleet_\w+)(?:\{([^}]*)\})?", expression):
        yield name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))


@by_alert
def test_the_expression_is_promql(alert: dict[str, Any]) -> None:
    promql_parser.parse(alert["expr"])
    promql_parser.parse_duration(alert["for"])


@by_alert
def test_the_expression_asks_for_what_is_exported(alert: dict[str, Any]) -> None:
    found = list(selectors(alert["expr"]))
    assert found
    for name, labels in found:
        assert name in known(), name
        assert set(labels) <= set(known()[name].labels), name
        if "condition" in labels:
            assert labels["condition"] in set(ConditionType)


@by_alert
def test_the_words_name_labels_that_the_expression_leaves(alert: dict[str, Any]) -> None:
    kept = {label.strip() for part in re.findall(r"\bby \(([^)]*)\)", alert["expr"]) for label in part.split(",")}
    words = " ".join(alert["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= kept
    assert alert["annotations"].keys() == {"summary", "description"}
    assert alert["labels"]["severity"] in {"warning", "critical"}


def test_each_alert_has_its_paragraph_in_the_runbook_and_each_paragraph_its_alert() -> None:
    _, _, section = (ROOT / "docs/troubleshooting.md").read_text().partition("\n## Alerts\n")
    section, _, _ = section.partition("\n## ")
    paragraphs = re.findall(r"^### (\w+)\n\n\S", section, re.MULTILINE)
    assert paragraphs == [alert["alert"] for alert in ALERTS]


def test_the_check_of_expressions_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum by (kind (taskfleet_leader)")
