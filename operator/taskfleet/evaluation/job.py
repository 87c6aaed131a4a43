"""An evaluation as a Job: told by its environment, it leaves its report where Kubernetes reads a container's last words, and the outcome of every example in its log."""

import asyncio
import logging
import sys
from datetime import UTC, datetime

import aiohttp

from taskfleet import logs
from taskfleet.api.evaluation import EvaluationReport, Measured
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.errors import ArtifactError
from taskfleet.evaluation import dataset, golden, report
from taskfleet.evaluation.asking import Subject
from taskfleet.evaluation.endpoint import Endpoint
from taskfleet.evaluation.judge import Judge, from_secret
from taskfleet.evaluation.run import Plan, Result, evaluate
from taskfleet.evaluation.scoring import Scorer, ScoringError, scorer
from taskfleet.evaluation.settings import EvaluationSettings

log = logging.getLogger(__name__)

MEASURED, UNMEASURABLE = 0, 2  # exit codes
# The Job's own deadline ends it without a report: the pod's start has to fit in, too.
_SHARE_OF_TIME = 0.9


def run(settings: EvaluationSettings) -> int:
    """Measures and reports; returns the exit code. What goes wrong is in the report, unless that can't be written."""
    logs.configure(level=settings.log_level, style=settings.log_style)
    result = asyncio.run(measure(settings))
    for outcome in result.outcomes:
        sys.stdout.buffer.write(report.outcome_line(outcome) + b"\n")
    sys.stdout.flush()
    settings.termination_log.write_bytes(report.encoded(result.report))
    log.info("evaluation ended", extra=logs.fields(**_figures(settings, result.report)))
    return MEASURED if result.report.outcome is Measured.MEASURED else UNMEASURABLE


async def measure(settings: EvaluationSettings) -> Result:
    """The evaluation that the settings ask for."""
    access = Access(
        credentials_directory=settings.credentials_dir, insecure_hosts=settings.insecure_hosts, allowed_networks=settings.networks
    )
    evaluation = settings.evaluation
    try:
        text = await asyncio.to_thread(_text, settings, access)
        examples = golden.parse(text, metric=evaluation.metric)
        scored = _scorer(settings, access)
    except ArtifactError as error:
        return _failed(settings, str(error), permanent=error.permanent)
    except (golden.GoldenSetError, ScoringError) as error:
        return _failed(settings, str(error), permanent=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        plan = Plan(
            evaluation=evaluation,
            golden=examples,
            candidate=_subject(settings, settings.candidate),
            stable=None if settings.stable is None else _subject(settings, settings.stable),
            endpoint=Endpoint(session, settings.gateway_url, token=lambda: _token(settings)),
            scorer=scored,
            seconds=evaluation.timeout_seconds * _SHARE_OF_TIME,
            ended=access.ended,
        )
        return await evaluate(plan, clock=_now)


def _text(settings: EvaluationSettings, access: Access) -> bytes:
    if settings.dataset is not None:
        return dataset.mounted(settings.dataset, settings.dataset_digest)
    return dataset.fetched(settings.evaluation.dataset, access=access)


def _scorer(settings: EvaluationSettings, access: Access) -> Scorer:
    wanted = settings.evaluation.judge
    judge = Judge(wanted, access=access, headers=from_secret(settings.credentials_dir, wanted.credentials_key)) if wanted else None
    return scorer(settings.evaluation, schema=settings.output_schema, judge=judge)


def _failed(settings: EvaluationSettings, message: str, *, permanent: bool) -> Result:
    made = report.unmeasurable(message, evaluation=settings.evaluation, dataset_digest=None, now=_now(), permanent=permanent)
    return Result(report=made, outcomes=())


def _subject(settings: EvaluationSettings, revision: str) -> Subject:
    return Subject(name=revision, model=f"{settings.namespace}/{settings.task}@{revision}")


def _token(settings: EvaluationSettings) -> str | None:
    """Read anew each time: the kubelet renews it."""
    return settings.token_path.read_text().strip() if settings.token_path is not None else None


def _now() -> datetime:
    return datetime.now(UTC)


def _figures(settings: EvaluationSettings, found: EvaluationReport) -> dict[str, object]:
    figures = found.to_json()
    kept = ("outcome", "message", "samples", "errors", "differencePercent", "differenceLowerPercent")
    return {"revision": settings.candidate, "compared_with": settings.stable} | {name: figures[name] for name in kept if name in figures}
