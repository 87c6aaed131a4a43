"""The operator's own objects as they are applied."""

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModelStatus
from taskfleet.planning import revisions
from taskfleet.resources.custom_objects import model_pool, status_of, task_model_revision
from tests.unit.planning.builders import task_model
from tests.unit.planning.packing_world import PackingWorld


def test_revision_goes_with_its_task() -> None:
    body = task_model_revision(revisions.draft(task_model("total", uid="u1")))
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("TaskModel", "total", "u1", True)
    assert TaskModelRevision.model_validate(body).spec == revisions.spec_of(task_model("total"))


def test_pool_goes_with_the_last_of_its_members() -> None:
    world = PackingWorld()
    for name in ("vendor", "total"):
        world.add(name)
    (draft,) = world.pack().apply
    body = model_pool(draft)
    assert ModelPool.model_validate(body).spec == draft.spec
    assert {owner["uid"] for owner in body["metadata"]["ownerReferences"]} == {member.uid for member in draft.spec.members}
    # One controller at most is allowed, and there are many owners.
    assert not any(owner["controller"] or owner["blockOwnerDeletion"] for owner in body["metadata"]["ownerReferences"])


def test_status_is_written_against_the_version_that_was_decided_on() -> None:
    body = status_of("TaskModel", "total", TaskModelStatus(observed_generation=2), namespace="finance", resource_version="17")
    assert body["metadata"] == {"name": "total", "namespace": "finance", "resourceVersion": "17"}
    assert body["status"]["observedGeneration"] == 2
    assert "spec" not in body
