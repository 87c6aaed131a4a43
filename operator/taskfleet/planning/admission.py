"""May a TaskModel be served as its spec says, and on which ServingClass?

A chain of named checks over one frozen record; the first violation decides `Accepted`, and `CHECKS` is the policy. Nothing that is refused here touches what already serves.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from taskfleet import names
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import NamespaceSelector, ServingClass
from taskfleet.api.taskmodel import Metric, TaskModel
from taskfleet.planning import servingclass
from taskfleet.planning.claims import claim_of
from taskfleet.planning.scaling import schedules
from taskfleet.planning.schematext import fault

SUPPORTED_SCHEMES = ("oci", "https", "s3", "gs", "hf", "pvc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One TaskModel that asks to be served. `class_name` is None where it names none and there is no default; `claims` are those that its namespace offers."""

    task: TaskModel
    namespace_labels: Mapping[str, str]
    class_name: str | None
    serving_class: ServingClass | None
    claims: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Violation:
    """Why not: a stable reason, and one sentence that names the field."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The answer. `serving_class` is set where it exists, also for a TaskModel that is refused."""

    class_name: str | None
    serving_class: ServingClass | None
    violation: Violation | None


Check = Callable[[Application], Violation | None]


def names_a_class(application: Application) -> Violation | None:
    if application.class_name is not None:
        return None
    return Violation(
        Reason.NO_DEFAULT_CLASS,
        f"spec.servingClassName is not set, and no ServingClass is the default (annotation {names.ANNOTATION_DEFAULT_CLASS}: 'true')",
    )


def class_exists(application: Application) -> Violation | None:
    if application.serving_class is not None:
        return None
    return Violation(Reason.CLASS_NOT_FOUND, f"spec.servingClassName: there is no ServingClass {application.class_name}")


def class_is_accepted(application: Application) -> Violation | None:
    message = servingclass.violation(application.serving_class.spec) if application.serving_class else None
    return Violation(Reason.CLASS_INVALID, f"ServingClass {application.class_name} is invalid: {message}") if message else None


def class_is_allowed(application: Application) -> Violation | None:
    selector = application.serving_class.spec.allowed_namespaces if application.serving_class else None
    namespace = application.task.metadata.namespace
    if selector is None or _selects(selector, namespace, application.namespace_labels):
        return None
    return Violation(
        Reason.CLASS_NOT_ALLOWED,
        f"spec.servingClassName: ServingClass {application.class_name} may not be used from namespace {namespace}",
    )


def sources_are_supported(application: Application) -> Violation | None:
    for field, source in _sources(application.task):
        scheme = source.partition("://")[0]
        if scheme not in SUPPORTED_SCHEMES:
            supported = ", ".join(f"{name}://" for name in SUPPORTED_SCHEMES)
            return Violation(Reason.UNSUPPORTED_SOURCE, f"{field}: {scheme}:// is not supported by this version, {supported} are")
    return None


def claims_are_offered(application: Application) -> Violation | None:
    namespace = application.task.metadata.namespace
    for field, source in _sources(application.task):
        claim = claim_of(source)
        if claim is not None and claim not in application.claims:
            label = f"{names.LABEL_ARTIFACTS}: '{names.ARTIFACTS_OFFERED}'"
            return Violation(
                Reason.CLAIM_NOT_OFFERED, f"{field}: namespace {namespace} has no PersistentVolumeClaim {claim} with the label {label}"
            )
    return None


def schemas_are_schemas(application: Application) -> Violation | None:
    task = application.task.spec.task
    for field, text in (("spec.task.inputSchema", task.input_schema), ("spec.task.outputSchema", task.output_schema)):
        if text is not None and (why := fault(text)):
            return Violation(Reason.INVALID_SCHEMA, f"{field}: {why}")
    return None


def scorer_has_what_it_needs(application: Application) -> Violation | None:
    evaluation = application.task.spec.evaluation
    if evaluation is None:
        return None
    if evaluation.metric is Metric.JUDGE and evaluation.judge is None:
        return Violation(Reason.INVALID_SPEC, "spec.evaluation.judge: must be set with metric Judge")
    if evaluation.metric is Metric.JSON_SCHEMA and application.task.spec.task.output_schema is None:
        return Violation(Reason.INVALID_SPEC, "spec.task.outputSchema: must be set with spec.evaluation.metric JSONSchema")
    return None


def schedules_can_be_kept(application: Application) -> Violation | None:
    for schedule in application.task.spec.scaling.schedules:
        if (why := schedules.fault(schedule)) is not None:
            return Violation(Reason.INVALID_SPEC, f"spec.scaling.schedules[{schedule.name}].{why}")
    return None


CHECKS: tuple[Check, ...] = (
    names_a_class,  # nothing can be said without a class
    class_exists,  # comes right by itself when the class is created
    class_is_accepted,  # the administrator's fault, so it comes before the tenant's
    class_is_allowed,  # before anything of the spec is looked at more closely
    sources_are_supported,  # the agent would refuse it later, with fewer words
    claims_are_offered,  # comes right by itself when the claim is there and has its label; a pod that mounts a missing claim would never start
    schemas_are_schemas,  # the engine would refuse every request with it
    scorer_has_what_it_needs,  # no revision would ever pass its gate
    schedules_can_be_kept,  # somebody counts on the pods; those of the other schedules come
)

# Those that need nothing but the object itself.
OFFLINE_CHECKS: tuple[Check, ...] = (sources_are_supported, schemas_are_schemas, scorer_has_what_it_needs, schedules_can_be_kept)


def offline_violations(task: TaskModel) -> list[Violation]:
    """What would be refused in every cluster."""
    application = Application(task=task, namespace_labels={}, class_name=None, serving_class=None)
    return [found for check in OFFLINE_CHECKS if (found := check(application))]


def admit(
    task: TaskModel,
    *,
    namespace_labels: Mapping[str, str],
    serving_classes: Iterable[ServingClass],
    pools: Iterable[ModelPool] = (),
    claims: frozenset[str] = frozenset(),
) -> Admission:
    """The first violation among `CHECKS`, or none, and the class that the task is for."""
    classes = {serving_class.metadata.name: serving_class for serving_class in serving_classes}
    class_name = class_name_of(task, classes.values(), pools)
    serving_class = classes.get(class_name) if class_name is not None else None
    application = Application(
        task=task, namespace_labels=namespace_labels, class_name=class_name, serving_class=serving_class, claims=claims
    )
    violation = next((found for check in CHECKS if (found := check(application))), None)
    return Admission(class_name=class_name, serving_class=serving_class, violation=violation)


def class_name_of(task: TaskModel, serving_classes: Iterable[ServingClass], pools: Iterable[ModelPool] = ()) -> str | None:
    """The class that the spec names; else the one recorded; else, after a lost status, the one of the pool that serves it; else the default.

    A default is settled once, so that another default later moves nobody. Of several defaults the newest counts, as with StorageClasses.
    """
    if task.spec.serving_class_name is not None:
        return task.spec.serving_class_name
    if task.status.serving_class_name is not None:
        return task.status.serving_class_name
    for pool in sorted(pools, key=lambda pool: pool.metadata.name):
        if any(member.task_model == task.metadata.name for member in pool.spec.members):
            return pool.spec.serving_class_name
    defaults = [
        serving_class.metadata
        for serving_class in serving_classes
        if serving_class.metadata.annotations.get(names.ANNOTATION_DEFAULT_CLASS) == "true"
    ]
    return max(defaults, key=lambda metadata: (metadata.creation_timestamp, metadata.name)).name if defaults else None


def _sources(task: TaskModel) -> list[tuple[str, str]]:
    """Field and source of everything that is fetched."""
    sources = [("spec.base.source", task.spec.base.source)]
    if task.spec.adapter is not None:
        sources.append(("spec.adapter.source", task.spec.adapter.source))
    return sources


def _selects(selector: NamespaceSelector, namespace: str, labels: Mapping[str, str]) -> bool:
    by_labels = bool(selector.match_labels) and all(labels.get(key) == value for key, value in selector.match_labels.items())
    return namespace in selector.names or by_labels
