"""CustomResourceDefinitions made from the pydantic models: structural OpenAPI v3 schemas as apiextensions.k8s.io/v1 wants them.

Pydantic writes JSON Schema 2020-12: references, `null` alternatives, patterns of property names. A structural schema has none of these, so each is written in
the form that Kubernetes has for it. Nothing is said here about single fields: what a field needs stands at the field.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import BaseModel

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from taskfleet.names import GROUP, POOL_NAME_LENGTH, TASK_MODEL_NAME_LENGTH, VERSION

Schema: TypeAlias = dict[str, Any]

VALIDATIONS = "x-kubernetes-validations"
INT_OR_STRING = "x-kubernetes-int-or-string"
PRESERVE = "x-kubernetes-preserve-unknown-fields"

# JSON Schema keywords that mean the same in a structural schema.
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "pattern",
    PRESERVE,
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. Wide ones are shown with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    description: str = ""

    def to_json(self) -> dict[str, Any]:
        described = {"description": self.description} if self.description else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, **described, **({"priority": 1} if self.wide else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the model of an object does not say about its CustomResourceDefinition."""

    model: type[BaseModel]
    plural: str
    short_name: str
    scope: str
    columns: tuple[Column, ...]
    rules: tuple[tuple[str, str], ...] = ()
    selectable: tuple[str, ...] = ()
    subresources: dict[str, Any] = field(default_factory=lambda: {"status": {}})

    @property
    def kind(self) -> str:
        return self.model.__name__

    @property
    def name(self) -> str:
        return f"{self.plural}.{GROUP}"


def _name_rule(kind: str, longest: int) -> tuple[str, str]:
    return (
        f"self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= {longest}",
        f"name of a {kind} must be a DNS label of at most {longest} characters",
    )


_READY = Column("READY", '.status.conditions[?(@.type=="Ready")].status', description="Whether it works.")
_REASON = Column("REASON", '.status.conditions[?(@.type=="Ready")].reason', description="Why it does, or does not.")
_MESSAGE = Column("MESSAGE", '.status.conditions[?(@.type=="Ready")].message', wide=True, description="The same as a sentence.")
_AGE = Column("AGE", ".metadata.creationTimestamp", "date")

DEFINITIONS = (
    Definition(
        model=TaskModel,
        plural="taskmodels",
        short_name="tm",
        scope="Namespaced",
        columns=(
            _READY,
            _REASON,
            Column("BASE", ".status.base", description="The base model."),
            Column("VERSION", ".spec.adapter.version", description="Version of the adapter that is asked for."),
            Column("POOL", ".status.traffic[0].pool", description="The ModelPool that serves it."),
            _AGE,
            Column("CLASS", ".status.servingClassName", wide=True, description="The ServingClass in use."),
            Column("REVISION", ".status.stable.revision", wide=True, description="The TaskModelRevision that answers."),
            _MESSAGE,
        ),
        rules=(_name_rule("TaskModel", TASK_MODEL_NAME_LENGTH),),
        selectable=(".spec.servingClassName",),
    ),
    Definition(
        model=TaskModelRevision,
        plural="taskmodelrevisions",
        short_name="tmr",
        scope="Namespaced",
        columns=(
            Column("TASKMODEL", ".spec.taskModelName", description="The TaskModel that it is a version of."),
            Column("VERSION", ".spec.adapter.version", description="Version of the adapter."),
            Column("PHASE", ".status.phase", description="Its place in the roll-out."),
            _READY,
            _REASON,
            _AGE,
            Column("DIGEST", ".status.digest", wide=True, description="The bytes of the adapter."),
            _MESSAGE,
        ),
        rules=(_name_rule("TaskModelRevision", 63),),
        selectable=(".spec.taskModelName",),
    ),
    Definition(
        model=ModelPool,
        plural="modelpools",
        short_name="mp",
        scope="Namespaced",
        columns=(
            _READY,
            _REASON,
            Column("CLASS", ".spec.servingClassName", description="The ServingClass."),
            Column("REPLICAS", ".spec.replicas", "integer", description="Pods that are wanted."),
            Column("AVAILABLE", ".status.readyReplicas", "integer", description="Pods that are Ready."),
            _AGE,
            Column("BASE", ".spec.base.source", wide=True, description="Source of the base model."),
            Column("BASEREVISION", ".spec.base.revision", wide=True, description="Revision of the base model."),
            Column("LASTSTART", ".status.lastStart.seconds", wide=True, description="Seconds that the last pod took to be Ready."),
            _MESSAGE,
        ),
        rules=(_name_rule("ModelPool", POOL_NAME_LENGTH),),
        selectable=(".spec.servingClassName",),
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    ),
    Definition(
        model=ServingClass,
        plural="servingclasses",
        # Not `sc`: that is StorageClass.
        short_name="tsc",
        scope="Cluster",
        columns=(
            _READY,
            _REASON,
            Column("ENGINE", ".spec.engine.type", description="The inference engine."),
            Column("ACCELERATOR", ".spec.accelerator.resourceName", description="The device that each pod gets."),
            Column("COUNT", ".spec.accelerator.count", "integer", description="How many of it a pod gets."),
            _AGE,
            Column("IMAGE", ".spec.engine.image", wide=True, description="The engine's image."),
            _MESSAGE,
        ),
        rules=(_name_rule("ServingClass", 63),),
    ),
)


def custom_resource_definition(definition: Definition) -> dict[str, Any]:
    """The CustomResourceDefinition as Kubernetes JSON."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.to_json() for column in definition.columns],
        "schema": {"openAPIV3Schema": root_schema(definition)},
        "subresources": definition.subresources,
    }
    if definition.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.kind.lower(),
                "shortNames": [definition.short_name],
                "categories": ["taskfleet"],
            },
            "scope": definition.scope,
            "versions": [version],
        },
    }


def root_schema(definition: Definition) -> Schema:
    """The schema of a whole object. Of metadata only what rules read is said: the API server knows the rest."""
    written = definition.model.model_json_schema(by_alias=True)
    definitions = written.get("$defs", {})
    parts = {name: _structural(schema, definitions) for name, schema in written["properties"].items() if name != "metadata"}
    return {
        "description": written["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
            "kind": {"type": "string", "description": "Kind of this object."},
            "metadata": {"type": "object"},
            "spec": parts["spec"],
            "status": _without_defaults(parts["status"]),
        },
        **_rules(definition.rules),
    }


def _rules(pairs: tuple[tuple[str, str], ...]) -> Schema:
    return {VALIDATIONS: [{"rule": rule, "message": message} for rule, message in pairs]} if pairs else {}


def _structural(written: Schema, definitions: dict[str, Schema]) -> Schema:
    """A JSON Schema of pydantic's as a structural schema."""
    resolved = _resolve(written, definitions)
    schema: Schema = {key: resolved[key] for key in _KEPT if key in resolved}
    if "const" in resolved:
        schema["enum"] = [resolved["const"]]
    if "exclusiveMinimum" in resolved:
        # OpenAPI 3.0: the bound is `minimum`, and the keyword says that it is excluded.
        schema |= {"minimum": resolved["exclusiveMinimum"], "exclusiveMinimum": True}
    if resolved.get(INT_OR_STRING):
        del schema["type"]
        # The pattern keeps a text from being negative, the minimum a number.
        schema |= {INT_OR_STRING: True, "anyOf": [{"type": "integer"}, {"type": "string"}], "minimum": 0}
    if schema.get("type") == "integer":
        schema["format"] = "int32" if schema.get("maximum", _LARGEST_INT32 + 1) <= _LARGEST_INT32 else "int64"
    if schema.get("type") == "array":
        schema.setdefault("x-kubernetes-list-type", "atomic")
        schema["items"] = _structural(resolved["items"], definitions)
    if "properties" in resolved:
        schema["properties"] = {name: _structural(part, definitions) for name, part in resolved["properties"].items()}
        if "required" in resolved:
            schema["required"] = resolved["required"]
    elif schema.get("type") == "object" and PRESERVE not in schema:
        schema |= _map(resolved, definitions)
    if VALIDATIONS in resolved:
        schema.setdefault(VALIDATIONS, []).extend(resolved[VALIDATIONS])
    return _with_fitting_default(schema)


def _resolve(written: Schema, definitions: dict[str, Schema]) -> Schema:
    """Puts what a reference points to in its place, and drops the alternative `null`: in Kubernetes an optional field is left out."""
    around = {key: value for key, value in written.items() if key not in {"$ref", "anyOf"}}
    if "$ref" in written:
        return {**_resolve(definitions[written["$ref"].rpartition("/")[2]], definitions), **around}
    if "anyOf" in written:
        alternatives = [part for part in written["anyOf"] if part.get("type") != "null"]
        if len(alternatives) != 1:
            raise ValueError(f"a field of several types has no structural schema: {written}")
        return {**_resolve(alternatives[0], definitions), **around}
    return around


def _map(resolved: Schema, definitions: dict[str, Schema]) -> Schema:
    """A map from text to something. Structural schemas have no say about keys, so CEL has."""
    patterns: dict[str, Schema] = resolved.get("patternProperties", {})
    if len(patterns) != 1:
        raise ValueError(f"a map needs keys of one bounded type: {resolved}")
    ((pattern, values),) = patterns.items()
    longest = resolved["propertyNames"]["maxLength"]
    escaped = pattern.replace("\\", "\\\\")
    rule = f"self.all(key, size(key) <= {longest} && key.matches('{escaped}'))"
    return {
        "additionalProperties": _structural(values, definitions),
        **_rules(((rule, f"keys must match {pattern} and have at most {longest} characters"),)),
    }


def _with_fitting_default(schema: Schema) -> Schema:
    """Keeps a default only where it says something. An object's is complete: the API server checks its rules before it fills in the fields' own."""
    default = schema.pop("default", None)
    default = _said(default) if isinstance(default, dict) else _plain(default)
    return schema if default in (None, "", [], {}) else {**schema, "default": default}


def _said(value: dict[str, Any]) -> dict[str, Any]:
    """A model's default without what was left empty, at any depth."""
    pruned = {name: _said(part) if isinstance(part, dict) else _plain(part) for name, part in value.items()}
    return {name: part for name, part in pruned.items() if part not in (None, "", [], {})}


def _plain(value: Any) -> Any:
    # 2.0 and 2 are one number, and the API server hands out the shorter one.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_defaults(schema: Schema) -> Schema:
    """A status says what was seen; nothing is filled in."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {name: _without_defaults(part) for name, part in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = _without_defaults(kept["items"])
    return kept
