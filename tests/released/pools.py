"""What an operator makes of some objects, written down with these objects: names that are hashes, and pods.

Whatever differs after an upgrade costs something on every cluster at once: another name is a new object, another pod template rolls the pods.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from taskfleet import names
from taskfleet.api.fields import Model
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from taskfleet.planning.packing_key import key_of
from taskfleet.planning.revisions import target_name
from taskfleet.resources.settings import PoolSettings
from tests.unit.planning.builders import digest, serving_class
from tests.unit.resources.pools import SETTINGS, children_of, maximal, the_pool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGEST = digest("a")
CLASS = "l4"  # where the task names none


def record() -> dict[str, Any]:
    """The present operator's."""
    tasks = [TaskModel.model_validate(body) for path in sorted(EXAMPLES.glob("*.yaml")) for body in _task_models(path)]
    return {
        "taskModels": [{"taskModel": _written(task), **names_of(task)} for task in tasks],
        "pools": [
            {
                "servingClass": _written(the_class),
                "pool": _written(the_pool()),
                "settings": asdict(SETTINGS),
                **pods_of(the_pool(), the_class, SETTINGS),
            }
            for the_class in (serving_class(), maximal())
        ],
    }


def names_of(task: TaskModel) -> dict[str, str]:
    """The names of what is made for a task."""
    namespace, name = task.metadata.namespace or "default", task.metadata.name
    spec = task.spec
    key = key_of(
        namespace=namespace,
        task_model=name,
        base=spec.base,
        serving_class=spec.serving_class_name or CLASS,
        isolation=spec.isolation,
    )
    return {"revision": target_name(task), "pool": key.pool_name(0), "engineName": names.engine_name(namespace, name, DIGEST)}


def pods_of(pool: ModelPool, the_class: ServingClass, settings: PoolSettings) -> dict[str, Any]:
    """The pods of a pool, and how its Deployment and its Service find them."""
    made = children_of(the_class, pool, settings=settings)
    spec = made.deployment["spec"]
    return {"selector": spec["selector"], "route": made.service["spec"]["selector"], "template": spec["template"]}


def _task_models(path: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(path.read_text()) if body and body["kind"] == "TaskModel"]


def _written(obj: Model) -> dict[str, Any]:
    return {key: value for key, value in obj.to_json().items() if key != "status"}
