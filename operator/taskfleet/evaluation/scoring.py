"""Scores the answers of one evaluation, by its metric, after all were given: no pattern and no judge slows the models that are measured."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from taskfleet.api.taskmodel import Evaluation, Metric
from taskfleet.evaluation import scorers
from taskfleet.evaluation.asking import Asked
from taskfleet.evaluation.cpu_limit import TookTooLongError, cpu_limit
from taskfleet.evaluation.endpoint import Reply
from taskfleet.evaluation.golden import Example
from taskfleet.evaluation.judge import Judge, JudgementError
from taskfleet.evaluation.output_schema import OutputSchema, SchemaError

SCORE_SECONDS = 0.5  # of processor time, for one answer
ENDLESS_SCORES = 10  # a pattern or schema that took so long for so many answers will for the rest
# The metrics that take as long as a tenant's pattern or schema wants.
_UNBOUNDED = frozenset({Metric.REGEX, Metric.JSON_SCHEMA})


class ScoringError(Exception):
    """No answer can be scored, and none could with another try."""


class UnscoredError(Exception):
    """One answer could not be scored."""


# Raises UnscoredError, ScoringError and JudgeError.
Scorer = Callable[[Example, str], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A reply with its score: None where it can't be said; a model that refuses what it is asked scores 0."""

    reply: Reply
    score: float | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one example."""

    id: str
    candidate: Scored
    stable: Scored | None = None

    @property
    def is_measured(self) -> bool:
        """Does it count in the scores? Only where everybody who was asked has one."""
        return self.candidate.score is not None and (self.stable is None or self.stable.score is not None)


def scorer(evaluation: Evaluation, *, schema: str | None, judge: Judge | None) -> Scorer:
    """The scorer of the evaluation's metric. Raises ScoringError where something that it needs is missing."""
    if evaluation.metric is Metric.JUDGE:
        if judge is None:
            raise ScoringError("metric Judge needs a judge")
        return _judged(judge)
    return _computed(evaluation, _schema(schema) if evaluation.metric is Metric.JSON_SCHEMA else None)


async def score_all(asked: Sequence[Asked], score: Scorer, *, concurrency: int, into: list[Outcome]) -> None:
    """Fills `into`, in the order in which scores come. Raises what the scorer raises but for UnscoredError."""
    waiting = iter(asked)

    async def work() -> None:
        for one in waiting:
            candidate = await _scored(one.example, one.candidate, score)
            stable = await _scored(one.example, one.stable, score) if one.stable is not None else None
            into.append(Outcome(id=one.example.id, candidate=candidate, stable=stable))

    workers = [asyncio.create_task(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _scored(example: Example, reply: Reply, score: Scorer) -> Scored:
    if reply.text is None:
        return Scored(reply=reply, score=0.0 if reply.refused else None, error=reply.error)
    try:
        return Scored(reply=reply, score=await score(example, reply.text))
    except UnscoredError as error:
        return Scored(reply=reply, score=None, error=str(error))


def _schema(text: str | None) -> OutputSchema:
    if text is None:
        raise ScoringError("metric JSONSchema needs a schema: set the task's outputSchema")
    try:
        return OutputSchema(text)
    except SchemaError as error:
        raise ScoringError(f"outputSchema: {error}") from None


def _judged(judge: Judge) -> Scorer:
    async def score(example: Example, answer: str) -> float:
        try:
            return await asyncio.to_thread(judge.score, example, answer)
        except JudgementError as error:
            raise UnscoredError(str(error)) from None

    return score


def _computed(evaluation: Evaluation, schema: OutputSchema | None) -> Scorer:
    endless = 0

    async def score(example: Example, answer: str) -> float:
        nonlocal endless
        if endless >= ENDLESS_SCORES:
            raise ScoringError(f"{ENDLESS_SCORES} answers took more than {SCORE_SECONDS} seconds to score: mind the pattern or schema")
        try:
            with cpu_limit(SCORE_SECONDS) if evaluation.metric in _UNBOUNDED else nullcontext():
                return _value(evaluation, schema, example, answer)
        except TookTooLongError:
            endless += 1
            raise UnscoredError(f"took more than {SCORE_SECONDS} seconds to score") from None
        except SchemaError as error:
            raise ScoringError(str(error)) from None

    return score


def _value(evaluation: Evaluation, schema: OutputSchema | None, example: Example, answer: str) -> float:
    if schema is not None:
        return scorers.json_schema(answer, schema.allows)
    expected: Any = example.expected
    match evaluation.metric:
        case Metric.FIELD_F1:
            return scorers.field_f1(answer, expected)
        case Metric.REGEX:
            return scorers.regex(answer, example.pattern or "")
        case Metric.NUMERIC_TOLERANCE:
            return scorers.numeric_tolerance(answer, expected, tolerance_percent=evaluation.tolerance_percent)
        case _:
            return scorers.exact_match(answer, expected)
