"""The API reference page, made from the CustomResourceDefinitions and the list of conditions, so that it can't say anything else than they do."""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from taskfleet.api.commented import commented
from taskfleet.api.conditions import ConditionType
from taskfleet.api.crd import DEFINITIONS, INT_OR_STRING, PRESERVE, VALIDATIONS, Definition, Schema, root_schema
from taskfleet.names import API_VERSION

_INTRODUCTION = f"""<!-- Generated from operator/taskfleet/api by `make generate`; changes belong there. -->
# API reference: `{API_VERSION}`

`kubectl explain` tells the same. **Bold** fields are required where the object that holds them is given. Lists whose items have a key are merged by it under server-side apply;
other lists are replaced as a whole.
"""


# PyYAML ends a document that is a single word with it.
_END_OF_SCALAR = "\n...\n"


@dataclass(frozen=True, slots=True)
class _Field:
    path: str
    schema: Schema
    required: bool


def reference_page() -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, *(_object_section(definition) for definition in DEFINITIONS), _conditions_section()]
    return "\n".join(parts)


def _object_section(definition: Definition) -> str:
    schema = root_schema(definition)
    scope = "cluster-scoped" if definition.scope == "Cluster" else "namespaced"
    lines = [
        f"## {definition.kind}",
        "",
        f"{schema['description']}",
        "",
        f"`{definition.plural}`, short name `{definition.short_name}`, {scope}.",
    ]
    if definition.selectable:
        fields = ", ".join(f"`{path.removeprefix('.')}`" for path in definition.selectable)
        lines += ["", f"Field selectors: {fields}."]
    for part in ("spec", "status"):
        lines += ["", f"### {definition.kind} {part}", "", schema["properties"][part]["description"], ""]
        lines += ["| field | type | default | what |", "|---|---|---|---|"]
        lines += [_row(field) for field in _fields(schema["properties"][part], part)]
    rules = list(_rules(schema, ""))
    lines += ["", f"### {definition.kind} rules", "", *(f"- {place}: {message}." for place, message in rules), ""]
    return "\n".join(lines)


def _fields(schema: Schema, path: str) -> Iterator[_Field]:
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield _Field(here, part, name in schema.get("required", []))
        yield from _fields(part, here)
        if "items" in part:
            yield from _fields(part["items"], f"{here}[]")


def _rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get(VALIDATIONS, []):
        # Rules about the keys of maps stand with their fields' bounds.
        if not rule["message"].startswith("keys must match"):
            yield f"`{path}`" if path else "the object", rule["message"]
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}".removeprefix(".")
        yield from _rules(part, here)
        if "items" in part:
            yield from _rules(part["items"], f"{here}[]")


def _row(field: _Field) -> str:
    name = f"**`{field.path}`**" if field.required else f"`{field.path}`"
    shown = _default(field.schema)
    bounds = _bounds(field.schema)
    text = field.schema.get("description", "").replace("|", "\\|").replace("\n", " ")
    return f"| {name} | {_type(field.schema)} | {shown} | {text}{f' {bounds}' if bounds else ''} |"


def _default(schema: Schema) -> str:
    default = schema.get("default")
    if default is None:
        return ""
    if isinstance(default, dict):
        parts = schema.get("properties", {})
        # Its fields' own rows tell them.
        default = {name: value for name, value in default.items() if parts.get(name, {}).get("default") != value}
        if not default:
            return ""
    return f"`{yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix(_END_OF_SCALAR).strip()}`"


def _type(schema: Schema) -> str:
    if schema.get(INT_OR_STRING):
        return "quantity"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if schema.get(PRESERVE):
        return "object of the pod API"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    return str(schema["type"])


def _bounds(schema: Schema) -> str:
    parts = []
    if "minimum" in schema:
        parts.append(f"{'more than' if schema.get('exclusiveMinimum') else 'at least'} {schema['minimum']}")
    if "maximum" in schema:
        parts.append(f"at most {schema['maximum']}")
    sizes = {"maxLength": "characters", "maxItems": "items", "maxProperties": "entries"}
    parts += [f"at most {schema[key]} {unit}" for key, unit in sizes.items() if key in schema and INT_OR_STRING not in schema]
    return f"({', '.join(parts)})" if parts else ""


def _conditions_section() -> str:
    lines = ["## Conditions", "", "| condition | what it is about |", "|---|---|"]
    lines += [f"| `{value}` | {comment} |" for value, comment in commented(ConditionType)]
    lines += [
        "",
        "Reasons are stable: alert on them. [Troubleshooting](../troubleshooting.md#reasons) says of each what it means and what to do.",
    ]
    return "\n".join([*lines, ""])
