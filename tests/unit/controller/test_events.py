"""People are told of a transition once."""

from typing import Any

from taskfleet.api.fields import Metadata
from taskfleet.controller.events import SILENCE_SECONDS, EventWriter
from taskfleet.kube.errors import ForbiddenError
from taskfleet.kube.resources import SERVING_CLASSES, TASK_MODELS
from taskfleet.planning.plans import Event
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json

TASK = Metadata(name="a", namespace="finance", uid="u-1", resource_version="7")
BAD = Event(type="Warning", reason="ArtifactInvalid", message="rank 64 is above the limit of 16")


class _World:
    def __init__(self) -> None:
        self.now = 0.0
        self.server = MemoryApiServer()
        server: Any = self.server
        self.writer = EventWriter(server, instance="operator-1", clock=lambda: self.now)

    @property
    def told(self) -> list[Json]:
        return [item for key, item in self.server.objects.items() if key[0] == "Event"]


async def test_an_event_says_what_of_whom_and_by_whom() -> None:
    world = _World()
    await world.writer.write(TASK_MODELS, TASK, (BAD,))
    (event,) = world.told
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "ArtifactInvalid", BAD.message)
    assert event["metadata"]["namespace"] == "finance"
    assert (event["regarding"]["kind"], event["regarding"]["uid"]) == ("TaskModel", "u-1")
    assert (event["reportingController"], event["reportingInstance"], event["action"]) == (
        "taskfleet.dev/operator",
        "operator-1",
        "Reconcile",
    )


async def test_what_goes_back_and_forth_is_told_once_in_a_while() -> None:
    world = _World()
    for _ in range(10):
        await world.writer.write(TASK_MODELS, TASK, (BAD,))
    assert len(world.told) == 1
    await world.writer.write(TASK_MODELS, TASK.model_copy(update={"uid": "u-2"}), (BAD,))
    assert len(world.told) == 2, "another object of that name is another object"
    world.now += SILENCE_SECONDS
    await world.writer.write(TASK_MODELS, TASK, (BAD,))
    assert len(world.told) == 3


async def test_events_of_cluster_scoped_objects_stand_in_the_default_namespace() -> None:
    world = _World()
    await world.writer.write(SERVING_CLASSES, Metadata(name="cpu", uid="u-3"), (BAD,))
    assert world.told[0]["metadata"]["namespace"] == "default"


async def test_a_long_message_is_cut_to_what_the_api_takes() -> None:
    world = _World()
    await world.writer.write(TASK_MODELS, TASK, (Event(type="Normal", reason="X", message="y" * 5000),))
    assert len(world.told[0]["note"]) == 1024


async def test_an_event_that_is_not_taken_stops_nothing() -> None:
    world = _World()
    world.server.refuse = ForbiddenError("no", status=403)
    await world.writer.write(TASK_MODELS, TASK, (BAD,))
    assert world.told == []
