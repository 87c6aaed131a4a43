"""The metrics of all parts, read from the source in which they are defined: nothing here imports a part, and no list can lack what somebody adds.

A metric is a call of one of prometheus_client's classes with a name that begins with `taskfleet_`. Its name, help and labels must be written out there;
labels may be constants of the module.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PREFIX = "taskfleet_"

# Which part exports what is defined in which folder. The gateway counts its calls of the API server, too, but does not export them.
_PARTS = {"controller": "operator", "kube": "operator", "gateway": "gateway", "agent": "agent"}
# By the end of the class's name, whatever it is imported as.
_TYPES = {
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
    "HistogramMetricFamily": "histogram",
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """A metric as a scrape shows it. A histogram's series are its name with `_bucket`, `_sum` and `_count`."""

    name: str
    type: str
    part: str
    help: str
    labels: tuple[str, ...]


def metric_definitions(package: Path = PACKAGE) -> list[MetricDefinition]:
    """Every metric, by part and name. Raises ValueError where one can't be read, or two have one name."""
    found = [one for folder in _PARTS for path in sorted((package / folder).rglob("*.py")) for one in _in_module(path, _PARTS[folder])]
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two metrics are called {', '.join(twice)}: what a name means must not depend on who exports it")
    return sorted(found, key=lambda one: (list(_PARTS.values()).index(one.part), one.name))


def _in_module(path: Path, part: str) -> Iterator[MetricDefinition]:
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _is_name(node.args[0]):
            try:
                yield _definition(node, part, constants)
            except (ValueError, IndexError, KeyError) as error:
                raise ValueError(
                    f"{path.name}, line {node.lineno}: a metric's name, help and labels must be written out: {error}"
                ) from error


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(PREFIX)


def _definition(call: ast.Call, part: str, constants: dict[str, ast.expr]) -> MetricDefinition:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    kind = next((kind for ending, kind in _TYPES.items() if called.endswith(ending)), None)
    if kind is None:
        raise ValueError(f"{called} is none of prometheus_client's classes")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    name = _text(call.args[0])
    # As prometheus_client names its arguments.
    described = call.args[1] if len(call.args) > 1 else keywords["documentation"]
    positional = call.args[2] if len(call.args) > 2 and not called.endswith("Family") else None  # a family's third argument is its value
    labels = positional or keywords.get("labelnames", keywords.get("labels"))
    return MetricDefinition(
        name=f"{name.removesuffix('_total')}_total" if kind == "counter" else name,
        type=kind,
        part=part,
        help=_text(described),
        labels=tuple(_texts(labels, constants)) if labels is not None else (),
    )


def _text(node: ast.expr) -> str:
    return str(ast.literal_eval(node))


def _texts(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield from _texts(constants[node.id], constants)
    elif isinstance(node, ast.Starred):
        yield from _texts(node.value, constants)
    elif isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            yield from _texts(element, constants)
    else:
        yield _text(node)
