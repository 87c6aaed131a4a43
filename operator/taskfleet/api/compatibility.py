"""What a CustomResourceDefinition would break for objects and people of an earlier one: stored objects that become invalid, fields that are lost, commands that find nothing.

A definition may only grow: more fields that may be left out, wider bounds, more values, columns and versions. Whatever this module does not know counts as a break.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from taskfleet.api.crd import INT_OR_STRING, PRESERVE, VALIDATIONS, Schema


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Break:
    """One difference that somebody would notice as a failure. `rule` is the CEL text where the difference is a rule that was not there before."""

    definition: str
    place: str
    what: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.definition}: {self.place}: {self.what}"


Finding = tuple[str, str, str]  # place, what, rule

_LOWER_BOUNDS = ("minimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "maxLength", "maxItems", "maxProperties")
_EXCLUSIVE = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
# Another value may mean other objects, another merge or another meaning; which one is wider can't be told.
_FIXED = (
    "type",
    "format",
    INT_OR_STRING,
    "anyOf",
    "nullable",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
_ONLY_TEXT = ("description", "title", "example", "externalDocs")
_KNOWN = frozenset(
    (
        *_FIXED,
        *_LOWER_BOUNDS,
        *_UPPER_BOUNDS,
        *_EXCLUSIVE.values(),
        *_ONLY_TEXT,
        "pattern",
        "enum",
        "default",
        "required",
        "properties",
        "items",
        "additionalProperties",
        PRESERVE,
        VALIDATIONS,
    )
)


def breaks(released: Schema, present: Schema) -> list[Break]:
    """What `present` breaks of `released`; both are CustomResourceDefinitions as Kubernetes JSON."""
    name = released["metadata"]["name"]
    found = [*_identity(released["spec"], present["spec"]), *_versions(released["spec"], present["spec"])]
    return sorted(Break(definition=name, place=place, what=what, rule=rule) for place, what, rule in found)


def _identity(old: Schema, new: Schema) -> Iterator[Finding]:
    for field in ("group", "scope", "conversion", "preserveUnknownFields"):
        if old.get(field) != new.get(field):
            yield field, f"changed from {old.get(field)} to {new.get(field)}", ""
    for field in ("kind", "listKind", "plural", "singular"):
        if old["names"].get(field) != new["names"].get(field):
            yield f"names.{field}", f"changed from {old['names'].get(field)} to {new['names'].get(field)}", ""
    for field in ("shortNames", "categories"):
        for gone in sorted(set(old["names"].get(field, ())) - set(new["names"].get(field, ()))):
            yield f"names.{field}", f"{gone} is gone", ""


def _versions(old: Schema, new: Schema) -> Iterator[Finding]:
    present = {version["name"]: version for version in new["versions"]}
    for version in old["versions"]:
        place = f"version {version['name']}"
        other = present.get(version["name"])
        if other is None:
            yield place, "is gone", ""
            continue
        if version["served"] and not other["served"]:
            yield place, "is not served any more", ""
        if version["storage"] != other["storage"]:
            yield place, "storage changed: stored objects would have to be migrated first", ""
        yield from ((place, what, "") for offer in (_columns, _selectors, _subresources) for what in offer(version, other))
        yield from schema_breaks(version["schema"]["openAPIV3Schema"], other["schema"]["openAPIV3Schema"], "")


def _columns(old: Schema, new: Schema) -> Iterator[str]:
    present = {column["name"]: column for column in new.get("additionalPrinterColumns", ())}
    for column in old.get("additionalPrinterColumns", ()):
        name, other = column["name"], present.get(column["name"])
        if other is None:
            yield f"printer column {name} is gone"
        elif any(column[field] != other[field] for field in ("type", "jsonPath")):
            yield f"printer column {name} shows something else"
        elif column.get("priority", 0) < other.get("priority", 0):
            yield f"printer column {name} is shown with `-o wide` only"


def _selectors(old: Schema, new: Schema) -> Iterator[str]:
    present = {field["jsonPath"] for field in new.get("selectableFields", ())}
    for field in old.get("selectableFields", ()):
        if field["jsonPath"] not in present:
            yield f"field selector {field['jsonPath']} is gone"


def _subresources(old: Schema, new: Schema) -> Iterator[str]:
    before, now = old.get("subresources", {}), new.get("subresources", {})
    for name, subresource in before.items():
        if name not in now:
            yield f"subresource {name} is gone"
        elif now[name] != subresource:
            yield f"subresource {name} changed"
    if "status" in now and "status" not in before:
        yield "subresource status is new: writers of the whole object can't write status any more"


def schema_breaks(old: Schema, new: Schema, place: str) -> Iterator[Finding]:
    """What one schema breaks of another, at any depth. `place` is the path of fields that leads there."""
    here = place or "the object"
    for check in _CHECKS:
        yield from ((here, what, rule) for what, rule in check(old, new))
    for name, part in old.get("properties", {}).items():
        path = f"{place}.{name}".removeprefix(".")
        if name in new.get("properties", {}):
            yield from schema_breaks(part, new["properties"][name], path)
        elif not new.get(PRESERVE):
            yield path, "the field is gone", ""
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            yield from schema_breaks(old[key], new[key], f"{place}[]")
        elif old.get(key) != new.get(key):
            yield here, f"{key} changed", ""


Difference = tuple[str, str]  # what, rule
Check = Callable[[Schema, Schema], Iterator[Difference]]


def _fixed_keyword(old: Schema, new: Schema) -> Iterator[Difference]:
    for key in _FIXED:
        # A wider maximum makes an integer longer.
        if old.get(key) != new.get(key) and (key, old.get(key), new.get(key)) != ("format", "int32", "int64"):
            yield f"{key} changed from {old.get(key)} to {new.get(key)}", ""


def _narrower_bound(old: Schema, new: Schema) -> Iterator[Difference]:
    for key in (*_LOWER_BOUNDS, *_UPPER_BOUNDS):
        before, now = old.get(key), new.get(key)
        lower = key in _LOWER_BOUNDS
        if now is None:
            continue
        if before is None:
            # Every text, list and map has at least nothing in it.
            if not (lower and key != "minimum" and now == 0):
                yield f"{key} {now} is new", ""
        elif (now > before) if lower else (now < before):
            yield f"{key} narrowed from {before} to {now}", ""
        elif now == before and key in _EXCLUSIVE and new.get(_EXCLUSIVE[key]) and not old.get(_EXCLUSIVE[key]):
            yield f"{key} {now} itself is excluded now", ""


def _other_pattern(old: Schema, new: Schema) -> Iterator[Difference]:
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"pattern changed from {old.get('pattern')} to {new['pattern']}", ""


def _fewer_values(old: Schema, new: Schema) -> Iterator[Difference]:
    if "enum" not in new:
        return
    if "enum" not in old:
        yield "enum is new", ""
    elif gone := [value for value in old["enum"] if value not in new["enum"]]:
        yield f"enum lost {', '.join(map(str, gone))}", ""


def _more_required(old: Schema, new: Schema) -> Iterator[Difference]:
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{name} is required now", ""


def _other_default(old: Schema, new: Schema) -> Iterator[Difference]:
    if not _default_grew(old.get("default"), new.get("default"), old, new):
        yield f"default changed from {old.get('default')} to {new.get('default')}", ""


def _default_grew(before: Any, now: Any, old: Schema, new: Schema) -> bool:
    """Whether a default is the same but for fields that did not exist before: an object's default names its fields' defaults, too."""
    if not isinstance(before, dict) or not isinstance(now, dict) or "properties" not in old:
        return bool(before == now)
    known, fields = old.get("properties", {}), new.get("properties", {})
    if before.keys() - now.keys():
        return False
    return all(
        _default_grew(before.get(name), value, known[name], fields.get(name, {}))
        if name in known
        else value == fields.get(name, {}).get("default")
        for name, value in now.items()
    )


def _unknown_fields_lost(old: Schema, new: Schema) -> Iterator[Difference]:
    if not old.get(PRESERVE):
        return
    if not new.get(PRESERVE):
        yield "unknown fields are dropped now", ""
    for name in sorted(new.get("properties", {}).keys() - old.get("properties", {}).keys()):
        yield f"{name} could be anything before, and has a schema now", ""


def _new_rule(old: Schema, new: Schema) -> Iterator[Difference]:
    before = {(rule["rule"], rule.get("optionalOldSelf")) for rule in old.get(VALIDATIONS, ())}
    for rule in new.get(VALIDATIONS, ()):
        if (rule["rule"], rule.get("optionalOldSelf")) not in before:
            yield f"a rule is new or changed: {rule['rule']}", rule["rule"]


def _unknown_keyword(old: Schema, new: Schema) -> Iterator[Difference]:
    for key in sorted((old.keys() | new.keys()) - _KNOWN):
        if old.get(key) != new.get(key):
            yield f"{key} changed, and it is not known what that breaks", ""


_CHECKS: tuple[Check, ...] = (
    _fixed_keyword,  # another kind of value, or another way to merge
    _narrower_bound,  # stored values may lie outside
    _other_pattern,  # stored values may not match
    _fewer_values,  # stored values may be gone
    _more_required,  # manifests without it are refused
    _other_default,  # objects that don't say it change their meaning
    _unknown_fields_lost,  # what was kept is dropped on the next write
    _new_rule,  # what was accepted may be refused; whether it is, a person must say
    _unknown_keyword,  # this module is to be taught about it
)
