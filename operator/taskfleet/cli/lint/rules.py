"""The CEL rules of the definitions, evaluated as the API server does when an object is created."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import cel

from taskfleet.api.crd import VALIDATIONS, Schema
from taskfleet.cli.lint.manifests import Path
from taskfleet.cli.lint.structure import Fault
from taskfleet.planning import quantities


def violations(value: Any, schema: Schema, path: Path = ()) -> Iterator[Fault]:
    """Every rule that an object with all its defaults breaks. The object fits the schema. Rules about changes have nothing to say here."""
    for rule in schema.get(VALIDATIONS, ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], _typed(value, schema)):
            yield path, rule["message"]
    if isinstance(value, dict):
        for name, part in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if known:
                yield from violations(part, known, (*path, name))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from violations(item, schema["items"], (*path, index))


def _holds(rule: str, value: Any) -> bool:
    context = cel.Context()
    context.add_variable("self", value)
    for name, function in _FUNCTIONS.items():
        context.add_function(name, function)
    return bool(_program(rule).execute(context))


@lru_cache(maxsize=256)
def _program(rule: str) -> cel.Program:
    return cel.compile(rule)


def _typed(value: Any, schema: Schema) -> Any:
    """JSON knows one kind of numbers, CEL two; the schema says which is meant."""
    if isinstance(value, dict):
        properties, values = schema.get("properties", {}), schema.get("additionalProperties", {})
        return {name: _typed(part, properties.get(name, values)) for name, part in value.items()}
    if isinstance(value, list):
        return [_typed(item, schema.get("items", {})) for item in value]
    if schema.get("type") == "number":
        return float(value)
    return int(value) if schema.get("type") == "integer" else value


def _compare(one: str, other: str) -> int:
    left, right = quantities.parse(one), quantities.parse(other)
    return (left > right) - (left < right)


def _hours(moment: datetime, zone: str) -> int:
    """CEL's own, which this evaluator lacks. Where the API server fails on an unknown zone, this one answers what no rule takes."""
    try:
        return moment.astimezone(ZoneInfo(zone)).hour
    except (ValueError, LookupError, OSError):
        return -1


# What Kubernetes adds to CEL, as far as rules use it. A quantity is kept as its text.
_FUNCTIONS: dict[str, Callable[..., object]] = {
    "isSorted": lambda items: list(items) == sorted(items),
    "quantity": str,
    "compareTo": _compare,
    "getHours": _hours,
}
