"""The count in the last line of `make test`, and the status that continuous integration goes by."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local.instance import REPOSITORY
from tests.lanes import cluster_of_lane, clusters_of_lanes
from tests.tiers import BESIDE, Count, count_of, grouped

REPORT = """<?xml version="1.0"?>
<testsuites>
  <testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" time="1.0"/>
</testsuites>
"""


def test_report_is_counted_with_errors_as_failures(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert count_of(tmp_path / "report.xml") == Count(passed=4, failed=3, skipped=3)


def test_last_line_sums_the_tiers() -> None:
    assert str(Count(passed=100, skipped=1) + Count(passed=23, failed=0, skipped=1)) == "123 passed, 0 failed, 2 skipped"


@pytest.mark.parametrize(("tier", "status"), [("no-such-tier", 2), ("--help", 0)])
def test_unknown_tier_is_refused_and_help_is_given(tier: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.tiers", tier], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "apiserver" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("status", "counted", "total"), [(0, Count(passed=2), Count(passed=2)), (3, Count(passed=2), Count(passed=2, failed=1))]
)
def test_tier_that_crashed_is_a_failure_whatever_its_report_says(status: int, counted: Count, total: Count) -> None:
    assert counted.with_status(status) == total


@pytest.mark.parametrize(
    ("tiers", "groups"),
    [
        (["unit", "apiserver", "engine", "cluster"], [("unit",), BESIDE, ("cluster",)]),
        (["engine"], [("engine",)]),
        (["apiserver", "cluster"], [("apiserver",), ("cluster",)]),
        (["engine", "apiserver"], [("engine",), ("apiserver",)]),
    ],
)
def test_tiers_that_go_together_run_at_the_same_time(tiers: list[str], groups: list[tuple[str, ...]]) -> None:
    assert grouped(tiers) == groups


@pytest.mark.parametrize(("lane", "cluster"), [("", "test"), ("gw0", "test-gw0"), ("gw1", "test-gw1")])
def test_every_lane_has_a_cluster_of_its_own_and_all_of_them_are_taken_down(
    monkeypatch: pytest.MonkeyPatch, lane: str, cluster: str
) -> None:
    monkeypatch.delenv("TASKFLEET_TEST_CLUSTER", raising=False)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", lane)
    assert cluster_of_lane() == cluster
    assert cluster in clusters_of_lanes("test", 2)
