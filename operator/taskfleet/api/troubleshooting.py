"""The tables of the troubleshooting page: every reason and every metric, what it means and what to do.

The rest of `docs/troubleshooting.md` is written by hand; the tables stand between two comments, and are drift like any other generated file where they differ.
"""

from collections.abc import Iterable, Mapping

from taskfleet.api import remedies
from taskfleet.api.commented import commented
from taskfleet.api.conditions import Reason
from taskfleet.api.metrics import MetricDefinition, metric_definitions

PAGE = "docs/troubleshooting.md"


def with_tables(page: str) -> str:
    """The page with its tables as they should be. Raises ValueError where it lacks the place for one, or a text is missing."""
    for name, table in (("reasons", reasons_table(remedies.OF_REASONS)), ("metrics", metrics_table(remedies.OF_METRICS))):
        begin, end = (
            f"<!-- {name}: generated from operator/taskfleet by `make generate`; changes belong there -->",
            f"<!-- end of {name} -->",
        )
        before, found, rest = page.partition(f"<!-- {name}:")
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{PAGE} needs the lines {begin!r} and {end!r}, between which the table of {name} stands")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def reasons_table(advice: Mapping[Reason, str]) -> str:
    """Every reason in the order in which the code names them. Raises ValueError for one without advice."""
    _require({reason.value: advice.get(reason, "") for reason in Reason}, what="the reason", where="OF_REASONS")
    rows = [f"| `{value}` | {meaning} | {_cell(advice[Reason(value)])} |" for value, meaning in commented(Reason)]
    return "\n".join(["| reason | what it means | what to do |", "|---|---|---|", *rows])


def metrics_table(advice: Mapping[str, str], definitions: Iterable[MetricDefinition] | None = None) -> str:
    """Every metric by part and name. Raises ValueError for one without advice, and for advice about one that does not exist."""
    metrics = list(metric_definitions() if definitions is None else definitions)
    _require({metric.name: advice.get(metric.name, "") for metric in metrics}, what="the metric", where="OF_METRICS")
    if gone := sorted(advice.keys() - {metric.name for metric in metrics}):
        raise ValueError(f"no part exports {', '.join(gone)} any more: take it out of OF_METRICS in {_MODULE}")
    rows = [
        f"| {_named(metric)} | {metric.part} | {metric.type} | {_cell(metric.help)} | {_cell(advice[metric.name])} |" for metric in metrics
    ]
    return "\n".join(["| metric | of | type | what it is | what it shows, and what to do |", "|---|---|---|---|---|", *rows])


_MODULE = "operator/taskfleet/api/remedies.py"


def _require(texts: Mapping[str, str], *, what: str, where: str) -> None:
    if missing := sorted(name for name, text in texts.items() if not text):
        raise ValueError(f"{what} {', '.join(missing)} has no text in {where} of {_MODULE}: say there what whoever meets it should do")


def _named(metric: MetricDefinition) -> str:
    labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
    return f"`{metric.name}{labels}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
