"""Holds an object against a structural schema, as the API server does: types, bounds, required and unknown fields. Also fills in the defaults, which rules count on."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from taskfleet.api.crd import INT_OR_STRING, PRESERVE, Schema
from taskfleet.cli.lint.manifests import Path

Fault = tuple[Path, str]

_LIST_TYPE, _LIST_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"


def with_defaults(value: Any, schema: Schema) -> Any:
    """The value with the schema's defaults where fields are missing; what fits no schema stays as it is."""
    if isinstance(value, dict) and "properties" in schema:
        filled = dict(value)
        for name, part in schema["properties"].items():
            if filled.get(name) is None and "default" in part:
                filled[name] = part["default"]
            if name in filled:
                filled[name] = with_defaults(filled[name], part)
        return filled
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        return {name: with_defaults(part, schema["additionalProperties"]) for name, part in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(part, schema["items"]) for part in value]
    return value


def faults(value: Any, schema: Schema, path: Path = ()) -> Iterator[Fault]:
    """Every field that the schema refuses, with the reason."""
    wanted = "integer or string" if schema.get(INT_OR_STRING) else schema["type"]
    if not _TYPES[wanted](value):
        yield path, f"must be of type {wanted}, not {_type_of(value)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"unsupported value {value!r}: one of {', '.join(map(str, schema['enum']))}"
    yield from ((path, message) for bound in _BOUNDS if (message := bound(value, schema)))
    if isinstance(value, dict) and not schema.get(PRESERVE):
        yield from _of_object(value, schema, path)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, schema["items"], (*path, index))
        yield from _duplicates(value, schema, path)


def _of_object(value: dict[str, Any], schema: Schema, path: Path) -> Iterator[Fault]:
    for name in schema.get("required", ()):
        if value.get(name) is None:
            yield (*path, name), "required value is missing"
    values = schema.get("additionalProperties")
    for name, part in value.items():
        known = schema.get("properties", {}).get(name, values)
        if known is None:
            if "properties" in schema:
                yield (*path, name), "field not declared in schema"
        elif part is not None:
            yield from faults(part, known, (*path, name))
        elif name not in schema.get("required", ()):
            yield (*path, name), "must not be null"


def _duplicates(items: list[Any], schema: Schema, path: Path) -> Iterator[Fault]:
    if schema.get(_LIST_TYPE) != "map":
        return
    seen: set[tuple[str, ...]] = set()
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        key = tuple(repr(item.get(name)) for name in schema[_LIST_KEYS])
        if key in seen:
            yield (*path, index), f"duplicate value: {', '.join(key)}"
        seen.add(key)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "integer or string": lambda value: isinstance(value, str) or _is_integer(value),
}


def _type_of(value: Any) -> str:
    return next((name for name, fits in _TYPES.items() if fits(value)), "null")


def _pattern(value: Any, schema: Schema) -> str | None:
    if not isinstance(value, str) or "pattern" not in schema or _compiled(schema["pattern"]).search(value):
        return None
    return f"must match {schema['pattern']}"


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    # In Go `$` is the very end; in Python it may also stand before a last line break.
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern)


def _least(value: Any, schema: Schema) -> str | None:
    if not _is_number(value) or "minimum" not in schema:
        return None
    if schema.get("exclusiveMinimum"):
        return None if value > schema["minimum"] else f"must be greater than {schema['minimum']}"
    return None if value >= schema["minimum"] else f"must be at least {schema['minimum']}"


def _most(value: Any, schema: Schema) -> str | None:
    return f"must be at most {schema['maximum']}" if _is_number(value) and value > schema.get("maximum", value) else None


def _size(value: Any, schema: Schema) -> str | None:
    for kind, least, most, what in _SIZES:
        if isinstance(value, kind):
            if len(value) < schema.get(least, 0):
                return f"must have at least {schema[least]} {what}"
            if len(value) > schema.get(most, len(value)):
                return f"must have at most {schema[most]} {what}"
    return None


_SIZES = (
    (str, "minLength", "maxLength", "characters"),
    (list, "minItems", "maxItems", "items"),
    (dict, "minProperties", "maxProperties", "entries"),
)
_BOUNDS = (_pattern, _least, _most, _size)
