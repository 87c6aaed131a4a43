"""Is a ServingClass usable?

A chain of named checks over its spec; the first violation decides. TaskModels of a class that is not accepted are refused, those that serve already go on. What the API
server can check by itself (bounds, patterns, CEL) is not repeated here; what only it can check (affinity, tolerations) shows up when a pool's Deployment is applied.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from posixpath import normpath
from typing import Any

from taskfleet import names
from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.servingclass import (
    RESERVED_PATHS,
    RESERVED_VOLUMES,
    OciBases,
    Resources,
    ServingClass,
    ServingClassSpec,
    ServingClassStatus,
)
from taskfleet.planning.baseimage import BASE_IMAGE
from taskfleet.planning.conditions import Finding, Outlook, Summary, events_between, merged
from taskfleet.planning.enginestart import ENGINE_STARTS
from taskfleet.planning.memo import once_per_object
from taskfleet.planning.plans import ServingClassPlan
from taskfleet.planning.quantities import parse

# Labels and annotations by which the operator and the Services find pods.
RESERVED_PREFIXES = (f"{names.GROUP}/", "app.kubernetes.io/", "pod-template-hash")

# Of what is handed through to the pod API, whose own fields have about ten.
MAX_LEVELS = 32

Check = Callable[[ServingClassSpec], str | None]


def arguments_are_free(spec: ServingClassSpec) -> str | None:
    refused = ENGINE_STARTS[spec.engine.type].forbidden_arguments(spec.engine.args)
    return f"spec.engine.args: {', '.join(refused)} may not be set; the operator sets it, or it is unsafe" if refused else None


def environment_is_free(spec: ServingClassSpec) -> str | None:
    refused = ENGINE_STARTS[spec.engine.type].forbidden_environment([variable.name for variable in spec.engine.env])
    return f"spec.engine.env: {', '.join(refused)} may not be set; the operator sets it, or it is unsafe" if refused else None


def volume_names_are_free(spec: ServingClassSpec) -> str | None:
    reserved = {*RESERVED_VOLUMES, *([BASE_IMAGE] if spec.store.oci_bases is OciBases.IMAGE_VOLUME else [])}
    taken = sorted({volume.name for volume in spec.engine.volumes} & reserved)
    return f"spec.engine.volumes: the name {', '.join(taken)} is taken by the operator" if taken else None


def mount_paths_are_free(spec: ServingClassSpec) -> str | None:
    seen: dict[str, str] = {}
    for volume in spec.engine.volumes:
        path = f"/{normpath(volume.mount_path).strip('/')}"
        if path == "/" or any(_overlaps(path, reserved) for reserved in RESERVED_PATHS):
            return f"spec.engine.volumes[{volume.name}].mountPath: {volume.mount_path} is taken by the operator"
        if path in seen:
            return f"spec.engine.volumes[{volume.name}].mountPath: {path} is already the mount path of {seen[path]}"
        seen[path] = volume.name
    return None


def quantities_are_sane(spec: ServingClassSpec) -> str | None:
    for path, quantity in _quantities(spec):
        try:
            parse(quantity)
        except ValueError as error:
            return f"{path}: {error}"
    return None


def requests_fit_limits(spec: ServingClassSpec) -> str | None:
    for path, resources in (("spec.engine.resources", spec.engine.resources), ("spec.agentResources", spec.agent_resources)):
        for name, requested in resources.requests.items():
            limit = resources.limits.get(name)
            if limit is not None and parse(requested) > parse(limit):
                return f"{path}.requests[{name}]: {requested} is more than the limit {limit}"
    return None


def accelerator_stands_alone(spec: ServingClassSpec) -> str | None:
    device = spec.accelerator.resource_name if spec.accelerator else None
    if device in {"cpu", "memory", "ephemeral-storage"}:
        return f"spec.accelerator.resourceName: {device} is not a device; set it in spec.engine.resources"
    if device and device in spec.engine.resources.requests | spec.engine.resources.limits:
        return f"spec.engine.resources: {device} is set by spec.accelerator"
    return None


def pod_metadata_is_free(spec: ServingClassSpec) -> str | None:
    for field, keys in (("labels", spec.pod_metadata.labels), ("annotations", spec.pod_metadata.annotations)):
        if taken := sorted(key for key in keys if key.startswith(RESERVED_PREFIXES)):
            return f"spec.podMetadata.{field}: {', '.join(taken)} is reserved"
    return None


def pod_parts_are_shallow(spec: ServingClassSpec) -> str | None:
    scheduling = spec.scheduling
    for field, value in (
        ("affinity", scheduling.affinity),
        ("tolerations", scheduling.tolerations),
        ("topologySpreadConstraints", scheduling.topology_spread_constraints),
    ):
        if _is_deeper(value, MAX_LEVELS):
            return f"spec.scheduling.{field} is nested deeper than {MAX_LEVELS} levels"
    return None


CHECKS: tuple[Check, ...] = (
    arguments_are_free,  # the operator's own arguments hold the invariants: loopback only, no code, runtime adapters
    environment_is_free,  # the same by environment
    volume_names_are_free,  # or the pod template would be refused, with a message about a pod nobody wrote
    mount_paths_are_free,  # the store must be the agent's, or an engine serves other bytes than were proven
    quantities_are_sane,  # before they are compared
    requests_fit_limits,  # the API server says it of each pod, this says it once
    accelerator_stands_alone,  # one place for the device
    pod_parts_are_shallow,  # the schema hands them through, and nothing deeper can be written anywhere
    pod_metadata_is_free,  # Services and the operator find pods by these
)


@once_per_object
def violation(spec: ServingClassSpec) -> str | None:
    """The first violation among `CHECKS`, naming the field; None for a usable class."""
    return next((message for check in CHECKS if (message := check(spec))), None)


def plan(serving_class: ServingClass, *, now: datetime) -> ServingClassPlan:
    """The status of a ServingClass, and the event of its transition."""
    generation = serving_class.metadata.generation
    message = violation(serving_class.spec)
    if message:
        accepted, *summary_of_refusal = _refused(message)
        findings = [accepted, *_without_effect(serving_class.spec), *summary_of_refusal]
    else:
        accepted = Finding(ConditionType.ACCEPTED, True, Reason.VALID, "the spec is valid")
        summary = Summary(Outlook.READY, Reason.VALID, "task models may use this class")
        findings = [accepted, *_without_effect(serving_class.spec), *summary.findings]
    return _plan(serving_class.status, findings, generation=generation, now=now)


def unreadable(previous: ServingClassStatus, message: str, *, generation: int, now: datetime) -> ServingClassPlan:
    """The same for a ServingClass that can't be parsed."""
    return _plan(previous, _refused(message), generation=generation, now=now)


def _refused(message: str) -> list[Finding]:
    accepted = Finding(ConditionType.ACCEPTED, False, Reason.INVALID_SPEC, message)
    return [accepted, *Summary(Outlook.STALLED, Reason.INVALID_SPEC, message).findings]


def _plan(previous: ServingClassStatus, findings: list[Finding], *, generation: int, now: datetime) -> ServingClassPlan:
    conditions = merged(previous.conditions, findings, generation=generation, now=now)
    return ServingClassPlan(
        status=ServingClassStatus(observed_generation=generation, conditions=conditions),
        events=events_between(previous.conditions, conditions),
    )


def _without_effect(spec: ServingClassSpec) -> tuple[Finding, ...]:
    fields = ["spec.pricePerHour"] if spec.price_per_hour is not None else []
    return without_effect(fields)


def without_effect(fields: list[str]) -> tuple[Finding, ...]:
    """The condition that names fields which this version does not act on; nothing for none."""
    if not fields:
        return ()
    message = f"kept, but without effect in this version: {', '.join(fields)}"
    return (Finding(ConditionType.FIELDS_WITHOUT_EFFECT, True, Reason.NOT_IN_THIS_VERSION, message),)


def _is_deeper(value: Any, levels: int) -> bool:
    """Level by level, because the depth is not ours to trust."""
    found = [value]
    for _ in range(levels):
        found = [
            inner
            for outer in found
            if isinstance(outer, Mapping | list)
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
    return any(isinstance(inner, Mapping | list) for inner in found)


def _overlaps(path: str, reserved: str) -> bool:
    return path == reserved or path.startswith(f"{reserved}/") or reserved.startswith(f"{path}/")


def _quantities(spec: ServingClassSpec) -> Iterator[tuple[str, str]]:
    yield "spec.engine.sharedMemory", spec.engine.shared_memory
    yield "spec.adapters.maxSize", spec.adapters.max_size
    yield "spec.store.maxBaseSize", spec.store.max_base_size
    if spec.store.size_limit is not None:
        yield "spec.store.sizeLimit", spec.store.size_limit
    yield from _of("spec.engine.resources", spec.engine.resources)
    yield from _of("spec.agentResources", spec.agent_resources)


def _of(path: str, resources: Resources) -> Iterator[tuple[str, str]]:
    for part, values in (("requests", resources.requests), ("limits", resources.limits)):
        for name, quantity in values.items():
            yield f"{path}.{part}[{name}]", quantity
