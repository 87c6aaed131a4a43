"""`python -m tests.tiers [TIER…]`: the test tiers one after the other, on a cluster of their own, and their count in the last line.

The exit status is zero only if nothing failed. A tier that ends without a report (it crashed, or was interrupted) counts as one failure.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.cluster.local.backends import end
from tests.cluster.local.failures import ClusterError
from tests.cluster.local.instance import REPOSITORY
from tests.cluster.local.progress import Progress

# In this order: what is fast and fundamental first.
TIERS = ("unit", "apiserver", "engine", "cluster")
INSTANCE = "test"


@dataclass(frozen=True, slots=True)
class Count:
    """Tests by outcome."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def with_status(self, status: int) -> "Count":
        """With one failure more where pytest's exit status tells of one that the report does not."""
        return self + Count(failed=1) if status and not self.failed else self

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tiers", description=__doc__)
    parser.add_argument("tiers", nargs="*", default=list(TIERS), metavar="TIER", help=f"of {', '.join(TIERS)} (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave the test cluster running at the end")
    chosen = parser.parse_args()
    if unknown := set(chosen.tiers) - set(TIERS):
        parser.error(f"no such tier: {', '.join(sorted(unknown))}; there are {', '.join(TIERS)}")
    signal.signal(signal.SIGTERM, _as_interrupt)
    progress = Progress()
    total = Count()
    try:
        for tier in chosen.tiers:
            total += _run(tier, progress)
    except KeyboardInterrupt:
        progress.say("interrupted")
        total += Count(failed=1)
    finally:
        total += _take_down(keep=chosen.keep, progress=progress)
    print(total, flush=True)
    return 1 if total.failed else 0


def _run(tier: str, progress: Progress) -> Count:
    progress.say(f"tests/{tier}")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="taskfleet-tests-") as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"tests/{tier}", f"--junitxml={report}", "-q"]
        # A session of its own: an interrupt from the terminal would reach pytest twice, and the second one cuts its fixtures' clean-up short.
        process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "TASKFLEET_TEST_CLUSTER": INSTANCE}, start_new_session=True)
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _await_end(process)
            raise
        count = count_of(report) if report.is_file() else Count()
    count = count.with_status(status)
    progress.say(f"tests/{tier}: {count} in {time.monotonic() - begin:.0f} s")
    return count


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def count_of(report: Path) -> Count:
    """The outcome of a tier by its JUnit report."""
    suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314  written by pytest a moment ago
    total = Count()
    for suite in suites:
        tests, skipped = int(suite.get("tests", "0")), int(suite.get("skipped", "0"))
        failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        total += Count(passed=max(0, tests - failed - skipped), failed=failed, skipped=skipped)
    return total


def _take_down(*, keep: bool, progress: Progress) -> Count:
    if keep:
        return Count()
    try:
        end(INSTANCE, progress)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return Count(failed=1)
    return Count()


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
