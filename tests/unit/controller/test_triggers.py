"""A change is told to those whose decisions it concerns, and to nobody else."""

import pytest

from taskfleet import names
from taskfleet.controller.cache import Cache, Change
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import ClassKey, Key, PoolKey, TaskKey
from taskfleet.controller.triggers import keys_of
from taskfleet.kube.resources import (
    DEPLOYMENTS,
    MODEL_POOLS,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVING_CLASSES,
    TASK_MODEL_REVISIONS,
    TASK_MODELS,
    Resource,
)
from taskfleet.planning.packing_key import PackingKey
from tests.unit.controller.objects import Json, body, pool, revision, task_model

PACKING = PackingKey(namespace="finance", base_source="oci://registry.example/tiny", base_revision="v1", serving_class="cpu")


class _World:
    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.cache = Cache(self._changed)
        self.fleet = Fleet(self.cache)

    def _changed(self, change: Change) -> None:
        self.fleet.index(change)
        self.keys += keys_of(change, self.fleet)

    def put(self, resource: Resource, item: Json) -> set[Key]:
        self.keys.clear()
        self.cache.put(resource, item)
        return set(self.keys)

    def remove(self, resource: Resource, item: Json) -> set[Key]:
        self.keys.clear()
        self.cache.remove(resource, item)
        return set(self.keys)


@pytest.fixture
def world() -> _World:
    return _World()


def test_a_task_model_concerns_itself(world: _World) -> None:
    assert world.put(TASK_MODELS, task_model("a", 1)) == {TaskKey("finance", "a")}
    assert world.remove(TASK_MODELS, task_model("a", 2)) == {TaskKey("finance", "a")}


def test_a_revision_concerns_its_task_and_the_pools_that_have_it(world: _World) -> None:
    world.put(MODEL_POOLS, pool("tiny", 1, ("a", "a-1")))
    world.put(MODEL_POOLS, pool("other", 2, ("b", "b-1")))
    assert world.put(TASK_MODEL_REVISIONS, revision("a-1", 3, task="a")) == {TaskKey("finance", "a"), PoolKey("finance", "tiny")}


def test_a_new_pool_concerns_itself_its_packing_and_its_tasks(world: _World) -> None:
    found = world.put(MODEL_POOLS, pool("tiny", 1, ("a", "a-1"), ("b", "b-1")))
    assert found == {PoolKey("finance", "tiny"), PACKING, TaskKey("finance", "a"), TaskKey("finance", "b")}


def test_a_pools_word_on_one_member_concerns_that_task_only(world: _World) -> None:
    members = [("a", "a-1"), ("b", "b-1")]
    states = [{"revision": "a-1", "state": "Pending", "reason": "Loading"}, {"revision": "b-1", "state": "Proven", "reason": "Proven"}]
    world.put(MODEL_POOLS, pool("tiny", 1, *members, status={"members": states}))
    proven = [{**states[0], "state": "Proven", "reason": "Proven"}, states[1]]
    found = world.put(MODEL_POOLS, pool("tiny", 2, *members, status={"members": proven}))
    assert found == {PoolKey("finance", "tiny"), TaskKey("finance", "a")}


def test_a_pools_conditions_concern_all_its_tasks(world: _World) -> None:
    members = [("a", "a-1"), ("b", "b-1")]
    world.put(MODEL_POOLS, pool("tiny", 1, *members))
    condition = {"type": "Available", "status": "True", "reason": "Serving", "message": ""}
    found = world.put(MODEL_POOLS, pool("tiny", 2, *members, status={"conditions": [condition]}))
    assert found == {PoolKey("finance", "tiny"), TaskKey("finance", "a"), TaskKey("finance", "b")}


def test_a_pool_that_somebody_edited_or_deleted_concerns_its_packing(world: _World) -> None:
    world.put(MODEL_POOLS, pool("tiny", 1, ("a", "a-1")))
    assert PACKING in world.put(MODEL_POOLS, pool("tiny", 2, ("a", "a-1"), replicas=7))
    assert world.remove(MODEL_POOLS, pool("tiny", 3, ("a", "a-1"))) == {PoolKey("finance", "tiny"), PACKING, TaskKey("finance", "a")}


@pytest.mark.parametrize("resource", [DEPLOYMENTS, PODS])
def test_a_child_concerns_its_pool_also_when_its_label_was_taken(world: _World, resource: Resource) -> None:
    labelled = body("x", 1, labels={names.LABEL_POOL: "tiny"})
    assert world.put(resource, labelled) == {PoolKey("finance", "tiny")}
    assert world.put(resource, body("x", 2)) == {PoolKey("finance", "tiny")}
    assert world.put(resource, body("x", 3)) == set()


def test_a_class_concerns_its_users_and_those_that_wait_for_one(world: _World) -> None:
    world.put(TASK_MODELS, task_model("named", 1, servingClassName="cpu"))
    world.put(TASK_MODELS, task_model("defaulted", 2) | {"status": {"servingClassName": "cpu"}})
    world.put(TASK_MODELS, task_model("waiting", 3))
    world.put(TASK_MODELS, task_model("elsewhere", 4, servingClassName="l4"))
    world.put(MODEL_POOLS, pool("tiny", 5))
    cpu = body("cpu", 6, namespace="", spec={"engine": {"type": "vLLM"}})
    users = {TaskKey("finance", "named"), TaskKey("finance", "defaulted"), TaskKey("finance", "waiting")}
    assert world.put(SERVING_CLASSES, cpu) == {ClassKey("cpu"), PoolKey("finance", "tiny"), PACKING} | users
    spoken = body("cpu", 7, namespace="", spec={"engine": {"type": "vLLM"}}, status={"observedGeneration": 1})
    assert world.put(SERVING_CLASSES, spoken) == {ClassKey("cpu")}, "its own status concerns nobody else"


def test_a_namespaces_labels_concern_its_tasks(world: _World) -> None:
    world.put(TASK_MODELS, task_model("a", 1))
    world.put(
        TASK_MODELS,
        task_model("a", 2, namespace="legal") | {"metadata": {**task_model("a", 2, namespace="legal")["metadata"], "uid": "u2"}},
    )
    assert world.put(NAMESPACES, body("finance", 3, namespace="")) == set()
    assert world.put(NAMESPACES, body("finance", 4, namespace="", labels={"team": "x"})) == {TaskKey("finance", "a")}


def test_a_pool_that_cant_be_read_goes_without_a_crash(world: _World) -> None:
    broken = pool("tiny", 1, ("a", "a-1"))
    broken["spec"]["isolation"] = "Sometimes"
    assert PoolKey("finance", "tiny") in world.put(MODEL_POOLS, broken)
    gone = pool("tiny", 2, ("a", "a-1"))
    gone["spec"]["isolation"] = "Sometimes"
    assert world.remove(MODEL_POOLS, gone) == {PoolKey("finance", "tiny"), TaskKey("finance", "a")}


def test_a_claim_concerns_the_tasks_that_name_it_when_it_is_offered_and_when_it_is_not_any_more(world: _World) -> None:
    named = {"source": "pvc://models/a", "version": "v1"}
    world.put(TASK_MODELS, task_model("a", 1, adapter=named))
    world.put(TASK_MODELS, task_model("b", 2, base={"source": "pvc://models", "revision": "v1"}))
    world.put(TASK_MODELS, task_model("c", 3, adapter={**named, "source": "pvc://models-too/c"}))
    world.put(TASK_MODELS, task_model("d", 4))
    both = {TaskKey("finance", "a"), TaskKey("finance", "b")}
    offered = {names.LABEL_ARTIFACTS: "true"}
    assert world.put(PERSISTENT_VOLUME_CLAIMS, body("models", 5, labels=offered)) == both
    assert world.fleet.claims("finance") == {"models"}
    assert world.fleet.claims("legal") == frozenset()
    assert world.put(PERSISTENT_VOLUME_CLAIMS, body("models", 6, labels=offered, status={"phase": "Bound"})) == set()
    ending = body("models", 7, labels=offered)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert world.put(PERSISTENT_VOLUME_CLAIMS, ending) == both
    assert world.fleet.claims("finance") == frozenset(), "what is being deleted is offered no more"
    assert world.remove(PERSISTENT_VOLUME_CLAIMS, body("models", 8, labels=offered)) == set()


def test_somebody_elses_pool_or_revision_concerns_nobody_until_it_goes(world: _World) -> None:
    world.put(TASK_MODELS, task_model("a", 1))
    base = {"source": "oci://registry.example/tiny", "revision": "v1"}
    theirs = body("tiny", 2, spec={"servingClassName": "cpu", "base": base, "members": []})
    assert world.put(MODEL_POOLS, theirs) == {PoolKey("finance", "tiny")}
    assert world.fleet.pools("finance") == ()
    assert world.fleet.pool(PoolKey("finance", "tiny")) is None
    assert world.remove(MODEL_POOLS, body("tiny", 3)) == {PoolKey("finance", "tiny"), TaskKey("finance", "a")}
    assert world.put(TASK_MODEL_REVISIONS, body("a-1", 4, spec={"taskModelName": "a", "base": base})) == set()
    assert world.fleet.revisions(TaskKey("finance", "a")) == ()
    assert world.remove(TASK_MODEL_REVISIONS, body("a-1", 5)) == {TaskKey("finance", "a")}


@pytest.mark.parametrize(
    "members", ["nonsense", [{"revision": "a-1"}], [{"taskModel": "a"}], ["a"], [{"revision": "a-1", "taskModel": "a"}]]
)
def test_a_pool_of_another_version_of_the_kind_comes_changes_and_goes_without_an_error(world: _World, members: object) -> None:
    for version, status in ((1, {}), (2, {"conditions": [{"type": "Odd"}], "members": "nonsense"})):
        odd = body("tiny", version, owner="TaskModelRevision", spec={"members": members}, status=status)
        assert PoolKey("finance", "tiny") in world.put(MODEL_POOLS, odd)
    assert PoolKey("finance", "tiny") in world.remove(MODEL_POOLS, body("tiny", 3))


def test_a_strangers_text_in_a_status_is_no_label_of_a_metric(world: _World) -> None:
    told = [
        {"type": kind, "status": "True", "reason": "R", "message": "", "observedGeneration": 1, "lastTransitionTime": ""}
        for kind in ("Ready", 'x"} 1')
    ]
    world.put(TASK_MODELS, task_model("a", 1) | {"status": {"conditions": told}})
    assert world.fleet.condition_counts() == {("TaskModel", "Ready", "True"): 1}
