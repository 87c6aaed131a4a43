"""`python -m tests.tiers [TIER…]`: the test tiers, on clusters of their own, and their count in the last line.

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
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.cluster.local.backends import end
from tests.cluster.local.failures import ClusterError
from tests.cluster.local.instance import REPOSITORY
from tests.cluster.local.progress import Progress
from tests.lanes import clusters_of_lanes

# In this order: what is fast and fundamental first.
TIERS = ("unit", "apiserver", "engine", "cluster")
# Side by side: tests on an API server mostly wait, and neither tier uses anything of the other's.
BESIDE = ("apiserver", "engine")
INSTANCE = "test"
# Tests wait more than they compute: two at a time keep two cores busy. Those of the engine share one process of real vLLM.
LANES = {"unit": 2, "apiserver": 2, "engine": 1, "cluster": 2}
# Tests whose times are printed for each tier.
SLOWEST = 15


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
    parser.add_argument("--keep", action="store_true", help="leave the test clusters running at the end")
    chosen = parser.parse_args()
    if unknown := set(chosen.tiers) - set(TIERS):
        parser.error(f"no such tier: {', '.join(sorted(unknown))}; there are {', '.join(TIERS)}")
    signal.signal(signal.SIGTERM, _as_interrupt)
    progress = Progress()
    total = Count()
    try:
        for group in grouped(chosen.tiers):
            total += _run(group, progress)
    except KeyboardInterrupt:
        progress.say("interrupted")
        total += Count(failed=1)
    finally:
        total += _take_down(keep=chosen.keep, progress=progress)
    print(total, flush=True)
    return 1 if total.failed else 0


def grouped(tiers: Sequence[str]) -> list[tuple[str, ...]]:
    """Tiers that run at the same time, in their order."""
    groups: list[tuple[str, ...]] = []
    for tier in tiers:
        if groups and (*groups[-1], tier) == BESIDE:
            groups[-1] = BESIDE
        else:
            groups.append((tier,))
    return groups


@dataclass(frozen=True, slots=True)
class TierRun:
    """A tier that runs. `output` is where it writes, to be printed at its end; None: the terminal."""

    tier: str
    process: "subprocess.Popen[bytes]"
    report: Path
    output: Path | None
    begun: float


def _run(tiers: tuple[str, ...], progress: Progress) -> Count:
    total = Count()
    with tempfile.TemporaryDirectory(prefix="taskfleet-tests-") as scratch:
        runs = [_start(tier, Path(scratch), progress, aside=tier != tiers[-1]) for tier in tiers]
        try:
            # The last one writes to the terminal: the others are told of when it has ended.
            for run in reversed(runs):
                run.process.wait()
                total += _ended(run, progress)
        except KeyboardInterrupt:
            for run in runs:
                run.process.send_signal(signal.SIGINT)
            for run in runs:
                _await_end(run.process)
            raise
    return total


def _start(tier: str, scratch: Path, progress: Progress, *, aside: bool) -> TierRun:
    progress.say(f"tests/{tier}{' (told of at its end)' if aside else ''}")
    report, output = scratch / f"{tier}.xml", scratch / f"{tier}.txt" if aside else None
    lanes = ["--numprocesses", str(LANES[tier]), "--dist", "loadfile"] if LANES[tier] > 1 else []
    command = [sys.executable, "-m", "pytest", f"tests/{tier}", f"--junitxml={report}", "-q", f"--durations={SLOWEST}", *lanes]
    environment = {**os.environ, "TASKFLEET_TEST_CLUSTER": INSTANCE}
    with output.open("wb") if output is not None else nullcontext() as written:
        # A session of its own: an interrupt from the terminal would reach pytest twice, and the second one cuts its fixtures' clean-up short.
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
            stdout=written,
            stderr=subprocess.STDOUT if written is not None else None,
        )
    return TierRun(tier, process, report, output, time.monotonic())


def _ended(run: TierRun, progress: Progress) -> Count:
    if run.output is not None:
        print(run.output.read_text(errors="replace"), flush=True)
    count = (count_of(run.report) if run.report.is_file() else Count()).with_status(run.process.returncode)
    progress.say(f"tests/{run.tier}: {count} in {time.monotonic() - run.begun:.0f} s")
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
    total = Count()
    for name in clusters_of_lanes(INSTANCE, max(LANES.values())):
        try:
            end(name, progress)
        except ClusterError as error:
            print(error, file=sys.stderr)
            total += Count(failed=1)
    return total


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
