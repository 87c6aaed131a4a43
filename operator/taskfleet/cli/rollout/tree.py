"""`taskfleet rollout status` as people read it: a tree of the TaskModel, its rollout, its revisions and its pods."""

from datetime import datetime

from rich.text import Text
from rich.tree import Tree

from taskfleet.cli.rollout.figures import measured, since
from taskfleet.cli.rollout.report import JobReport, PoolReport, RevisionReport, RolloutReport
from taskfleet.cli.rollout.state import State

STYLES = {State.SERVING: "green", State.UNDER_WAY: "cyan", State.HELD: "yellow", State.REJECTED: "red", State.FAILED: "red"}
_VERDICTS = {"Promoted": "green", "Rejected": "red"}


def tree(report: RolloutReport, *, now: datetime) -> Tree:
    """The whole tree. Styles are names only: whoever prints decides about colours."""
    root = Tree(Text.assemble("TaskModel ", (f"{report.namespace}/{report.name}", "bold"), "  ", (report.state, STYLES[report.state])))
    if report.message:
        root.add(Text(report.message, STYLES[report.state] if report.state.exit_code else ""))
    if report.ready is not None and report.ready.status != "True" and report.ready.message not in report.message:
        root.add(Text(f"Ready: {report.ready.status}, {report.ready.reason}: {report.ready.message}", "yellow"))
    if (line := _rollout(report, now)) is not None:
        root.add(line)
    shown = [revision for revision in report.revisions if _is_shown(report, revision)]
    for revision in shown:
        _add_revision(root, report, revision, now)
    if earlier := len(report.revisions) - len(shown):
        root.add(Text(f"{earlier} earlier revision{'s' if earlier > 1 else ''}: taskfleet rollout history {report.name}", "dim"))
    for pool in report.pools:
        _add_pool(root, pool)
    return root


def _rollout(report: RolloutReport, now: datetime) -> Text | None:
    rollout = report.rollout
    if rollout is None:
        return None
    line = f"Rollout {rollout.phase}"
    if rollout.step is not None and not report.state.ended:
        line += f", step {rollout.step} of {rollout.steps}"
        if age := since(rollout.step_started_at, now):
            line += f" for {age}"
    if rollout.hold is not None and not report.state.ended:
        line += f", held: {rollout.hold}"
    if age := since(rollout.started_at, now):
        line += f", began {age} ago"
    return Text(line)


def _is_shown(report: RolloutReport, revision: RevisionReport) -> bool:
    rolled = report.rollout is not None and report.rollout.revision == revision.name
    return rolled or revision.stable or revision.candidate or revision.weight_percent > 0


def _add_revision(root: Tree, report: RolloutReport, revision: RevisionReport, now: datetime) -> None:
    mark = "●" if revision.weight_percent else "○"
    line = Text.assemble(f"{mark} ", (revision.name, "bold"), f"  {revision.version or 'no adapter'}  {_role(revision)}")
    line.append(f"  {revision.weight_percent} %", "green" if revision.weight_percent else "dim")
    if revision.shadow_percent:
        line.append(f" + {revision.shadow_percent} % mirrored", "cyan")
    branch = root.add(line)
    verdict = revision.verdict
    if verdict is not None:
        words = Text.assemble((verdict.outcome, _VERDICTS[verdict.outcome]), f" {since(verdict.at, now)} ago: {verdict.reason}")
        branch.add(words.append(f", {verdict.message}" if verdict.message else ""))
    if revision.evaluation is not None:
        branch.add(Text(f"evaluation: {measured(revision.evaluation)}"))
    for job in report.evaluation_jobs or []:
        if job.revision == revision.name:
            branch.add(_job(report, job))


def _role(revision: RevisionReport) -> str:
    if revision.stable:
        return "stable"
    return "candidate" if revision.candidate else (revision.phase or "Pending")


def _job(report: RolloutReport, job: JobReport) -> Text:
    gate = report.rollout.gate if report.rollout else None
    attempt = f", attempt {gate.attempt}" if gate is not None and gate.job == job.name else ""
    return Text(f"Job {job.name}: {job.state}{attempt}", "cyan" if job.state == "Running" else "")


def _add_pool(root: Tree, pool: PoolReport) -> None:
    branch = root.add(Text(f"ModelPool {pool.name}  {pool.ready_replicas} of {pool.replicas} pods Ready"))
    for pod in pool.pods or []:
        branch.add(Text.assemble(f"{pod.name}  {pod.phase}, ", ("Ready", "green") if pod.ready else ("not Ready", "yellow")))
    if pool.pods is None:
        branch.add(Text("no right to list pods", "dim"))
