"""What `taskfleet rollout status` and `history` say, state by state: whole outputs in `golden/` (UPDATE_GOLDEN=1 writes them anew), and the exit codes."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from taskfleet import names
from taskfleet.cli.rollout.history import table
from taskfleet.cli.rollout.report import report
from taskfleet.cli.rollout.showing import console
from taskfleet.cli.rollout.state import ExitCode
from taskfleet.cli.rollout.tree import tree
from taskfleet.cli.rollout.view import JobSeen, View
from tests.unit.cli.views import measured, paused, rejected, stepping, version, view, with_annotation
from tests.unit.planning.builders import NOW, task_model

GOLDEN = Path(__file__).parent / "golden"
V7, V8 = version(7).metadata.name, version(8).metadata.name


def evaluating() -> View:
    job = JobSeen(name=f"{V8}-eval-2", revision=V8, state="Running")
    gate = {"attempt": 2, "job": job.name, "comparedWith": V7}
    return view(phase="Evaluating", weights=(100, 0), rollout={"gate": gate, "message": "measuring 200 examples"}, jobs=(job,))


def unmeasurable() -> View:
    job = JobSeen(name=f"{V8}-eval-5", revision=V8, state="Failed")
    gate = {"attempt": 5, "job": job.name, "message": "the ConfigMap golden has no key golden.jsonl"}
    rollout = {"hold": "GateUnmeasurable", "gate": gate, "message": gate["message"]}
    return view(phase="Evaluating", weights=(100, 0), rollout=rollout, jobs=(job,))


def shadowing() -> View:
    found = stepping()
    target = found.task.status.traffic[1].model_copy(update={"shadow_percent": 20})
    status = found.task.status.model_copy(update={"traffic": [found.task.status.traffic[0], target]})
    return View(task=found.task.model_copy(update={"status": status}), revisions=found.revisions, pools=found.pools, pods=None, jobs=None)


def done() -> View:
    name = version(8).metadata.name
    verdict = {"outcome": "Promoted", "reason": "UpToDate", "message": "score 97.5 %", "at": "2026-01-01T11:58:00Z"}
    candidate = version(8, phase="Stable", verdict=verdict, evaluation=measured(name, V7), promotedAt="2026-01-01T11:58:00Z")
    status = {"stable": {"revision": name}, "candidate": None}
    return view(phase="Done", weights=(0, 100), candidate=candidate, status=status, rollout={"message": f"{name} serves"})


def refused() -> View:
    condition = {"type": "Accepted", "status": "False", "reason": "InvalidSchema", "message": "spec.task.outputSchema: not a JSON Schema"}
    common = {"observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ready = {"type": "Ready", "status": "False", "reason": "NoReadyPods", "message": "no pod of the pool is Ready"}
    return view(phase="Done", weights=(100, 0), status={"conditions": [condition | common, ready | common]})


STATES: dict[str, tuple[Callable[[], View], ExitCode]] = {
    "nothing_yet": (lambda: View(task=task_model()), ExitCode.UNDER_WAY),
    "proving": (lambda: view(phase="Proving", weights=(100, 0), rollout={"message": f"{V8}: loading"}), ExitCode.UNDER_WAY),
    "evaluating": (evaluating, ExitCode.UNDER_WAY),
    "unmeasurable": (unmeasurable, ExitCode.HELD),
    "stepping": (stepping, ExitCode.UNDER_WAY),
    "shadowing_without_rights": (shadowing, ExitCode.UNDER_WAY),
    "paused": (paused, ExitCode.HELD),
    "suspended": (lambda: stepping(suspend=True), ExitCode.HELD),
    "done": (done, ExitCode.DONE),
    "rejected": (rejected, ExitCode.FAILED),
    "failed": (lambda: view(phase="Failed", weights=(100, 0), rollout={"message": f"{V8}: the rank is 64"}), ExitCode.FAILED),
    "refused": (refused, ExitCode.FAILED),
}


def drawn(picture: RenderableType) -> str:
    screen = Console(file=io.StringIO(), width=10_000, highlight=False)
    screen.print(picture, soft_wrap=True)
    assert isinstance(screen.file, io.StringIO)
    return "\n".join(line.rstrip() for line in screen.file.getvalue().splitlines()) + "\n"


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("state", STATES)
def test_status_draws(state: str) -> None:
    make, code = STATES[state]
    found = report(make())
    assert_golden(f"status_{state}", drawn(tree(found, now=NOW)))
    assert found.exit_code == code


@pytest.mark.parametrize("state", ["done", "rejected"])
def test_history_tells_verdicts_figures_and_times(state: str) -> None:
    assert_golden(f"history_{state}", drawn(table(report(STATES[state][0]()))))


def test_json_carries_what_the_tree_shows() -> None:
    content = json.loads(json.dumps(report(rejected()).to_json()))
    assert (content["state"], content["exitCode"], content["namespace"]) == ("Rejected", 1, "finance")
    newest, serving, _ = content["revisions"]
    assert newest["verdict"]["reason"] == "GateFailed"
    assert newest["evaluation"]["candidate"]["scorePercent"] == 71.5
    assert (serving["version"], serving["weightPercent"], serving["stable"]) == ("v7", 100, True)


def test_a_change_of_the_spec_that_nobody_has_seen_is_under_way() -> None:
    """A pipeline that applies and then asks is never told of the rollout before."""
    found = done()
    metadata = found.task.metadata.model_copy(update={"generation": 2})
    later = View(task=found.task.model_copy(update={"metadata": metadata}), revisions=found.revisions)
    assert report(later).exit_code == ExitCode.UNDER_WAY


def test_a_retry_is_under_way_until_the_operator_has_acted_on_it() -> None:
    value = f"{V8}@20260101T120000Z"
    asked = with_annotation(rejected(), names.ANNOTATION_RETRY, value)
    assert report(asked).exit_code == ExitCode.UNDER_WAY
    rejected_again = with_annotation(rejected(retried=value), names.ANNOTATION_RETRY, value)
    assert report(rejected_again).exit_code == ExitCode.FAILED


def test_an_undo_is_under_way_until_the_operator_has_acted_on_it() -> None:
    assert report(with_annotation(done(), names.ANNOTATION_UNDO, V8)).exit_code == ExitCode.UNDER_WAY
    assert report(with_annotation(done(), names.ANNOTATION_UNDO, V7)).exit_code == ExitCode.DONE


def test_nothing_is_coloured_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(tree(report(rejected()), now=NOW))
    assert "\x1b" not in capsys.readouterr().out


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console().print(tree(report(rejected()), now=NOW))
    assert "\x1b[31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    console().print(tree(report(rejected()), now=NOW))
    assert "\x1b[31m" not in capsys.readouterr().out
