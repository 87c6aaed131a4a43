"""Each way in which a CustomResourceDefinition can break what an earlier one allowed is found, and growth is not taken for a break."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from taskfleet.api.compatibility import breaks
from taskfleet.api.crd import Schema

Edit = Callable[[Schema], object]


def released() -> Schema:
    """A definition with one of everything."""
    spec: Schema = {
        "type": "object",
        "required": ["source"],
        "properties": {
            "source": {"type": "string", "maxLength": 10, "minLength": 2, "pattern": "^a"},
            "strategy": {"type": "string", "enum": ["Canary", "Immediate"], "default": "Canary"},
            "replicas": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 5},
            "total": {"type": "integer", "format": "int64", "minimum": 0},
            "ratio": {"type": "number", "minimum": 0, "maximum": 1},
            "names": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 4}, "x-kubernetes-list-type": "atomic"},
            "conditions": {
                "type": "array",
                "maxItems": 3,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "maxLength": 9}}},
            },
            "labels": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "string", "maxLength": 6}},
            "limits": {"type": "object", "additionalProperties": {"type": "string"}, "default": {"memory": "1Gi"}},
            "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "affinity": {"type": "object", "maxProperties": 3, "x-kubernetes-preserve-unknown-fields": True},
            "scaling": {
                "type": "object",
                "default": {"minReplicas": 1},
                "properties": {"minReplicas": {"type": "integer", "minimum": 0, "default": 1}},
                "x-kubernetes-validations": [{"rule": "self.minReplicas < 9", "message": "at most 9"}],
            },
        },
    }
    version: Schema = {
        "name": "v1",
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [{"name": "READY", "type": "string", "jsonPath": ".status.ready"}],
        "selectableFields": [{"jsonPath": ".spec.source"}],
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas"}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    return {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things", "singular": "thing", "shortNames": ["th"], "categories": ["all-things"]},
            "versions": [version],
        },
    }


def spec_of(definition: Schema) -> Schema:
    properties: Schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return properties["spec"]  # type: ignore[no-any-return]


def found(edit: Edit) -> list[str]:
    present = deepcopy(released())
    edit(present)
    return [f"{one.place}: {one.what}" for one in breaks(released(), present)]


def field(path: str, **changes: Any) -> Edit:
    """Sets keywords of the schema of a field of spec; None removes one."""

    def edit(definition: Schema) -> None:
        schema = spec_of(definition)
        for name in filter(None, path.split(".")):
            schema = schema[name] if name in {"items", "additionalProperties"} else schema["properties"][name]
        for key, value in changes.items():
            keyword = key.replace("__", "-")
            if value is None:
                del schema[keyword]
            else:
                schema[keyword] = value

    return edit


def version(**changes: Any) -> Edit:
    return lambda definition: definition["spec"]["versions"][0].update(changes)


def names(**changes: Any) -> Edit:
    return lambda definition: definition["spec"]["names"].update(changes)


def new_field(schema: Schema, *, required: bool = False) -> Edit:
    def edit(definition: Schema) -> None:
        spec_of(definition)["properties"]["added"] = schema
        if required:
            spec_of(definition)["required"].append("added")

    return edit


def without_field(definition: Schema) -> None:
    del spec_of(definition)["properties"]["ratio"]


def grown_default(definition: Schema) -> None:
    scaling = spec_of(definition)["properties"]["scaling"]
    scaling["properties"]["idleSeconds"] = {"type": "integer", "default": 300}
    scaling["default"] = {"minReplicas": 1, "idleSeconds": 300}


def false_default(definition: Schema) -> None:
    grown_default(definition)
    spec_of(definition)["properties"]["scaling"]["default"]["idleSeconds"] = 5


RULE = [{"rule": "self.minReplicas < 9", "message": "at most 9"}, {"rule": "self.minReplicas > 2", "message": "more than 2"}]

BREAKS: dict[str, tuple[Edit, str]] = {
    "new required field": (new_field({"type": "string"}, required=True), "spec: added is required now"),
    "field becomes required": (field("", required=["source", "ratio"]), "spec: ratio is required now"),
    "required inside a list": (field("conditions.items", required=["type", "reason"]), "spec.conditions[]: reason is required now"),
    "field removed": (without_field, "spec.ratio: the field is gone"),
    "field retyped": (field("ratio", type="string"), "spec.ratio: type changed from number to string"),
    "integer shortened": (field("total", format="int32"), "spec.total: format changed from int64 to int32"),
    "quantity no longer a number": (
        field("size", x__kubernetes__int__or__string=None),
        "spec.size: x-kubernetes-int-or-string changed",
    ),
    "minimum raised": (field("replicas", minimum=2), "spec.replicas: minimum narrowed from 1 to 2"),
    "maximum lowered": (field("replicas", maximum=4), "spec.replicas: maximum narrowed from 5 to 4"),
    "bound itself excluded": (field("ratio", exclusiveMinimum=True), "spec.ratio: minimum 0 itself is excluded now"),
    "longer text required": (field("source", minLength=3), "spec.source: minLength narrowed from 2 to 3"),
    "shorter text required": (field("source", maxLength=9), "spec.source: maxLength narrowed from 10 to 9"),
    "first length bound": (field("strategy", maxLength=63), "spec.strategy: maxLength 63 is new"),
    "first lower bound": (field("names", minItems=1), "spec.names: minItems 1 is new"),
    "shorter list": (field("names", maxItems=2), "spec.names: maxItems narrowed from 3 to 2"),
    "shorter items": (field("names.items", maxLength=3), "spec.names[]: maxLength narrowed from 4 to 3"),
    "smaller map": (field("labels", maxProperties=2), "spec.labels: maxProperties narrowed from 3 to 2"),
    "shorter values of a map": (field("labels.additionalProperties", maxLength=5), "spec.labels[]: maxLength narrowed from 6 to 5"),
    "map becomes closed": (field("labels", additionalProperties=None), "spec.labels: additionalProperties changed"),
    "pattern changed": (field("source", pattern="^ab"), "spec.source: pattern changed from ^a to ^ab"),
    "first pattern": (field("strategy", pattern="^C"), "spec.strategy: pattern changed from None to ^C"),
    "value removed": (field("strategy", enum=["Canary"]), "spec.strategy: enum lost Immediate"),
    "first enum": (field("source", enum=["a"]), "spec.source: enum is new"),
    "default changed": (field("strategy", default="Immediate"), "spec.strategy: default changed from Canary to Immediate"),
    "default removed": (field("strategy", default=None), "spec.strategy: default changed from Canary to None"),
    "first default": (field("replicas", default=1), "spec.replicas: default changed from None to 1"),
    "object's default changed": (field("scaling", default={"minReplicas": 2}), "spec.scaling: default changed"),
    "default of a map grows": (field("limits", default={"memory": "1Gi", "cpu": "1"}), "spec.limits: default changed"),
    "object's default lost a field": (field("scaling", default={}), "spec.scaling: default changed"),
    "object's default contradicts the new field's": (false_default, "spec.scaling: default changed"),
    "rule added": (
        field("scaling", x__kubernetes__validations=RULE),
        "spec.scaling: a rule is new or changed: self.minReplicas > 2",
    ),
    "rule changed": (
        field("scaling", x__kubernetes__validations=[{"rule": "self.minReplicas < 8", "message": "at most 9"}]),
        "spec.scaling: a rule is new or changed: self.minReplicas < 8",
    ),
    "rule asked on creation, too": (
        field("scaling", x__kubernetes__validations=[{**RULE[0], "optionalOldSelf": True}]),
        "spec.scaling: a rule is new or changed: self.minReplicas < 9",
    ),
    "unknown fields dropped": (
        field("affinity", x__kubernetes__preserve__unknown__fields=None),
        "spec.affinity: unknown fields are dropped now",
    ),
    "what was anything gets a schema": (
        field("affinity", properties={"nodeAffinity": {"type": "string"}}),
        "spec.affinity: nodeAffinity could be anything before, and has a schema now",
    ),
    "list merged another way": (field("names", x__kubernetes__list__type="set"), "spec.names: x-kubernetes-list-type changed"),
    "list keyed another way": (
        field("conditions", x__kubernetes__list__map__keys=["type", "reason"]),
        "spec.conditions: x-kubernetes-list-map-keys changed",
    ),
    "keyword that nobody thought of": (field("source", multipleOf=2), "spec.source: multipleOf changed, and it is not known"),
    "version gone": (version(name="v2"), "version v1: is gone"),
    "version not served": (version(served=False), "version v1: is not served any more"),
    "stored as another version": (version(storage=False), "version v1: storage changed"),
    "column gone": (version(additionalPrinterColumns=[]), "version v1: printer column READY is gone"),
    "column shows something else": (
        version(additionalPrinterColumns=[{"name": "READY", "type": "string", "jsonPath": ".status.other"}]),
        "version v1: printer column READY shows something else",
    ),
    "column hidden": (
        version(additionalPrinterColumns=[{"name": "READY", "type": "string", "jsonPath": ".status.ready", "priority": 1}]),
        "version v1: printer column READY is shown with `-o wide` only",
    ),
    "field selector gone": (version(selectableFields=[]), "version v1: field selector .spec.source is gone"),
    "subresource gone": (version(subresources={"status": {}}), "version v1: subresource scale is gone"),
    "subresource changed": (
        version(subresources={"status": {}, "scale": {"specReplicasPath": ".spec.pods"}}),
        "version v1: subresource scale changed",
    ),
    "short name gone": (names(shortNames=["thing"]), "names.shortNames: th is gone"),
    "category gone": (names(categories=[]), "names.categories: all-things is gone"),
    "another kind": (names(kind="Item"), "names.kind: changed from Thing to Item"),
    "another scope": (lambda definition: definition["spec"].update(scope="Cluster"), "scope: changed from Namespaced to Cluster"),
}

GROWTH: dict[str, Edit] = {
    "nothing": lambda _: None,
    "new optional field": new_field({"type": "string", "maxLength": 3, "pattern": "^x", "default": "x"}),
    "new object with a required field": new_field({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}),
    "object's default grows with a new field": grown_default,
    "wider bounds": field("replicas", minimum=0, maximum=9),
    "longer integer": field("replicas", maximum=2**40, format="int64"),
    "bound removed": field("source", maxLength=None),
    "lower bound that everything meets": field("names", minItems=0),
    "pattern removed": field("source", pattern=None),
    "more values": field("strategy", enum=["Canary", "Immediate", "Shadow"]),
    "enum removed": field("strategy", enum=None),
    "less required": field("", required=[]),
    "rule removed": field("scaling", x__kubernetes__validations=[]),
    "rule's message changed": field("scaling", x__kubernetes__validations=[{"rule": "self.minReplicas < 9", "message": "fewer than 9"}]),
    "another description": field("source", description="Where it comes from."),
    "another version": lambda definition: definition["spec"]["versions"].append(
        {**deepcopy(definition["spec"]["versions"][0]), "name": "v2", "storage": False}
    ),
    "more short names": names(shortNames=["th", "thg"]),
}


@pytest.mark.parametrize(("edit", "expected"), BREAKS.values(), ids=BREAKS)
def test_a_break_is_found_and_named(edit: Edit, expected: str) -> None:
    assert [one for one in found(edit) if one.startswith(expected)], found(edit)


@pytest.mark.parametrize("edit", GROWTH.values(), ids=GROWTH)
def test_growth_is_no_break(edit: Edit) -> None:
    assert found(edit) == []


def test_a_new_rule_carries_its_text_so_that_it_can_be_accepted_by_name() -> None:
    present = deepcopy(released())
    field("scaling", x__kubernetes__validations=RULE)(present)
    (one,) = breaks(released(), present)
    assert (one.definition, one.place, one.rule) == ("things.example.com", "spec.scaling", "self.minReplicas > 2")


def test_a_loosened_keyword_may_stand_beside_a_break() -> None:
    assert len(found(field("source", maxLength=9, minLength=1, pattern="^b"))) == 2
