"""Replicas on their way into a ModelPool, and whose they are."""

from typing import Any

import pytest

from taskfleet.api.fields import Model
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.taskmodel import TaskModel
from taskfleet.controller.cache import Cache
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.packing import PackingReconciler
from taskfleet.controller.queue import RetryError
from taskfleet.controller.scaledown import Prepared, Refused
from taskfleet.controller.writer import RefusedError, Writer
from taskfleet.kube.errors import ForbiddenError, KubeError, UnavailableError
from taskfleet.kube.resources import MODEL_POOLS, SERVING_CLASSES, TASK_MODEL_REVISIONS, TASK_MODELS, Resource
from taskfleet.planning.snapshot import PodView
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json
from tests.unit.planning.builders import digest, key_for, revision_of, serving_class, task_model

TASK = task_model(scaling={"minReplicas": 0, "maxReplicas": 8})
KEY = key_for(TASK)
NAME = KEY.pool_name(0)
BUILTIN, EXTERNAL = "Builtin", "External"


class _Resolutions:
    def found(self, _: str) -> None:
        return None


class _World:
    """One task in one pool. `decision` is the autoscaler's."""

    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.version = 1
        self.decision: int | None = None
        self.postponed: list[str] = []
        self.prepared: list[int] = []
        self.released: list[tuple[str, ...]] = []
        self.answer: Prepared | Refused = Prepared(leaving=("tiny-0",), closed=("tiny-0",))
        self.restart()

    def restart(self) -> None:
        """An operator that knows what the API server has, and nothing else."""
        server: Any = self.server
        scaler: Any = self
        resolutions: Any = _Resolutions()
        self.cache = Cache()
        self.fleet = Fleet(self.cache)
        self.cache.notify = self.fleet.index
        self.packing = PackingReconciler(
            fleet=self.fleet,
            writer=Writer(server, self.cache),
            resolutions=resolutions,
            autoscaler=scaler,
            scale_down=scaler,
            refuse_pool=lambda *_: None,
        )
        self.add(TASK)
        self.autoscaler(BUILTIN)
        if (found := self.server.objects.get(("ModelPool", KEY.namespace, NAME))) is not None:
            self.cache.put(MODEL_POOLS, found)

    def put(self, resource: Resource, model: Model, *, owner: str = "") -> None:
        self.version += 1
        found = model.to_json()
        found["metadata"]["resourceVersion"] = str(self.version)
        if owner:
            found["metadata"]["ownerReferences"] = [{"apiVersion": "taskfleet.dev/v1alpha1", "kind": owner, "name": "owner", "uid": "u"}]
        self.cache.put(resource, found)

    def add(self, task: TaskModel) -> None:
        self.put(TASK_MODELS, task)
        self.put(TASK_MODEL_REVISIONS, revision_of(task, digest=digest("a")), owner="TaskModel")

    def autoscaler(self, who: str) -> None:
        self.put(SERVING_CLASSES, serving_class(scaling={"autoscaler": who, "minReplicas": 0, "maxReplicas": 8}))

    def decided(self, _: ModelPool) -> int | None:
        return self.decision

    def postpone(self, pool: ModelPool) -> None:
        self.postponed.append(pool.metadata.name)

    async def prepare(self, _: ModelPool, __: list[PodView], wanted: int, *, idle_seconds: float) -> Prepared | Refused:
        assert idle_seconds > 0
        self.prepared.append(wanted)
        return self.answer

    async def release(self, _: ModelPool, prepared: Prepared) -> None:
        self.released.append(prepared.closed)

    async def has(self, replicas: int) -> None:
        """A pool of this size."""
        await self.pack()
        await self.pack(replicas)

    async def pack(self, decision: int | None = None) -> int:
        """The replicas that the API server has after it."""
        self.decision = decision
        await self.packing.reconcile(KEY)
        return self.replicas

    @property
    def live(self) -> Json:
        return self.server.objects["ModelPool", KEY.namespace, NAME]

    @property
    def replicas(self) -> int:
        found: int = self.live["spec"]["replicas"]
        return found

    @property
    def owners(self) -> list[str]:
        return [entry["manager"] for entry in self.live["metadata"]["managedFields"] if "f:replicas" in entry["fieldsV1"].get("f:spec", {})]

    def scale(self, replicas: int, *, told: bool = True) -> None:
        """An HPA writes. `told`: the watch has told of it."""
        found = self.server.edit(MODEL_POOLS, NAME, takes="replicas", manager="hpa", replicas=replicas)
        if told:
            self.cache.put(MODEL_POOLS, found)


@pytest.fixture
def world() -> _World:
    return _World()


async def test_a_decision_is_written_once(world: _World) -> None:
    assert await world.pack() == 1
    assert await world.pack(4) == 4
    writes = len(world.server.writes)
    assert await world.pack(4) == 4
    assert await world.pack(0) == 0
    assert len(world.server.writes) == writes + 1


async def test_fewer_pods_are_written_after_those_that_go_are_prepared(world: _World) -> None:
    await world.has(4)
    assert world.prepared == []
    assert await world.pack(2) == 2
    assert await world.pack(0) == 0
    assert (world.prepared, world.released, world.postponed) == ([2, 0], [], [])


async def test_a_pod_in_use_keeps_the_pool_and_everything_else_is_written(world: _World) -> None:
    await world.has(1)
    world.answer = Refused("pod tiny-0 has 1 requests in flight")
    world.add(task_model("vendor", scaling={"minReplicas": 0}))
    assert await world.pack(0) == 1
    assert (world.postponed, len(world.live["spec"]["members"])) == ([NAME], 2)


@pytest.mark.parametrize(("error", "told"), [(UnavailableError("away"), RetryError), (ForbiddenError("quota"), RefusedError)])
async def test_pods_are_opened_again_where_fewer_could_not_be_written(world: _World, error: KubeError, told: type[Exception]) -> None:
    await world.has(1)
    world.server.refuse = error
    with pytest.raises(told):
        await world.pack(0)
    assert world.released == [("tiny-0",)]


async def test_what_a_person_scaled_is_put_back(world: _World) -> None:
    await world.has(4)
    world.scale(7)
    assert await world.pack(4) == 4
    assert world.owners == ["taskfleet-operator"]


async def test_another_autoscaler_takes_over_and_gives_back_without_a_jump(world: _World) -> None:
    await world.has(3)
    world.autoscaler(EXTERNAL)
    assert await world.pack() == 3
    assert world.owners == ["taskfleet-operator"], "nobody else has it yet"
    world.scale(5)
    assert await world.pack() == 5
    assert world.owners == ["hpa"]
    world.scale(6)
    writes = len(world.server.writes)
    assert await world.pack() == 6
    assert len(world.server.writes) == writes
    world.autoscaler(BUILTIN)
    assert await world.pack() == 6
    assert world.owners == ["taskfleet-operator"]
    assert await world.pack(2) == 2


async def test_what_another_autoscaler_has_written_meanwhile_is_not_overwritten(world: _World) -> None:
    await world.has(3)
    world.autoscaler(EXTERNAL)
    await world.pack()
    world.scale(5, told=False)
    # The pool is written for another reason, with what is known of its replicas.
    world.add(task_model("vendor", scaling={"maxReplicas": 8}))
    with pytest.raises(RetryError):
        await world.pack()
    assert world.replicas == 5
    world.cache.put(MODEL_POOLS, world.live)
    assert await world.pack() == 5
    assert (world.owners, len(world.live["spec"]["members"])) == (["hpa"], 2)


async def test_a_mode_that_was_changed_while_the_operator_was_away_is_settled_by_one_apply(world: _World) -> None:
    await world.has(3)
    world.scale(5)
    world.restart()
    assert await world.pack() == 5
    assert world.owners == ["taskfleet-operator"]
    world.scale(7)
    assert await world.pack(5) == 5
