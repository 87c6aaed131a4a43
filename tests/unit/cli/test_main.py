"""The entry point: what pods run begins at once, and everything else has its parser."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from taskfleet.agent import signs
from taskfleet.cli import main as entry
from taskfleet.cli.commands import app
from taskfleet.cli.parts import PARTS

# The libraries of the users' commands.
FOR_USERS = {"typer", "rich", "taskfleet.cli.commands", "taskfleet.planning.rollout"}


def imported(program: str) -> set[str]:
    """The modules that a program of its own has imported at its end."""
    told = subprocess.run([sys.executable, "-c", f"{program}\nprint(*sys.modules)"], check=True, capture_output=True, text=True)
    return set(told.stdout.split())


def test_step_that_waits_for_the_base_imports_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / signs.BASE_READY).touch()
    found = imported(
        f"import os, sys\nfrom taskfleet.cli.main import main\nos.environ['TASKFLEET_RUN'] = {str(tmp_path)!r}\n"
        "sys.argv[1:] = ['agent', 'await-base']\nmain()"
    )
    assert "taskfleet.agent.await_base" in found
    assert not found & (FOR_USERS | {"pydantic", "aiohttp", "asyncio"})


def test_agent_opens_its_door_before_it_imports_what_takes_time() -> None:
    found = imported("import sys\nimport taskfleet.cli.main\nimport taskfleet.agent.door")
    assert not found & (FOR_USERS | {"pydantic", "aiohttp", "asyncio"})


def test_agent_starts_without_the_libraries_of_users_commands() -> None:
    found = imported("import sys\nimport taskfleet.cli.main\nimport taskfleet.agent.main")
    assert not found & FOR_USERS


@pytest.mark.parametrize("words", sorted(PARTS), ids=" ".join)
def test_what_pods_run_is_among_the_commands(words: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.help


def test_wrong_settings_are_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["taskfleet", "agent", "run"])
    monkeypatch.setenv("TASKFLEET_LISTEN_PORT", "many")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 2
    assert "TASKFLEET_LISTEN_PORT" in capsys.readouterr().err


def test_commands_of_users_go_to_their_parser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["taskfleet", "version"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out
