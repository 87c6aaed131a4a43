"""Rollouts from the first proof to their end, as readable transcripts in `golden/`.

UPDATE_GOLDEN=1 writes them anew; the difference is for a reviewer to read.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModel, TaskModelStatus
from taskfleet.planning import revisions
from taskfleet.planning.snapshot import DatasetView
from tests.unit.planning.builders import digest, serving_class, task_model
from tests.unit.planning.fleet import Fleet

GOLDEN = Path(__file__).parent / "golden"
GATE = {"dataset": {"configMapName": "golden"}}
STEPS = [{"weightPercent": 10, "holdSeconds": 60}, {"weightPercent": 50, "holdSeconds": 60}]
CANARY: dict[str, Any] = {"strategy": "Canary", "steps": STEPS}

IMMEDIATE: dict[str, Any] = {"strategy": "Immediate"}


def version(number: str, *, name: str = "total", rollout: dict[str, Any] | None = None, **spec: Any) -> TaskModel:
    """A task behind a gate and two steps."""
    return task_model(name, version=number, **{"evaluation": GATE, "rollout": CANARY if rollout is None else rollout, **spec})


def ordered(task: TaskModel, **verbs: str) -> TaskModel:
    """With annotations that name the revision of this spec; `{}` in a value stands for its name."""
    name = revisions.target_name(task)
    annotations = {f"taskfleet.dev/{verb}": value.replace("{}", name) for verb, value in verbs.items()}
    return task.model_copy(update={"metadata": task.metadata.model_copy(update={"annotations": annotations})})


def served(**changes: Any) -> Fleet:
    """Version v1 serves."""
    versions = {f"oci://registry.example/total v{number}": digest(letter) for number, letter in enumerate("0123")}
    registry = {"oci://registry.example/tiny-invoices v1": digest("b"), **versions}
    story = Fleet(classes={"l4": serving_class()}, registry=registry, **changes)
    story.apply(version("v1"))
    story.settle("version v1 is applied")
    story.transcript.clear()
    return story


def first_version_passes_its_gate() -> Fleet:
    story = served()
    story = Fleet(classes=story.classes, registry=story.registry)
    story.apply(version("v1"))
    story.settle("the first version is applied")
    return story


def first_version_fails_its_gate() -> Fleet:
    story = Fleet(classes={"l4": serving_class()}, registry=served().registry, scores={digest("1"): 61.0})
    story.apply(version("v1"))
    story.settle("the first version is applied, and it is not good enough")
    story.apply(version("v2"))
    story.settle("version v2 is applied")
    return story


def good_version() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied")
    return story


def gate_fails() -> Fleet:
    story = served(scores={digest("2"): 88.33})
    story.apply(version("v2"))
    story.settle("version v2 is applied, which is worse")
    story.settle("nothing changes any more")
    story.apply(version("v3"))
    story.settle("version v3 is applied")
    return story


def gate_is_measured_at_the_fourth_try() -> Fleet:
    story = served(unmeasurable=0)
    story.unmeasurable = 3
    story.apply(version("v2"))
    story.settle("version v2 is applied while most pods are too busy to answer the golden set", seconds=1200)
    return story


def gate_is_never_measured() -> Fleet:
    story = served()
    story.unmeasurable = 5
    story.apply(version("v2"))
    story.settle("version v2 is applied, and the golden set can't be run", seconds=1200)
    story.apply(ordered(version("v2"), retry="{}@1"))
    story.settle("it can be run again, and somebody retries", seconds=1200)
    return story


def golden_set_is_too_small() -> Fleet:
    story = served()
    story.golden_set = DatasetView(digest=digest("8"), examples=12)
    story.apply(version("v2"))
    story.settle("version v2 is applied beside a golden set of 12 examples", seconds=100)
    return story


def errors_at_half_of_the_traffic() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=75)
    story.failing[digest("2")] = 0.2
    story.settle("it begins to fail")
    story.settle("nothing changes any more")
    return story


def rejected_version_is_asked_for_again() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=75)
    story.failing[digest("2")] = 0.2
    story.settle("it begins to fail")
    story.apply(version("v1"))
    story.settle("the spec goes back to v1")
    story.apply(version("v2"))
    story.settle("the spec asks for v2 again")
    story.apply(ordered(version("v2"), retry="{}@1"))
    story.settle("somebody retries", seconds=10)
    return story


def slow_answers_at_the_first_step() -> Fleet:
    story = served(slow={digest("2"): 3.0})
    story.apply(version("v2"))
    story.settle("version v2 is applied, whose answers take three times as long")
    return story


def nobody_asks() -> Fleet:
    story = served(requests_per_second=0.0)
    story.apply(version("v2", rollout={**CANARY, "analysis": {"maxHoldSeconds": 300}}))
    story.settle("version v2 is applied at night", seconds=900)
    story.apply(ordered(version("v2", rollout={**CANARY, "analysis": {"maxHoldSeconds": 300}}), promote="{}@full"))
    story.settle("somebody promotes it fully")
    return story


def shadow_first() -> Fleet:
    story = served()
    steps = [{"weightPercent": 0, "shadowPercent": 20, "holdSeconds": 30}, {"weightPercent": 20, "holdSeconds": 30}]
    story.apply(version("v2", rollout={"strategy": "Canary", "steps": steps}))
    story.settle("version v2 is applied")
    return story


def paused_and_resumed() -> Fleet:
    story = served()
    story.apply(ordered(version("v2"), pause="{}"))
    story.settle("version v2 is applied, paused", seconds=300)
    story.apply(version("v2"))
    story.settle("it is resumed", seconds=80)
    story.apply(ordered(version("v2"), pause="{}"))
    story.settle("it is paused at a step", seconds=300)
    story.failing[digest("2")] = 0.5
    story.settle("it begins to fail while it is paused", seconds=300)
    return story


def promoted_by_hand() -> Fleet:
    story = served(requests_per_second=0.0)
    story.apply(version("v2"))
    story.settle("version v2 is applied at night", seconds=20)
    story.apply(ordered(version("v2"), promote="{}@2"))
    story.settle("somebody promotes it to the second step", seconds=20)
    story.settle("the same annotation is still there", seconds=20)
    story.apply(ordered(version("v2"), promote="{}@full"))
    story.settle("and fully")
    return story


def aborted_and_retried() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=20)
    story.apply(ordered(version("v2"), abort="{}"))
    story.settle("somebody aborts it")
    story.apply(ordered(version("v2"), retry="{}@monday"))
    story.settle("somebody retries it")
    story.settle("the same annotation is still there")
    return story


def undone() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied")
    story.apply(ordered(version("v2"), undo="{}"))
    story.settle("somebody undoes it")
    return story


def superseded() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=75)
    story.apply(version("v3"))
    story.settle("version v3 is applied in mid-canary")
    return story


def back_to_the_stable_version() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=75)
    story.apply(version("v1"))
    story.settle("version v1 is applied again in mid-canary")
    return story


def back_within_the_window() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied")
    story.transcript.clear()
    story.apply(version("v1"))
    story.settle("version v1 is applied again")
    return story


def another_prompt_is_a_revision() -> Fleet:
    story = served()
    story.apply(version("v1", task={"systemPrompt": "Answer with the total alone."}))
    story.settle("another prompt is applied")
    return story


def status_is_wiped_in_mid_canary() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=75)
    task = story.tasks["total"]
    story.tasks["total"] = task.model_copy(update={"status": TaskModelStatus()})
    story.settle("the status of the task is lost")
    return story


def suspended_in_mid_canary() -> Fleet:
    story = served()
    story.apply(version("v2"))
    story.settle("version v2 is applied", seconds=75)
    story.apply(version("v2", suspend=True))
    story.settle("it is suspended")
    story.apply(version("v2"))
    story.settle("it goes on")
    return story


def sharing(*tasks: str) -> Fleet:
    """These serve their first version from one pool, which has room for one candidate beside them."""
    limits = {"maxPerPool": len(tasks), "candidateSlots": 1, "maxActive": 1}
    registry = {"oci://registry.example/tiny-invoices v1": digest("b")}
    for place, name in enumerate(tasks):
        registry |= {f"oci://registry.example/{name} v{number}": digest(f"{3 * place + number:x}") for number in (1, 2)}
    story = Fleet(classes={"l4": serving_class(adapters=limits)}, registry=registry)
    for name in tasks:
        story.apply(version("v1", name=name, rollout=IMMEDIATE))
    story.settle("they are applied")
    story.transcript.clear()
    return story


def candidates_take_turns() -> Fleet:
    story = sharing("date", "total", "vendor")
    story.apply(ordered(version("v2", name="vendor", rollout=IMMEDIATE), pause="{}"))
    story.settle("vendor is changed, and paused", seconds=30)
    story.apply(version("v2", name="date", rollout=IMMEDIATE))
    story.apply(version("v2", name="total", rollout=IMMEDIATE))
    story.settle("date and total are changed, too")
    story.apply(version("v2", name="vendor", rollout=IMMEDIATE))
    story.settle("vendor is resumed")
    return story


def slot_is_given_away_while_the_gate_cannot_be_measured() -> Fleet:
    story = sharing("total", "vendor")
    whole, story.golden_set = story.golden_set, DatasetView(digest=digest("8"), examples=12)
    story.apply(version("v2", name="total", rollout=IMMEDIATE))
    story.settle("total is changed beside a golden set of 12 examples", seconds=40)
    story.apply(version("v2", name="vendor", evaluation=None))
    story.settle("vendor is changed, whose steps take their time", seconds=40)
    story.golden_set = whole
    story.settle("the golden set is whole again")
    return story


def step_without_traffic_gives_its_slot_away() -> Fleet:
    story = sharing("total", "vendor")
    story.requests_per_second = 0.0
    story.apply(version("v2", name="total", evaluation=None, rollout={**CANARY, "analysis": {"maxHoldSeconds": 120}}))
    story.settle("total is changed, and nobody asks it", seconds=300)
    story.apply(version("v2", name="vendor", rollout=IMMEDIATE))
    story.settle("vendor is changed, too", seconds=60)
    story.requests_per_second = 10.0
    story.settle("somebody asks")
    return story


STORIES = (
    first_version_passes_its_gate,
    first_version_fails_its_gate,
    good_version,
    gate_fails,
    gate_is_measured_at_the_fourth_try,
    gate_is_never_measured,
    golden_set_is_too_small,
    errors_at_half_of_the_traffic,
    rejected_version_is_asked_for_again,
    slow_answers_at_the_first_step,
    nobody_asks,
    shadow_first,
    paused_and_resumed,
    promoted_by_hand,
    aborted_and_retried,
    undone,
    superseded,
    back_to_the_stable_version,
    back_within_the_window,
    another_prompt_is_a_revision,
    status_is_wiped_in_mid_canary,
    suspended_in_mid_canary,
    candidates_take_turns,
    slot_is_given_away_while_the_gate_cannot_be_measured,
    step_without_traffic_gives_its_slot_away,
)


def test_rejected_version_that_is_no_longer_asked_for_needs_nobody() -> None:
    story = served(scores={digest("2"): 88.33})
    story.apply(version("v2"))
    story.settle("version v2 is rejected")
    rejected = story.revisions[revisions.target_name(version("v2"))]
    assert is_true(rejected, "Stalled")
    story.apply(version("v1"))
    story.settle("the spec goes back to v1")
    rejected = story.revisions[rejected.metadata.name]
    assert (rejected.status.phase, is_true(rejected, "Stalled"), is_true(rejected, "Ready")) == ("Rejected", False, True)


def is_true(revision: TaskModelRevision, kind: str) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in revision.status.conditions)


def test_annotation_that_cannot_be_understood_is_told() -> None:
    story = served()
    story.apply(ordered(version("v2"), promote="{}@soon"))
    story.settle("version v2 is applied, with a mistake", seconds=20)
    rollout = story.tasks["total"].status.rollout
    assert rollout is not None
    assert "promote must be REVISION@STEP or REVISION@full, and has 'soon'" in (rollout.message or "")
    assert rollout.step == 1


def test_undo_to_another_base_is_refused_in_words_and_changes_nothing() -> None:
    story = served()
    story.registry |= {"oci://registry.example/other-base v1": digest("c")}
    other = {"source": "oci://registry.example/other-base", "revision": "v1"}
    story.apply(version("v2", base=other))
    story.settle("version v2 is applied on another base")
    before = story.tasks["total"].status
    story.apply(ordered(version("v2", base=other), undo="{}"))
    story.settle("somebody undoes it")
    after = story.tasks["total"].status
    assert (after.traffic, after.stable) == (before.traffic, before.stable)
    assert before.rollout is not None
    assert after.rollout is not None
    assert after.rollout.phase == before.rollout.phase == "Done"
    assert "can't be undone: total-" in (after.rollout.message or "")
    assert "has another base (oci://registry.example/tiny-invoices, revision v1)" in (after.rollout.message or "")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_story_is_told_as_it_was_reviewed(story: Callable[[], Fleet]) -> None:
    told = story().text
    path = GOLDEN / f"{story.__name__}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(told)
    assert told == path.read_text()
