"""The Job and the command: what is read, where the report goes, and how they end."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from taskfleet.api.evaluation import EvaluationReport, Measured
from taskfleet.api.taskmodel import Dataset, Evaluation, Metric
from taskfleet.cli.commands import app
from taskfleet.evaluation import job
from taskfleet.evaluation.settings import EvaluationSettings
from tests.unit.evaluation.scripted_endpoint import ScriptedEndpoint, endpoint, golden_lines, question
from tests.unit.logging_setup import logging_as_before  # noqa: F401  a fixture

LINES = golden_lines(*((f"n{number}", f"n{number}") for number in range(10)))


def answer(body: dict[str, Any]) -> str:
    """The model whose name ends with 2 has one wrong answer."""
    asked = question(body)
    return "wrong" if asked == "n4" and body["model"].endswith("2") else asked


def settings(folder: Path, url: str, **changes: Any) -> EvaluationSettings:
    (folder / "golden.jsonl").write_bytes(LINES)
    (folder / "token").write_text("told\n")
    given = {
        "gateway_url": url,
        "namespace": "finance",
        "task": "invoice",
        "candidate": "invoice-2",
        "stable": "invoice-1",
        "evaluation": Evaluation(dataset=Dataset(config_map_name="golden"), min_samples=5),
        "dataset": folder / "golden.jsonl",
        "token_path": folder / "token",
        "termination_log": folder / "termination-log",
    }
    return EvaluationSettings.model_validate(given | changes)


def reported(folder: Path) -> EvaluationReport:
    return EvaluationReport.model_validate_json((folder / "termination-log").read_bytes())


async def command(*arguments: str) -> Result:
    """Runs in a thread: the endpoint is in this one. Nothing is scored by patterns or schemas, so no signal is needed."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["evaluate", *arguments])


async def test_revisions_are_called_by_their_pins_with_the_mounted_token(tmp_path: Path) -> None:
    async with endpoint(answer) as scripted:
        result = await job.measure(settings(tmp_path, scripted.url))
    assert result.report.outcome is Measured.MEASURED
    assert {body["model"] for body in scripted.asked} == {"finance/invoice@invoice-1", "finance/invoice@invoice-2"}
    assert {headers["Authorization"] for headers in scripted.headers} == {"Bearer told"}


@pytest.mark.parametrize(
    ("changes", "permanent", "message"),
    [
        ({"dataset": Path("/none.jsonl")}, False, "can't be read"),
        ({"dataset_digest": "sha256:" + "0" * 64}, False, "has changed"),
        ({"evaluation": Evaluation(dataset=Dataset(config_map_name="g"), metric=Metric.REGEX)}, True, "line 1: metric Regex needs"),
        ({"evaluation": Evaluation(dataset=Dataset(config_map_name="g"), metric=Metric.JSON_SCHEMA)}, True, "outputSchema"),
    ],
)
async def test_what_can_not_be_measured_is_reported(tmp_path: Path, changes: dict[str, Any], permanent: bool, message: str) -> None:  # noqa: FBT001
    found = (await job.measure(settings(tmp_path, "http://127.0.0.1:1/v1", **changes))).report
    assert (found.outcome, found.permanent) == (Measured.UNMEASURABLE, permanent)
    assert message in found.message


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("metric", [Metric.EXACT_MATCH, Metric.JSON_SCHEMA])
def test_job_leaves_report_and_outcomes(
    metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """In the main thread, as in its pod."""
    evaluation = Evaluation(dataset=Dataset(config_map_name="golden"), min_samples=5, metric=metric)
    measure = job.measure

    async def measured(given: EvaluationSettings) -> Any:
        async with endpoint(answer) as scripted:
            return await measure(given.model_copy(update={"gateway_url": scripted.url}))

    monkeypatch.setattr(job, "measure", measured)
    assert job.run(settings(tmp_path, "http://set-later/v1", evaluation=evaluation, output_schema='{"type": "object"}')) == job.MEASURED
    found = reported(tmp_path)
    assert found.candidate is not None
    assert found.candidate.score_percent == (90 if metric is Metric.EXACT_MATCH else 0)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [f"n{number}" for number in range(10)]
    assert lines[4]["candidate"]["answer"] == "wrong"


@pytest.mark.usefixtures("logging_as_before")
async def test_job_without_a_gateway_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet.evaluation.endpoint.FIRST_PAUSE_SECONDS", 0)
    given = settings(tmp_path, "http://127.0.0.1:1/v1")
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    result = await command("job")
    assert result.exit_code == job.UNMEASURABLE
    assert reported(tmp_path).outcome is Measured.UNMEASURABLE


def options(scripted: ScriptedEndpoint, folder: Path, *more: str) -> tuple[str, ...]:
    (folder / "golden.jsonl").write_bytes(LINES)
    return ("run", "--golden", str(folder / "golden.jsonl"), "--url", scripted.url, "--model", "m-2", *more)


async def test_command_shows_scores_and_the_worst_examples(tmp_path: Path) -> None:
    async with endpoint(answer) as scripted:
        result = await command(*options(scripted, tmp_path, "--baseline", "m-1", "--outcomes", str(tmp_path / "out.jsonl")))
    assert result.exit_code == 0
    for text in (
        "ExactMatch, 10 examples",
        "m-2",
        "90.00 %",
        "m-1",
        "100.00 %",
        "difference -10.00 points",
        "n4",
        "wrong",
        "within the limits",
    ):
        assert text in result.stdout
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("more", "code"), [(("--min-score", "90"), 0), (("--min-score", "91"), 1), (("--baseline", "m-1", "--max-regression", "5"), 1)]
)
async def test_exit_code_tells_whether_it_is_within_the_limits(tmp_path: Path, more: tuple[str, ...], code: int) -> None:
    async with endpoint(answer) as scripted:
        result = await command(*options(scripted, tmp_path, "-o", "json", *more))
    assert result.exit_code == code
    found = json.loads(result.stdout)
    assert found["candidate"]["scorePercent"] == 90
    assert (found["objection"] is None) is (code == 0)


async def test_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_TOKEN", "from-environment")
    (tmp_path / "token").write_text("from-file\n")
    async with endpoint(answer) as scripted:
        await command(*options(scripted, tmp_path))
        assert scripted.headers[-1]["Authorization"] == "Bearer from-environment"
        await command(*options(scripted, tmp_path, "--token-file", str(tmp_path / "token"), "--temperature", "0"))
        assert scripted.headers[-1]["Authorization"] == "Bearer from-file"
        assert scripted.asked[-1]["temperature"] == 0


async def test_judge_on_a_laptop_may_be_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_JUDGE_TOKEN", "judging")
    async with endpoint(answer) as scripted, endpoint(lambda _: '{"score": 0.5}') as judge:
        given = ("--metric", "Judge", "--judge-url", judge.url, "--judge-model", "large", "-o", "json")
        result = await command(*options(scripted, tmp_path, *given))
    assert json.loads(result.stdout)["candidate"]["scorePercent"] == 50
    assert judge.headers[0]["Authorization"] == "Bearer judging"
    assert "Authorization" not in scripted.headers[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [(("--metric", "Regex"), "line 1"), (("--metric", "JSONSchema"), "outputSchema"), (("--concurrency", "0"), "concurrency")],
)
async def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    async with endpoint(answer) as scripted:
        result = await command(*options(scripted, tmp_path, *more))
    assert result.exit_code == job.UNMEASURABLE
    assert message in result.stderr
    assert scripted.asked == []
