"""Reading the cluster's objects tolerantly, and refusing what can't be acted on."""

from typing import Any

import pytest

from taskfleet.gateway.records import Endpoint, UnreadableObjectError, revision_record, slice_record, task_record
from tests.unit.gateway.builders import DIGEST, revision_json, slice_json, task_json, traffic


def test_task_without_status_has_no_traffic() -> None:
    item = task_json()
    del item["status"]
    assert task_record(item).traffic == ()


def test_fields_of_a_newer_version_are_ignored() -> None:
    item = task_json(to=[traffic("vendor-1") | {"mirror": True}])
    item["status"]["mood"] = "good"
    assert task_record(item).traffic[0].revision == "vendor-1"


def test_traffic_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UnreadableObjectError, match="finance/vendor"):
        task_record(task_json(to=[{"revision": "vendor-1"}]))


@pytest.mark.parametrize(
    ("phase", "promoted"), [("Stable", True), ("Superseded", True), ("Pending", False), ("Failed", False), ("", False)]
)
def test_only_revisions_that_had_all_traffic_count_as_promoted(phase: str, promoted: bool) -> None:  # noqa: FBT001  a table's column
    assert revision_record(revision_json(phase=phase)).promoted is promoted


def test_revision_knows_its_task_and_digest() -> None:
    record = revision_record(revision_json())
    assert (record.task_model, record.owner_uid, record.digest, record.has_adapter) == ("vendor", "uid-1", DIGEST, True)


def test_revision_with_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(UnreadableObjectError, match="outputSchema"):
        revision_record(revision_json(settings={"outputSchema": "{"}))


def test_only_ready_agents_become_endpoints() -> None:
    record = slice_record(slice_json("10.0.0.1", "fd00::1"))
    assert record is not None
    assert record.endpoints == (Endpoint("10.0.0.1:8080", "uid-tiny-pool"), Endpoint("[fd00::1]:8080", "uid-tiny-pool"))
    assert _addresses(slice_json("10.0.0.1", ready=False)) == []
    assert _addresses(slice_json("10.0.0.1", ready=None)) == ["10.0.0.1:8080"]


def test_pods_that_may_become_ready_are_told_apart_from_those_that_end() -> None:
    record = slice_record(slice_json("10.0.0.1", ready=False))
    assert record is not None
    assert record.starting == (Endpoint("10.0.0.1:8080", "uid-tiny-pool"),)
    ending = slice_json("10.0.0.1", ready=False)
    ending["endpoints"][0]["conditions"]["terminating"] = True
    ended = slice_record(ending)
    assert ended is not None
    assert (ended.starting, ended.endpoints) == ((), ())


def test_slice_of_another_service_is_none_of_ours() -> None:
    item = slice_json("10.0.0.1")
    item["metadata"]["labels"] = {"kubernetes.io/service-name": "web"}
    assert slice_record(item) is None


def test_service_that_borrows_a_pools_labels_is_none_of_ours() -> None:
    item = slice_json("10.0.0.1")
    item["metadata"]["labels"]["kubernetes.io/service-name"] = "web"
    assert slice_record(item) is None


def test_slice_without_endpoints_is_empty() -> None:
    assert _addresses(slice_json() | {"endpoints": None, "ports": None}) == []


def _addresses(item: dict[str, Any]) -> list[str]:
    record = slice_record(item)
    assert record is not None
    return [endpoint.address for endpoint in record.endpoints]
