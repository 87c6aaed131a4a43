"""Whole stories, from the first object to the settled end, as readable transcripts in `golden/`.

UPDATE_GOLDEN=1 writes them anew; the difference is for a reviewer to read.
"""

import os
from pathlib import Path

import pytest

from taskfleet.api.taskmodel import TaskModelStatus
from tests.unit.planning.builders import digest, serving_class, task_model
from tests.unit.planning.fleet import Fleet

GOLDEN = Path(__file__).parent / "golden"


def fleet(**fields: object) -> Fleet:
    versions = {f"oci://registry.example/total v{number}": digest(letter) for number, letter in enumerate("0123")}
    registry = {"oci://registry.example/tiny-invoices v1": digest("b"), "oci://registry.example/tiny-invoices v2": digest("c"), **versions}
    return Fleet(classes={"l4": serving_class()}, registry=registry, **fields)  # type: ignore[arg-type]


def first_apply() -> Fleet:
    story = fleet()
    story.apply(task_model())
    story.settle("a task is applied")
    story.settle("nothing changes any more")
    return story


def version_change() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.apply(task_model(version="v2"))
    story.settle("version v2 is applied")
    story.gateways_follow = False
    story.apply(task_model(version="v3"))
    story.settle("version v3 is applied while a gateway is deaf", seconds=5)
    story.gateways_follow = True
    story.settle("the gateway hears again")
    return story


def broken_then_good_version() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.broken[digest("2")] = "rank 128 is above the limit of 64"
    story.apply(task_model(version="v2"))
    story.settle("version v2 is applied, which no engine can load")
    story.apply(task_model(version="v3"))
    story.settle("version v3 is applied")
    story.apply(task_model(version="v2"))
    story.settle("version v2 again")
    story.apply(task_model(version="v3"))
    story.settle("back to v3")
    return story


def refused_version_heals() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.broken[digest("2")] = "rank 128 is above the limit of 64"
    story.apply(task_model(version="v2"))
    story.settle("version v2 is applied, whose rank is above the class's limit")
    # The higher limit rolls the pods, and every agent of a new pod tries again.
    story.broken.clear()
    story.settle("the class's limit is raised")
    return story


def class_missing_then_created() -> Fleet:
    story = fleet()
    story.classes.clear()
    story.apply(task_model())
    story.settle("a task is applied, and its class does not exist")
    story.classes["l4"] = serving_class()
    story.settle("the class is created")
    del story.classes["l4"]
    story.settle("the class is deleted")
    story.classes["l4"] = serving_class()
    story.settle("the class is back")
    return story


def no_device_then_capacity() -> Fleet:
    story = fleet(free_devices=0)
    story.apply(task_model())
    story.settle("a task is applied, and no node has a free device")
    story.free_devices = 1
    story.settle("capacity appears")
    return story


def pod_lost() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.pods.clear()
    story.free_devices = 0
    story.settle("the node is lost with its pod")
    story.free_devices = 1
    story.settle("another node comes")
    return story


def status_wiped() -> Fleet:
    story = first_apply()
    story.apply(task_model(version="v9"))
    story.settle("version v9 is applied, which does not exist", seconds=5)
    story.transcript.clear()
    task = story.tasks["total"]
    story.tasks["total"] = task.model_copy(update={"status": TaskModelStatus()})
    story.settle("the status is wiped while v9 is on its way", seconds=5)
    story.apply(task_model(version="v1"))
    story.settle("back to v1")
    return story


def source_down_then_back() -> Fleet:
    story = fleet(registry_is_up=False)
    story.apply(task_model())
    story.settle("a task is applied while the registry is down", seconds=30)
    story.registry_is_up = True
    story.settle("the registry is back")
    return story


def slow_source() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.unresolved["oci://registry.example/total v2"] = (
        "Resolving",
        "oci://registry.example/total version v2 is being fetched, for its digest",
    )
    story.apply(task_model(version="v2"))
    story.settle("version v2 is applied, whose digest takes a download", seconds=600)
    story.unresolved.clear()
    story.settle("it is through")
    return story


def source_not_allowed() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.unresolved["oci://registry.example/total v2"] = ("SourceNotAllowed", "registry.example is at a private address")
    story.apply(task_model(version="v2"))
    story.settle("version v2 is applied, and its source is at a private address", seconds=600)
    story.unresolved.clear()
    story.settle("the administrator has allowed the network", seconds=600)
    return story


def base_change() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.apply(task_model(base={"source": "oci://registry.example/tiny-invoices", "revision": "v2"}))
    story.settle("another revision of the base is applied")
    return story


def suspended() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.apply(task_model(version="v2", suspend=True))
    story.settle("version v2 is applied, and the task is suspended")
    story.apply(task_model(version="v2"))
    story.settle("the task is resumed")
    return story


def spec_becomes_invalid() -> Fleet:
    story = first_apply()
    story.transcript.clear()
    story.apply(task_model(task={"outputSchema": '{"type": "objekt"}'}))
    story.settle("an output schema is applied that is none")
    story.apply(task_model())
    story.settle("the last good spec is applied")
    return story


STORIES = (
    first_apply,
    version_change,
    broken_then_good_version,
    refused_version_heals,
    class_missing_then_created,
    no_device_then_capacity,
    pod_lost,
    status_wiped,
    source_down_then_back,
    slow_source,
    source_not_allowed,
    base_change,
    suspended,
    spec_becomes_invalid,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_story_is_told_as_it_was_reviewed(story: object) -> None:
    text = story().text  # type: ignore[operator]
    path = GOLDEN / f"{story.__name__}.txt"  # type: ignore[attr-defined]
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text


def test_every_transcript_has_its_story() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {story.__name__ for story in STORIES}
