"""The simplest JSON value that a schema allows: what the simulator answers where a structured output is asked for."""

from typing import Any


def simplest(schema: Any) -> Any:
    """An instance of a JSON Schema, as far as tests go: types, required properties, enum, const, bounds from below, any of several, local references left out."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            return simplest(schema[choice][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    return _of_type(kind, schema)


def _of_type(kind: str, schema: dict[str, Any]) -> Any:
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: simplest(properties.get(name, {})) for name in schema.get("required", properties)}
    if kind == "array":
        return [simplest(schema.get("items", {})) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    return "x" * schema.get("minLength", 1)
