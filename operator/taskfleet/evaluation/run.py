"""One evaluation, from a golden set to a report: asks, scores, compares. Wherever it runs, it ends with a report: what fails is Unmeasurable, with the reason."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.taskmodel import Evaluation
from taskfleet.evaluation import report
from taskfleet.evaluation.asking import Asked, AskingError, Subject, ask_all
from taskfleet.evaluation.endpoint import Endpoint
from taskfleet.evaluation.golden import GoldenSet
from taskfleet.evaluation.judge import JudgeError
from taskfleet.evaluation.scoring import Outcome, Scorer, ScoringError, score_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured, and how. `seconds` is for all of it; `ended` is set at its end, for threads that still wait."""

    evaluation: Evaluation
    golden: GoldenSet
    candidate: Subject
    stable: Subject | None
    endpoint: Endpoint
    scorer: Scorer
    seconds: float
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The report, and the outcomes in the order of the golden set, as far as they are known."""

    report: EvaluationReport
    outcomes: tuple[Outcome, ...]


async def evaluate(plan: Plan, *, clock: Callable[[], datetime]) -> Result:
    """Never raises for what endpoint, models, judge or golden set do."""
    asked: list[Asked] = []
    outcomes: list[Outcome] = []
    failure = await _failure(plan, asked, outcomes)
    places = {example.id: place for place, example in enumerate(plan.golden.examples)}
    outcomes.sort(key=lambda outcome: places[outcome.id])
    digest, now = plan.golden.digest, clock()
    if failure is not None:
        message, permanent = failure
        made = report.unmeasurable(message, evaluation=plan.evaluation, dataset_digest=digest, now=now, permanent=permanent)
    else:
        made = report.measured(
            outcomes,
            evaluation=plan.evaluation,
            candidate=plan.candidate,
            stable=plan.stable,
            dataset_digest=digest,
            examples=len(plan.golden.examples),
            now=now,
        )
    return Result(report=made, outcomes=tuple(outcomes))


async def _failure(plan: Plan, asked: list[Asked], outcomes: list[Outcome]) -> tuple[str, bool] | None:
    """Asks and scores; returns why that could not be done, and whether it never can. Answers that came before the failure are scored where that takes no time."""
    concurrency = plan.evaluation.concurrency
    try:
        async with asyncio.timeout(plan.seconds):
            await ask_all(plan.endpoint, plan.golden.examples, plan.candidate, plan.stable, concurrency=concurrency, into=asked)
            await score_all(asked, plan.scorer, concurrency=concurrency, into=outcomes)
    except TimeoutError:
        return f"took longer than {plan.seconds:.0f} seconds: {len(asked)} of {len(plan.golden.examples)} examples were asked", False
    except AskingError as error:
        return str(error), False
    except JudgeError as error:
        return str(error), error.permanent
    except ScoringError as error:
        return str(error), True
    finally:
        plan.ended.set()
    return None
