"""Golden sets that stand among the manifests: is there one where a TaskModel's gate looks for it, can it be read, and is it large enough?"""

from collections.abc import Iterable

from taskfleet.api.taskmodel import Evaluation, TaskModel
from taskfleet.cli.lint.manifests import Manifest
from taskfleet.cli.lint.structure import Fault
from taskfleet.evaluation.golden import GoldenSetError, parse

_DATASET = ("spec", "evaluation", "dataset")


def config_maps(manifests: Iterable[Manifest]) -> dict[tuple[str, str], Manifest]:
    """The ConfigMaps, by namespace and name."""
    return {_key(one, name): one for one in manifests if one.body.get("kind") == "ConfigMap" and (name := _metadata(one, "name"))}


def fault(manifest: Manifest, known: dict[tuple[str, str], Manifest]) -> Fault | None:
    """What is wrong with the golden set of a TaskModel that is right in itself; nothing is said of one that is not among the manifests."""
    evaluation = TaskModel.model_validate(manifest.body).spec.evaluation
    name = evaluation.dataset.config_map_name if evaluation is not None else None
    found = known.get(_key(manifest, name)) if name is not None else None
    if evaluation is None or found is None:
        return None
    data = found.body.get("data")
    text = data.get(evaluation.dataset.key) if isinstance(data, dict) else None
    if not isinstance(text, str):
        return (*_DATASET, "key"), f"ConfigMap {name} has no data {evaluation.dataset.key}"
    message = _trouble(text, evaluation)
    return (_DATASET, f"ConfigMap {name}, key {evaluation.dataset.key}: {message}") if message else None


def _trouble(text: str, evaluation: Evaluation) -> str | None:
    try:
        examples = len(parse(text.encode(), metric=evaluation.metric).examples)
    except GoldenSetError as error:
        return str(error)
    return None if examples >= evaluation.min_samples else f"has {examples} examples, minSamples asks for {evaluation.min_samples}"


def _key(manifest: Manifest, name: str) -> tuple[str, str]:
    return _metadata(manifest, "namespace"), name


def _metadata(manifest: Manifest, field: str) -> str:
    metadata = manifest.body.get("metadata")
    return str(metadata.get(field) or "") if isinstance(metadata, dict) else ""
