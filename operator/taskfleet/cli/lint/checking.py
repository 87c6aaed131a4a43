"""What is wrong with one manifest: the schema first, then the rules, then what the operator would refuse. As in the cluster, each waits for the one before."""

from dataclasses import dataclass

from taskfleet.api.crd import DEFINITIONS, Definition, root_schema
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from taskfleet.cli.lint import golden_sets
from taskfleet.cli.lint.manifests import Manifest, Path
from taskfleet.cli.lint.rules import violations
from taskfleet.cli.lint.structure import Fault, faults, with_defaults
from taskfleet.names import API_VERSION, GROUP
from taskfleet.planning import admission, servingclass

_DEFINITIONS = {definition.kind: definition for definition in DEFINITIONS}
_SCHEMAS = {kind: root_schema(definition) for kind, definition in _DEFINITIONS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `line` counts from 1; `object` is `Kind namespace/name`, empty where the text is no object."""

    source: str
    line: int
    object: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.source}:{self.line}", self.object, self.path, self.message) if part)


def is_ours(manifest: Manifest) -> bool:
    """Is it an object of our API group?"""
    return str(manifest.body.get("apiVersion", "")).partition("/")[0] == GROUP


def check(manifest: Manifest, known: dict[tuple[str, str], Manifest] | None = None) -> list[Finding]:
    """All that is wrong with one of our objects; `known` has the ConfigMaps that stand beside it."""
    kind = manifest.body.get("kind")
    definition = _DEFINITIONS.get(str(kind))
    if manifest.body["apiVersion"] != API_VERSION or definition is None:
        served = f"{API_VERSION} with {', '.join(_DEFINITIONS)}"
        return [_finding(manifest, (("kind",), f"there is no {kind} in {manifest.body['apiVersion']}: this version knows {served}"))]
    found = _faults(manifest, definition)
    if not found and kind == "TaskModel" and (missing := golden_sets.fault(manifest, known or {})) is not None:
        found = [missing]
    return [_finding(manifest, fault) for fault in found]


def _faults(manifest: Manifest, definition: Definition) -> list[Fault]:
    schema = _SCHEMAS[definition.kind]
    # A status in a manifest is dropped by the API server, whatever it is.
    written = {name: part for name, part in manifest.body.items() if name != "status"}
    found = [*_of_metadata(written.get("metadata")), *faults(written, schema)]
    if found:
        return found
    complete = with_defaults(written, schema)
    return list(violations(complete, schema)) or _refused(complete)


def _of_metadata(metadata: object) -> list[Fault]:
    if metadata is None:
        return [(("metadata", "name"), "required value is missing")]
    if isinstance(metadata, dict) and not isinstance(metadata.get("name"), str):
        return [(("metadata", "name"), "must be a text; a name is needed")]
    return []


def _refused(body: dict[str, object]) -> list[Fault]:
    """By the operator, whatever the cluster is like. The message begins with the field."""
    if body["kind"] == "TaskModel":
        messages = [violation.message for violation in admission.offline_violations(TaskModel.model_validate(body))]
    elif body["kind"] == "ServingClass":
        message = servingclass.violation(ServingClass.model_validate(body).spec)
        messages = [message] if message else []
    else:
        messages = []
    return [_split(message) for message in messages]


def _split(message: str) -> Fault:
    field, separator, rest = message.partition(": ")
    return (tuple(field.split(".")), rest) if separator and field.startswith("spec") else ((), message)


def _finding(manifest: Manifest, fault: Fault) -> Finding:
    path, message = fault
    metadata = manifest.body.get("metadata")
    name = "/".join(str(metadata[part]) for part in ("namespace", "name") if metadata.get(part)) if isinstance(metadata, dict) else ""
    return Finding(
        source=manifest.source,
        line=manifest.line(path),
        object=f"{manifest.body.get('kind')} {name}".strip(),
        path=_in_words(path),
        message=message,
    )


def _in_words(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
