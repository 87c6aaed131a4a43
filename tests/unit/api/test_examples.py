"""The example manifests: complete, and free of what the operator would refuse."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet.api.crd import DEFINITIONS, PRESERVE, Schema, root_schema
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from taskfleet.engines.vllm.arguments import forbidden_arguments, forbidden_environment

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def objects(path: Path, kind: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document and document["kind"] == kind]


def paths_of_schema(schema: Schema, path: str) -> set[str]:
    found = set()
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        found |= {here} | paths_of_schema(part, here)
        if "items" in part and PRESERVE not in part["items"]:
            found |= paths_of_schema(part["items"], f"{here}[]")
    return found


def paths_of_value(value: Any, path: str) -> set[str]:
    if isinstance(value, dict):
        return {f"{path}.{key}" for key in value}.union(*(paths_of_value(part, f"{path}.{key}") for key, part in value.items()))
    if isinstance(value, list):
        return set().union(*(paths_of_value(part, f"{path}[]") for part in value))
    return set()


@pytest.mark.parametrize("kind", ["TaskModel", "ServingClass"])
def test_maximal_example_sets_every_field(kind: str) -> None:
    definition = next(one for one in DEFINITIONS if one.kind == kind)
    known = paths_of_schema(root_schema(definition)["properties"]["spec"], "spec")
    shown: set[str] = set()
    for document in objects(ROOT / "examples/maximal.yaml", kind):
        shown |= paths_of_value(document["spec"], "spec")
    assert not known - shown


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_understood_by_the_models(path: Path) -> None:
    for document in objects(path, "TaskModel"):
        TaskModel.model_validate(document)
    for document in objects(path, "ServingClass"):
        engine = ServingClass.model_validate(document).spec.engine
        assert not forbidden_arguments(engine.args)
        assert not forbidden_environment([variable.name for variable in engine.env])


def test_the_three_invoice_tasks_share_one_pool() -> None:
    tasks = [TaskModel.model_validate(document) for document in objects(ROOT / "examples/invoices.yaml", "TaskModel")]
    assert {task.metadata.name for task in tasks} == {"invoice-vendor", "invoice-date", "invoice-total"}
    keys = {(task.metadata.namespace, task.spec.base, task.spec.serving_class_name, task.spec.isolation) for task in tasks}
    assert len(keys) == 1


def test_one_example_class_at_most_is_the_default() -> None:
    classes = [document["metadata"] for path in EXAMPLES for document in objects(path, "ServingClass")]
    defaults = [one["name"] for one in classes if one.get("annotations", {}).get("taskfleet.dev/is-default-class") == "true"]
    assert defaults == ["l4"]
