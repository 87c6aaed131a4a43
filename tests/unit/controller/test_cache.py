"""The newest version wins, in whatever order versions come, and what is gone stays gone."""

from typing import Any

from taskfleet import names
from taskfleet.api.taskmodel import TaskModel
from taskfleet.controller.cache import Cache, Change, Unreadable
from taskfleet.kube.resources import DEPLOYMENTS, MODEL_POOLS, SERVICES, TASK_MODELS
from tests.unit.controller.objects import Json, body, pool, task_model


def _words(changes: list[Change]) -> list[str]:
    return [
        f"{change.any['metadata']['name']} {'-' if change.old is None else 'o'}{'-' if change.new is None else 'n'}" for change in changes
    ]


def test_an_older_version_never_replaces_a_newer_one() -> None:
    changes: list[Change] = []
    cache = Cache(changes.append)
    assert cache.put(SERVICES, body("a", 10))
    assert not cache.put(SERVICES, body("a", 9)), "a late watch event"
    assert not cache.put(SERVICES, body("a", 10)), "the watch tells of our own write"
    assert cache.put(SERVICES, body("a", 11))
    assert (cache.get(SERVICES, "a", "finance") or {})["metadata"]["resourceVersion"] == "11"
    assert _words(changes) == ["a -n", "a on"]


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.put(SERVICES, body("a", 9))
    assert cache.put(SERVICES, body("a", 10))


def test_a_late_answer_does_not_bring_back_what_is_gone() -> None:
    changes: list[Change] = []
    cache = Cache(changes.append)
    cache.put(SERVICES, body("a", 10))
    assert cache.remove(SERVICES, body("a", 12))
    assert not cache.put(SERVICES, body("a", 11)), "the answer to a write before the deletion"
    assert cache.get(SERVICES, "a", "finance") is None
    assert cache.put(SERVICES, body("a", 13, uid="uid-another")), "another object of that name is another object"
    assert _words(changes) == ["a -n", "a o-", "a -n"]


def test_an_object_that_left_the_selector_may_come_back() -> None:
    """A watch by label tells of a stripped label as of a deletion; our next apply brings the same object back."""
    cache = Cache()
    cache.put(SERVICES, body("a", 10))
    cache.remove(SERVICES, body("a", 12))
    assert cache.put(SERVICES, body("a", 14))


def test_a_deletion_that_comes_late_takes_nothing_newer() -> None:
    cache = Cache()
    cache.put(SERVICES, body("a", 20, uid="uid-second"))
    assert not cache.remove(SERVICES, body("a", 12, uid="uid-first"))
    assert cache.get(SERVICES, "a", "finance") is not None


def test_kinds_and_namespaces_are_kept_apart() -> None:
    cache = Cache()
    cache.put(SERVICES, body("a", 1))
    cache.put(DEPLOYMENTS, body("a", 2))
    cache.put(SERVICES, body("a", 3, namespace="legal", uid="uid-legal"))
    assert [item["metadata"]["uid"] for item in cache.bodies(SERVICES, "legal")] == ["uid-legal"]
    assert cache.count(SERVICES) == 2
    cache.remove(SERVICES, body("a", 4, namespace="legal", uid="uid-legal"))
    assert list(cache.bodies(SERVICES, "legal")) == []
    assert list(cache.bodies(SERVICES, "finance")) != []


def test_objects_are_parsed_once_per_version() -> None:
    cache = Cache()
    cache.put(TASK_MODELS, task_model("a", 1))
    first = cache.parsed(TASK_MODELS, TaskModel, "a", "finance")
    assert isinstance(first, TaskModel)
    assert cache.parsed(TASK_MODELS, TaskModel, "a", "finance") is first
    cache.put(TASK_MODELS, task_model("a", 2, suspend=True))
    second = cache.parsed(TASK_MODELS, TaskModel, "a", "finance")
    assert isinstance(second, TaskModel)
    assert second.spec.suspend


def test_an_object_that_cant_be_read_says_which_field_and_spoils_no_list() -> None:
    cache = Cache()
    cache.put(TASK_MODELS, task_model("bad", 1, isolation="Sometimes"))
    cache.put(TASK_MODELS, task_model("good", 2))
    fault = cache.parsed(TASK_MODELS, TaskModel, "bad", "finance")
    assert isinstance(fault, Unreadable)
    assert fault.message.startswith("spec.isolation")
    assert [task.metadata.name for task in cache.readable(TASK_MODELS, TaskModel, "finance")] == ["good"]


def test_the_fingerprint_of_our_fields_changes_when_somebody_takes_one() -> None:
    cache = Cache()
    cache.put(SERVICES, body("a", 1, owned={"f:spec": {"f:type": {}, "f:ports": {}}}))
    ours = cache.owned(SERVICES, "a", "finance")
    cache.put(SERVICES, body("a", 2, owned={"f:spec": {"f:ports": {}, "f:type": {}}}, status={"ok": True}))
    assert cache.owned(SERVICES, "a", "finance") == ours, "another's write of another field"
    cache.put(SERVICES, body("a", 3, owned={"f:spec": {"f:ports": {}}}))
    assert cache.owned(SERVICES, "a", "finance") != ours
    assert cache.owned(SERVICES, "none", "finance") is None


def test_field_sets_that_somebody_nested_without_end_in_our_name_are_taken_in() -> None:
    """The API server keeps what a tenant writes into managedFields."""
    nested: dict[str, Any] = {}
    for _ in range(1_000):
        nested = {"f:a": nested}
    forged = task_model("a", 5)
    forged["metadata"]["managedFields"] = [{"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": nested}]
    cache = Cache()
    assert cache.put(TASK_MODELS, forged)
    assert isinstance(cache.parsed(TASK_MODELS, TaskModel, "a", "finance"), TaskModel)


def test_whoever_else_has_the_replicas_is_known() -> None:
    cache = Cache()

    def managed(version: int, *entries: tuple[str, str, Json]) -> str:
        found = pool("tiny", version)
        found["metadata"]["managedFields"] = [
            {"manager": manager, "operation": "Update", "subresource": part, "fieldsV1": owned} for manager, part, owned in entries
        ]
        cache.put(MODEL_POOLS, found)
        return cache.scaler(MODEL_POOLS, "tiny", "finance")

    replicas: Json = {"f:spec": {"f:replicas": {}}}
    assert cache.scaler(MODEL_POOLS, "tiny", "finance") == ""
    assert managed(1, (names.FIELD_MANAGER, "", replicas), ("kubectl", "", {"f:metadata": {}})) == ""
    assert (
        managed(2, (names.FIELD_MANAGER, "", {"f:spec": {}}), ("kube-controller-manager", "scale", replicas)) == "kube-controller-manager"
    )
    assert managed(3, (names.FIELD_MANAGER, "", replicas), ("keda", "scale", replicas)) == "keda"
