"""Prints status and history, once or until the rollout has ended."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from taskfleet.cli.cluster import ask
from taskfleet.cli.rollout.history import table
from taskfleet.cli.rollout.reading import read
from taskfleet.cli.rollout.report import RolloutReport, report
from taskfleet.cli.rollout.state import ExitCode
from taskfleet.cli.rollout.tree import tree
from taskfleet.cli.target import Output, Target
from taskfleet.kube.client import Kube

REDRAW_SECONDS = 1.0
# Where nobody has a terminal nothing is folded: a line is a line to whoever filters it.
_PIPE_WIDTH = 10_000

Work = Callable[[Kube, str], Awaitable[RolloutReport]]


def show_status(target: Target, name: str, *, output: Output, watch: bool, timeout: float | None) -> ExitCode:
    """Prints the status; with `watch` again at each change, until the rollout has ended or `timeout` seconds are over."""
    if not watch:
        found = ask(target, _reader(name))
        _print(found, output)
    elif output is Output.TEXT and (screen := console()).is_terminal:
        with Live(console=screen, auto_refresh=False) as live:
            found = ask(target, _follower(name, timeout, lambda seen: live.update(tree(seen, now=datetime.now(UTC)), refresh=True)))
    else:
        found = ask(target, _follower(name, timeout, _printer_of_changes(output)))
    return ExitCode(found.exit_code)


def show_history(target: Target, name: str, *, output: Output) -> ExitCode:
    """Prints all revisions."""
    found = ask(target, _reader(name))
    if output is Output.JSON:
        print(json.dumps([revision.to_json() for revision in found.revisions], indent=2))
    else:
        console().print(table(found))
    return ExitCode.DONE


def console() -> Console:
    """Colours on a terminal only, and never with NO_COLOR."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=_PIPE_WIDTH, soft_wrap=True)


def _reader(name: str) -> Work:
    async def work(kube: Kube, namespace: str) -> RolloutReport:
        return report(await read(kube, namespace, name))

    return work


def _follower(name: str, timeout: float | None, show: Callable[[RolloutReport], None]) -> Work:
    async def work(kube: Kube, namespace: str) -> RolloutReport:
        end = None if timeout is None else asyncio.get_running_loop().time() + timeout
        while True:
            found = report(await read(kube, namespace, name))
            show(found)
            if found.state.ended or (end is not None and asyncio.get_running_loop().time() >= end):
                return found
            await asyncio.sleep(REDRAW_SECONDS)

    return work


def _printer_of_changes(output: Output) -> Callable[[RolloutReport], None]:
    """For pipes and logs: prints what differs from what was printed last."""
    last: list[RolloutReport] = []

    def show(found: RolloutReport) -> None:
        if last != [found]:
            last[:] = [found]
            _print(found, output, indent=None)

    return show


def _print(found: RolloutReport, output: Output, *, indent: int | None = 2) -> None:
    if output is Output.JSON:
        print(json.dumps(found.to_json(), indent=indent), flush=True)
    else:
        console().print(tree(found, now=datetime.now(UTC)))
