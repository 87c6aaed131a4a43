"""`taskfleet evaluate`: measures models on a golden set, as the gate of a rollout does, in its Job or on a laptop."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from taskfleet.api.evaluation import Measured
from taskfleet.api.taskmodel import Evaluation, Metric
from taskfleet.cli.evaluation_table import show
from taskfleet.planning.rollout.gate_policy import objection

app = typer.Typer(no_args_is_help=True, help="Measure models on a golden set.")

TOKEN_VARIABLE = "TASKFLEET_TOKEN"  # noqa: S105  (a variable's name)
JUDGE_TOKEN_VARIABLE = "TASKFLEET_JUDGE_TOKEN"  # noqa: S105  (a variable's name)
BEYOND_LIMITS, UNMEASURABLE = 1, 2  # exit codes


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


@app.command()
def job() -> None:
    """Run the evaluation of a rollout's gate; settings come from TASKFLEET_* variables. Ends with 0 if measured, with 2 if that could not be done."""
    from taskfleet.evaluation import job as evaluation_job  # noqa: PLC0415
    from taskfleet.evaluation.settings import EvaluationSettings  # noqa: PLC0415

    raise typer.Exit(evaluation_job.run(EvaluationSettings.from_environment(os.environ)))


@app.command()
def run(
    *,
    golden: Annotated[Path, typer.Option(help="Golden set: JSON Lines.", exists=True, dir_okay=False)],
    url: Annotated[str, typer.Option(help="OpenAI-compatible address, up to and with /v1.")],
    model: Annotated[
        str, typer.Option(help="Model that is measured, as the endpoint names it: finance/invoice-fields, or with @revision.")
    ],
    baseline: Annotated[str | None, typer.Option(help="Model that it is compared with, on the same examples.")] = None,
    metric: Annotated[Metric, typer.Option(help="How answers are scored.")] = Metric.EXACT_MATCH,
    schema: Annotated[
        Path | None, typer.Option(help="File with the JSON Schema for metric JSONSchema.", exists=True, dir_okay=False)
    ] = None,
    tolerance_percent: Annotated[float, typer.Option(help="For metric NumericTolerance.")] = 0,
    judge_url: Annotated[
        str | None, typer.Option(help=f"Judge's address, up to and with /v1; its token is in {JUDGE_TOKEN_VARIABLE}.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="Judge's model.")] = None,
    judge_criteria: Annotated[str | None, typer.Option(help="What a good answer is, in words.")] = None,
    min_score: Annotated[float, typer.Option(help="Percent; ends with 1 below it.")] = 0,
    max_regression: Annotated[float, typer.Option(help="Points that it may be worse than the baseline; ends with 1 above it.")] = 100,
    min_samples: Annotated[int, typer.Option(help="Fewest examples that must have been answered.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Examples at a time.")] = 4,
    timeout: Annotated[int, typer.Option(help="Seconds for all of it.")] = 1800,
    temperature: Annotated[float | None, typer.Option(help="Sent along, where an endpoint has no default of the task.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Sent along, where an endpoint has no default of the task.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the endpoint's token; {TOKEN_VARIABLE} without it.", exists=True, dir_okay=False)
    ] = None,
    outcomes: Annotated[Path | None, typer.Option(help="File that gets a line of JSON for every example.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="What is printed.")] = Output.TABLE,
) -> None:
    """Measure a model, or two, at any OpenAI-compatible endpoint.

    Ends with 0 within the limits, 1 beyond them, 2 where nothing could be measured.
    """
    limits = {
        "metric": metric,
        "tolerance_percent": tolerance_percent,
        "min_score_percent": min_score,
        "max_regression_percent": max_regression,
        "min_samples": min_samples,
        "concurrency": concurrency,
        "timeout_seconds": timeout,
    }
    judge = {"url": judge_url, "model": judge_model, "criteria": judge_criteria} if judge_url is not None else None
    parameters = {name: value for name, value in (("temperature", temperature), ("max_tokens", max_tokens)) if value is not None}
    given = Given(
        golden=golden,
        url=url,
        model=model,
        baseline=baseline,
        evaluation={"dataset": {"config_map_name": "local"}, "judge": judge, **limits},
        schema=schema,
        parameters=parameters,
        token_file=token_file,
    )
    raise typer.Exit(_run(given, outcomes=outcomes, output=output))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options as they were given."""

    golden: Path
    url: str
    model: str
    baseline: str | None
    evaluation: dict[str, Any]
    schema: Path | None
    parameters: dict[str, Any]
    token_file: Path | None


def _run(given: Given, *, outcomes: Path | None, output: Output) -> int:
    from taskfleet.artifacts.errors import ArtifactError  # noqa: PLC0415
    from taskfleet.evaluation.golden import GoldenSetError  # noqa: PLC0415
    from taskfleet.evaluation.laptop import Request, measure  # noqa: PLC0415
    from taskfleet.evaluation.report import outcome_line  # noqa: PLC0415
    from taskfleet.evaluation.scoring import ScoringError  # noqa: PLC0415

    try:
        request = Request(
            golden=given.golden.read_bytes(),
            url=given.url,
            token=given.token_file.read_text().strip() if given.token_file is not None else os.environ.get(TOKEN_VARIABLE),
            model=given.model,
            baseline=given.baseline,
            evaluation=Evaluation.model_validate(given.evaluation),
            schema=given.schema.read_text() if given.schema is not None else None,
            judge_token=os.environ.get(JUDGE_TOKEN_VARIABLE),
            parameters=given.parameters,
        )
        result = asyncio.run(measure(request, clock=lambda: datetime.now(UTC)))
    except ValidationError as error:
        return _told("\n".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()))
    except (GoldenSetError, ScoringError, ArtifactError) as error:
        return _told(str(error))
    if outcomes is not None:
        outcomes.write_bytes(b"".join(outcome_line(outcome) + b"\n" for outcome in result.outcomes))
    why = None if result.report.outcome is Measured.UNMEASURABLE else objection(request.evaluation, result.report)
    if output is Output.JSON:
        print(json.dumps({**result.report.to_json(), "model": given.model, "baseline": given.baseline, "objection": why}, indent=2))
    else:
        show(result, model=given.model, baseline=given.baseline, objection=why, console=Console())
    if result.report.outcome is Measured.UNMEASURABLE:
        return UNMEASURABLE
    return BEYOND_LIMITS if why is not None else 0


def _told(message: str) -> int:
    print(f"taskfleet: {message}", file=sys.stderr)
    return UNMEASURABLE
