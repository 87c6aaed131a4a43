"""The health checks that the documentation gives to Argo CD, in the Lua that it runs, on statuses as the operator writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from taskfleet.api.conditions import Condition
from tests.unit.planning.builders import digest
from tests.unit.planning.fleet import Fleet
from tests.unit.planning.rollout import test_stories as stories

EXAMPLE = Path(__file__).parents[3] / "examples/argocd/health.yaml"
TASK = "total"

Object = dict[str, Any]


def health(kind: str, obj: Object) -> tuple[str, str]:
    """Health and message, as Argo CD gets them: the script sees the object as `obj`."""
    script = yaml.safe_load(EXAMPLE.read_text())["data"][f"resource.customizations.health.taskfleet.dev_{kind}"]
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    found = lua.execute(script)
    return str(found["status"]), str(found["message"])


def told(story: Fleet) -> Object:
    """The story's task as the API server has it at the end."""
    return story.tasks[TASK].model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        (stories.good_version, "Healthy"),
        (stories.gate_fails, "Healthy"),  # ends with a good version
        (stories.first_version_fails_its_gate, "Healthy"),
        (stories.errors_at_half_of_the_traffic, "Degraded"),
        (stories.nobody_asks, "Healthy"),  # somebody promotes it
        (stories.gate_is_never_measured, "Healthy"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_end_of_a_rollout_is_told(play: Callable[[], Fleet], expected: str) -> None:
    assert health("TaskModel", told(play()))[0] == expected


def test_refused_version_is_degraded_and_says_why() -> None:
    """G-07: the spec is as in the repository, and the figures are there to read."""
    story = stories.served(scores={digest("2"): 88.33})
    story.apply(stories.version("v2"))
    story.settle("version v2 is applied, which is worse")
    status, message = health("TaskModel", told(story))
    assert status == "Degraded"
    assert "88.33 %" in message


@pytest.mark.parametrize(("verbs", "expected"), [({}, "Progressing"), ({"pause": "{}"}, "Suspended")], ids=["running", "held"])
def test_rollout_on_its_way_is_told(verbs: dict[str, str], expected: str) -> None:
    story = stories.served()
    story.apply(stories.ordered(stories.version("v2"), **verbs))
    story.settle("version v2 is applied", seconds=30)
    assert health("TaskModel", told(story))[0] == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"status": None}, "Progressing"),
        ({"metadata": {"generation": 7}}, "Progressing"),
        ({"spec": {"suspend": True}}, "Suspended"),
    ],
    ids=["no status", "stale status", "suspended"],
)
def test_state_of_a_task_is_told(change: Object, expected: str) -> None:
    task = told(stories.good_version())
    for part, value in change.items():
        task[part] = task[part] | value if value is not None else {}
    assert health("TaskModel", task)[0] == expected


@pytest.mark.parametrize(("status", "expected"), [("True", "Healthy"), ("False", "Degraded")])
def test_serving_class_is_told(status: str, expected: str) -> None:
    ready = Condition(
        type="Ready", status=status, reason="Valid", message="said", observed_generation=1, last_transition_time="2026-01-01T00:00:00Z"
    )
    obj = {"metadata": {"generation": 1}, "status": {"conditions": [ready.model_dump(mode="json", by_alias=True)]}}
    assert health("ServingClass", obj) == (expected, "said")
    assert health("ServingClass", {"metadata": {"generation": 1}})[0] == "Progressing"
