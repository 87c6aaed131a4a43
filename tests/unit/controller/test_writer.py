"""What is there already is not written again; what somebody else changed of ours is."""

import pytest

from taskfleet.api.conditions import Reason
from taskfleet.api.fields import Metadata
from taskfleet.api.taskmodel import TaskModelStatus
from taskfleet.controller.cache import Cache
from taskfleet.controller.queue import RetryError
from taskfleet.controller.writer import RefusedError, Writer, contains
from taskfleet.kube.errors import ForbiddenError, InvalidError, KubeError, ThrottledError, UnavailableError
from taskfleet.kube.resources import PODS, SERVICES, TASK_MODELS, Resource
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, body, task_model

SERVICE = {
    "kind": "Service",
    "metadata": {"name": "tiny", "namespace": "finance", "labels": {"a": "b"}},
    "spec": {"type": "ClusterIP", "port": 8080},
}


class _World:
    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.cache = Cache()
        self.writer = self.restarted()

    def restarted(self) -> Writer:
        return Writer(self.server, self.cache)  # type: ignore[arg-type]

    def told(self, found: Json) -> None:
        """The watch tells of a change."""
        self.cache.put(SERVICES, found)


@pytest.fixture
def world() -> _World:
    return _World()


async def test_the_same_intent_is_sent_once(world: _World) -> None:
    assert await world.writer.apply_child(SERVICE)
    for _ in range(20):
        assert not await world.writer.apply_child(SERVICE)
    assert world.server.writes == ["apply Service tiny"]


async def test_another_intent_is_sent(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    assert await world.writer.apply_child({**SERVICE, "spec": {"type": "ClusterIP", "port": 9090}})


async def test_somebody_elses_own_field_is_none_of_our_business(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    world.told(world.server.edit(SERVICES, "tiny", sessionAffinity="ClientIP"))
    assert not await world.writer.apply_child(SERVICE)


async def test_a_field_of_ours_that_somebody_changed_is_put_back(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    world.told(world.server.edit(SERVICES, "tiny", takes="port", port=1))
    assert await world.writer.apply_child(SERVICE)
    assert world.server.objects[("Service", "finance", "tiny")]["spec"]["port"] == 8080
    assert not await world.writer.apply_child(SERVICE)


async def test_a_change_that_the_watch_tells_before_the_answer_of_the_apply_is_put_back(world: _World) -> None:
    apply = world.server.apply

    async def overtaken(resource: Resource, intent: Json, *, force: bool = True) -> Json:
        answer = await apply(resource, intent, force=force)
        world.server.apply = apply  # type: ignore[method-assign]
        world.told(world.server.edit(SERVICES, "tiny", takes="port", port=1))
        return answer

    world.server.apply = overtaken  # type: ignore[method-assign]
    assert await world.writer.apply_child(SERVICE)
    assert await world.writer.apply_child(SERVICE)
    assert world.server.objects[("Service", "finance", "tiny")]["spec"]["port"] == 8080


async def test_a_deleted_object_is_made_again(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    found = world.server.objects.pop(("Service", "finance", "tiny"))
    world.cache.remove(SERVICES, found)
    assert await world.writer.apply_child(SERVICE)


@pytest.mark.parametrize("seen_by_the_watch", [True, False])
async def test_an_object_that_others_made_under_the_name_is_left_alone(world: _World, *, seen_by_the_watch: bool) -> None:
    theirs = body("tiny", 999, spec={"type": "ExternalName"})
    world.server.objects["Service", "finance", "tiny"] = theirs
    if seen_by_the_watch:
        world.told(theirs)
    with pytest.raises(RefusedError, match="Service finance/tiny exists and was not made by the operator") as refused:
        await world.writer.apply_child(SERVICE)
    assert refused.value.refusal.reason is Reason.NAME_TAKEN
    assert world.server.writes == []
    world.cache.remove(SERVICES, world.server.objects.pop(("Service", "finance", "tiny")))
    assert await world.writer.apply_child(SERVICE), "it goes on once the name is free"


async def test_an_own_object_that_no_watch_shows_is_put_right(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    found = world.server.edit(SERVICES, "tiny", takes="port", port=1)
    world.cache.remove(SERVICES, found)  # its label was taken away
    assert await world.writer.apply_child(SERVICE)
    assert world.server.objects["Service", "finance", "tiny"]["spec"]["port"] == 8080


async def test_a_restored_object_is_known_by_its_owner(world: _World) -> None:
    world.server.objects["Service", "finance", "tiny"] = body("tiny", 5, owner="ModelPool", spec={"port": 1})
    assert await world.writer.apply_child(SERVICE)


async def test_without_the_lease_nothing_is_written(world: _World) -> None:
    writer = Writer(world.server, world.cache, may_write=lambda: False)  # type: ignore[arg-type]
    with pytest.raises(RetryError, match="lease"):
        await writer.apply_child(SERVICE)
    with pytest.raises(RetryError, match="lease"):
        await writer.delete(SERVICES, "tiny", "finance", uid="uid-tiny")
    with pytest.raises(RetryError, match="lease"):
        await writer.write_status(TASK_MODELS, Metadata(name="a"), TaskModelStatus(), TaskModelStatus(observed_generation=1))
    assert world.server.writes == []


async def test_after_a_restart_children_are_applied_once_and_records_only_where_they_differ(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    version = world.server.version
    again = world.restarted()
    assert not await again.apply(SERVICES, SERVICE, adopt=True)
    assert await again.apply(SERVICES, {**SERVICE, "spec": {"port": 1}}, adopt=True)
    third = world.restarted()
    assert await third.apply_child({**SERVICE, "spec": {"port": 1}}), (
        "fields that a newer version no longer sets are only dropped by an apply"
    )
    assert world.server.version == version + 1, "an apply of what is there makes no new version"


async def test_what_is_being_deleted_is_waited_for(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    found = world.server.objects[("Service", "finance", "tiny")]
    world.told({**found, "metadata": {**found["metadata"], "resourceVersion": "900", "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    with pytest.raises(RetryError):
        await world.writer.apply_child(SERVICE)


@pytest.mark.parametrize(
    "error", [InvalidError("spec.port: must be a number", status=422), ForbiddenError("exceeded quota: pods", status=403)]
)
async def test_a_refusal_is_told_with_the_object_and_the_servers_words(world: _World, error: KubeError) -> None:
    world.server.refuse = error
    with pytest.raises(RefusedError, match=f"Service finance/tiny: {error.message}"):
        await world.writer.apply_child(SERVICE)


async def test_a_namespace_that_ends_is_no_refusal(world: _World) -> None:
    world.server.refuse = ForbiddenError(
        'services "tiny" is forbidden: unable to create new content in namespace finance because it is being terminated', status=403
    )
    with pytest.raises(RetryError):
        await world.writer.apply_child(SERVICE)


async def test_an_outage_is_worth_another_attempt_and_a_throttled_one_waits(world: _World) -> None:
    world.server.refuse = UnavailableError("away")
    with pytest.raises(RetryError) as failed:
        await world.writer.apply_child(SERVICE)
    assert failed.value.least_seconds == 0
    world.server.refuse = ThrottledError("slow down", status=429, reason="TooManyRequests", retry_after=9)
    with pytest.raises(RetryError) as failed:
        await world.writer.apply_child(SERVICE)
    assert failed.value.least_seconds == 9


async def test_a_status_is_written_when_it_differs_and_only_on_the_version_it_was_decided_from(world: _World) -> None:
    world.server.objects[("TaskModel", "finance", "a")] = task_model("a", 5)
    metadata = Metadata(name="a", namespace="finance", resource_version="5")
    before, after = TaskModelStatus(), TaskModelStatus(observed_generation=3)
    assert not await world.writer.write_status(TASK_MODELS, metadata, before, before)
    assert await world.writer.write_status(TASK_MODELS, metadata, before, after)
    assert (world.cache.get(TASK_MODELS, "a", "finance") or {})["status"]["observedGeneration"] == 3
    with pytest.raises(RetryError, match="modified"):
        await world.writer.write_status(TASK_MODELS, metadata, before, TaskModelStatus(observed_generation=4))


async def test_a_status_of_what_is_gone_is_no_error(world: _World) -> None:
    gone = Metadata(name="gone", namespace="finance", resource_version="5")
    assert not await world.writer.write_status(TASK_MODELS, gone, TaskModelStatus(), TaskModelStatus(observed_generation=1))


async def test_another_object_of_the_name_is_not_deleted(world: _World) -> None:
    await world.writer.apply_child(SERVICE)
    await world.writer.delete(SERVICES, "tiny", "finance", uid="uid-of-another")
    assert ("Service", "finance", "tiny") in world.server.objects


@pytest.mark.parametrize(
    ("live", "intent", "answer"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": [{"n": 1, "x": 0}, {"n": 2}]}}, {"a": {"b": [{"n": 2}, {"n": 1}]}}, True),
        ({"b": [{"n": 1}, {"n": 2}]}, {"b": [{"n": 1}]}, False),
        (
            {"metadata": {"ownerReferences": [{"uid": "ours"}, {"uid": "theirs"}]}},
            {"metadata": {"ownerReferences": [{"uid": "ours"}]}},
            True,
        ),
        ({"metadata": {}}, {"metadata": {"ownerReferences": [{"uid": "ours"}]}}, False),
        ({"a": "1"}, {"a": 1}, False),
    ],
)
def test_live_objects_have_everything_of_an_intent_or_not(live: Json, intent: Json, answer: bool) -> None:  # noqa: FBT001
    assert contains(live, intent) is answer


POD_PART = {"kind": "Pod", "metadata": {"name": "p", "namespace": "finance", "uid": "uid-p", "annotations": {"a": "b"}}}


async def test_part_of_an_object_of_others_is_applied_to_that_very_object(world: _World) -> None:
    world.server.objects["Pod", "finance", "p"] = body("p", 5, spec={"nodeName": "n"})
    assert await world.writer.apply_part(PODS, POD_PART)
    assert world.server.objects["Pod", "finance", "p"]["metadata"]["annotations"] == {"a": "b"}
    told = world.cache.get(PODS, "p", "finance")
    assert told is not None
    assert told["metadata"]["annotations"] == {"a": "b"}, "the next decision sees it"


async def test_no_object_is_made_where_the_one_that_was_meant_is_gone(world: _World) -> None:
    assert not await world.writer.apply_part(PODS, POD_PART)
    assert ("Pod", "finance", "p") not in world.server.objects
    world.server.objects["Pod", "finance", "p"] = body("p", 5, uid="another")
    assert not await world.writer.apply_part(PODS, POD_PART)
    assert "annotations" not in world.server.objects["Pod", "finance", "p"]["metadata"]
