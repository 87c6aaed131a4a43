"""The committed tiny model is what its script makes, and was never shown what it is judged by."""

import json
import random
import re
import subprocess
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.engine.running import REPOSITORY, TINY_MODEL
from tests.engine.training import ensure_training

GOLDEN = REPOSITORY / "examples" / "golden"
TASKS = ("vendor", "date", "total")


@pytest.fixture
def invoices(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TINY_MODEL))
    import invoices  # noqa: PLC0415  (the folder is on the path only here)

    return invoices


def golden_lines(task: str) -> list[str]:
    return [json.loads(line)["messages"][0]["content"] for line in (GOLDEN / f"{task}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("task", TASKS)
def test_golden_lines_are_held_out_and_differ(invoices: ModuleType, task: str) -> None:
    lines = golden_lines(task)
    assert all(invoices.held_out(line) for line in lines)
    assert len(set(lines)) == len(lines) >= 60


def test_no_line_of_the_training_is_held_out(invoices: ModuleType) -> None:
    golden = {line for task in TASKS for line in golden_lines(task)}
    # The seeds of the base and of every adapter; whole lines, and those with a field or two that the base begins with.
    for seed in (20_260, 101, 201, 301, 302):
        source = random.Random(seed)  # noqa: S311
        for shown in (invoices.FIELDS, ("total",), ("vendor", "date")):
            lines = {invoices.training_line(source, shown).line for _ in range(2_000)}
            assert not any(invoices.held_out(line) for line in lines)
            assert not lines & golden


def test_about_one_line_in_ten_is_held_out(invoices: ModuleType) -> None:
    source = random.Random(1)  # noqa: S311
    share = sum(invoices.held_out(invoices.draw(source).line) for _ in range(5_000)) / 5_000
    assert 0.08 < share < 0.12


def test_expected_answers_stand_in_their_lines(invoices: ModuleType) -> None:
    for invoice in islice(invoices.held_out_lines(7), 500):
        assert all(invoice.field(field) in invoice.line for field in invoices.FIELDS)


def test_golden_sets_are_what_the_script_draws(tmp_path: Path) -> None:
    subprocess.run(["python3", str(TINY_MODEL / "train.py"), "golden", "--output", str(tmp_path)], check=True)
    for task in TASKS:
        assert (tmp_path / f"{task}.jsonl").read_text() == (GOLDEN / f"{task}.jsonl").read_text()


@pytest.mark.slow
def test_script_makes_an_adapter_as_good_as_the_committed_one(tmp_path: Path) -> None:
    command = [str(ensure_training()), str(TINY_MODEL / "train.py"), "adapters", "--only", "total/v2", "--output", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (share,) = re.findall(r"^total v2: ([0-9.]+)% of 256 fresh lines exact$", printed, re.MULTILINE)
    assert float(share) >= 98
    made, committed = (folder / "adapters" / "total" / "v2" for folder in (tmp_path, TINY_MODEL))
    assert config(made) == config(committed)
    assert tensors(made) == tensors(committed)


def config(adapter: Path) -> dict[str, object]:
    content: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    return content | {"target_modules": sorted(content["target_modules"])}  # peft writes them in any order


def tensors(adapter: Path) -> dict[str, object]:
    """Names, types and shapes of an adapter's weights."""
    content = (adapter / "adapter_model.safetensors").read_bytes()
    header: dict[str, dict[str, object]] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
