"""The annotation that says which pods go first."""

import pytest

from taskfleet.planning.snapshot import PodView
from taskfleet.resources.deletion_cost import deletion_cost
from taskfleet.resources.observed import pod_view


def test_cost_that_was_written_is_read_again() -> None:
    written = deletion_cost(PodView(name="p", uid="u"), namespace="finance", cost=-1)
    assert written["metadata"].keys() == {"name", "namespace", "uid", "annotations"}
    assert pod_view(written).deletion_cost == -1


@pytest.mark.parametrize(
    ("text", "cost"),
    [("0", 0), ("-7", -7), ("2147483647", 2147483647), ("2147483648", 0), ("+1", 0), ("07", 0), ("much", 0), ("", 0), ("1e3", 0)],
)
def test_cost_of_others_counts_as_kubernetes_counts_it(text: str, cost: int) -> None:
    metadata = {"name": "p", "annotations": {"controller.kubernetes.io/pod-deletion-cost": text}}
    assert pod_view({"metadata": metadata}).deletion_cost == cost


def test_age_is_read() -> None:
    view = pod_view({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:05Z"}})
    assert view.created_at is not None
    assert view.created_at.isoformat() == "2026-01-01T00:00:05+00:00"
