"""An evaluation by hand: any OpenAI-compatible endpoint, a golden set in a file, and whoever runs it answers for the addresses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from taskfleet.api.taskmodel import Evaluation
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.addresses import ANYWHERE
from taskfleet.artifacts.transport import Origin
from taskfleet.evaluation import golden
from taskfleet.evaluation.asking import Subject
from taskfleet.evaluation.endpoint import Endpoint
from taskfleet.evaluation.judge import Judge
from taskfleet.evaluation.run import Plan, Result, evaluate
from taskfleet.evaluation.scoring import scorer

# What the report calls them: models of other endpoints have names that no revision has.
CANDIDATE, BASELINE = "candidate", "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is measured where. `parameters` go into every request's body."""

    golden: bytes
    url: str
    model: str
    evaluation: Evaluation
    baseline: str | None = None
    schema: str | None = None
    token: str | None = field(default=None, repr=False)
    judge_token: str | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)


async def measure(request: Request, *, clock: Callable[[], datetime]) -> Result:
    """Raises GoldenSetError, ScoringError, and ArtifactError for a judge's address that is none."""
    access = _access(request)
    found = golden.parse(request.golden, metric=request.evaluation.metric)
    judge = Judge(request.evaluation.judge, access=access, headers=lambda _host: _headers(request)) if request.evaluation.judge else None
    scored = scorer(request.evaluation, schema=request.schema, judge=judge)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        plan = Plan(
            evaluation=request.evaluation,
            golden=found,
            candidate=Subject(name=CANDIDATE, model=request.model),
            stable=None if request.baseline is None else Subject(name=BASELINE, model=request.baseline),
            endpoint=Endpoint(session, request.url, token=lambda: request.token, parameters=request.parameters),
            scorer=scored,
            seconds=request.evaluation.timeout_seconds,
            ended=access.ended,
        )
        return await evaluate(plan, clock=clock)


def _access(request: Request) -> Access:
    judge = request.evaluation.judge
    plain = judge is not None and judge.url.startswith("http://")
    hosts = frozenset({str(Origin.of(judge.url))}) if judge is not None and plain else frozenset[str]()
    return Access(credentials_directory=Path(), insecure_hosts=hosts, allowed_networks=ANYWHERE)


def _headers(request: Request) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {request.judge_token}"} if request.judge_token else {}
