"""What an evaluation reports of models that are good, bad, slow, refused, or not to be reached."""

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from taskfleet.api.evaluation import MAX_REPORT_BYTES, EvaluationReport, Figures, Measured
from taskfleet.api.taskmodel import Dataset, Evaluation, Metric
from taskfleet.evaluation import golden, report
from taskfleet.evaluation.asking import Subject
from taskfleet.evaluation.endpoint import ATTEMPTS, Endpoint
from taskfleet.evaluation.run import Plan, Result, evaluate
from taskfleet.evaluation.scoring import ENDLESS_SCORES, ScoringError, scorer
from taskfleet.evaluation.settings import settings_digest
from tests.unit.evaluation.scripted_endpoint import Answer, endpoint, golden_lines, question, refusal

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CANDIDATE, STABLE = Subject(name="invoice-2", model="finance/invoice@2"), Subject(name="invoice-1", model="finance/invoice@1")
TWENTY = tuple((f"n{number}", f"n{number}") for number in range(20))


class World:
    """One endpoint and one golden set; time passes only where somebody waits."""

    def __init__(
        self, answer: Answer, *examples: tuple[str, Any], text: bytes | None = None, schema: str | None = None, **evaluation: Any
    ) -> None:
        self.answer = answer
        settings = {"dataset": Dataset(config_map_name="golden"), "min_samples": 1, **evaluation}
        self.evaluation = Evaluation(**settings)
        self.golden = golden.parse(text or golden_lines(*(examples or TWENTY)), metric=self.evaluation.metric)
        self.schema = schema
        self.asked: list[dict[str, Any]] = []
        self.waited: list[float] = []
        self.ended = threading.Event()

    async def run(self, *, stable: Subject | None = STABLE, seconds: float = 60) -> Result:
        async def sleep(delay: float) -> None:
            self.waited.append(delay)

        async with endpoint(self.answer) as scripted, aiohttp.ClientSession() as session:
            plan = Plan(
                evaluation=self.evaluation,
                golden=self.golden,
                candidate=CANDIDATE,
                stable=stable,
                endpoint=Endpoint(session, scripted.url, token=lambda: "t", sleep=sleep),
                scorer=scorer(self.evaluation, schema=self.schema, judge=None),
                seconds=seconds,
                ended=self.ended,
            )
            result = await evaluate(plan, clock=lambda: NOW)
        self.asked = scripted.asked
        return result


def by_model(candidate: Callable[[str], Any], stable: Callable[[str], Any]) -> Answer:
    return lambda body: (candidate if body["model"] == CANDIDATE.model else stable)(question(body))


def echo(asked: str) -> str:
    return asked


def wrong_for(*questions: str) -> Callable[[str], str]:
    return lambda asked: "wrong" if asked in questions else asked


async def test_equal_models_tie() -> None:
    world = World(by_model(echo, echo))
    found = (await world.run()).report
    assert found.outcome is Measured.MEASURED
    assert found.samples == 20
    assert found.errors == 0
    assert found.candidate is not None
    assert (found.candidate.revision, found.candidate.score_percent) == ("invoice-2", 100)
    assert (found.candidate.prompt_tokens, found.candidate.completion_tokens) == (140, 60)
    assert found.stable is not None
    assert found.stable.revision == "invoice-1"
    assert (found.difference_percent, found.difference_lower_percent, found.difference_upper_percent) == (0, 0, 0)
    assert (found.metric, found.dataset_digest, found.finished_at) == ("ExactMatch", world.golden.digest, "2026-03-01T12:00:00Z")
    assert found.settings_digest == settings_digest(world.evaluation)
    assert world.ended.is_set()


async def test_worse_model_has_a_difference_below_nought() -> None:
    result = await World(by_model(wrong_for("n1", "n2", "n3", "n4", "n5", "n6"), wrong_for("n1"))).run()
    found = result.report
    assert found.candidate is not None
    assert found.candidate.score_percent == 70
    assert found.difference_percent == -25
    assert found.difference_lower_percent is not None
    assert found.difference_upper_percent is not None
    assert -60 < found.difference_lower_percent < -25 < found.difference_upper_percent < 0
    assert [outcome.id for outcome in result.outcomes] == [asked for asked, _ in TWENTY]
    line = json.loads(report.outcome_line(result.outcomes[2]))
    assert line["id"] == "n2"
    assert (line["candidate"]["answer"], line["candidate"]["score"]) == ("wrong", 0)
    assert line["stable"]["score"] == 1


async def test_first_revision_is_compared_with_nobody() -> None:
    world = World(by_model(echo, echo))
    found = (await world.run(stable=None)).report
    assert found.outcome is Measured.MEASURED
    assert found.stable is None
    assert found.difference_percent is None
    assert {body["model"] for body in world.asked} == {CANDIDATE.model}


async def test_both_models_are_asked_the_same_side_by_side() -> None:
    world = World(by_model(echo, echo), concurrency=1)
    await world.run()
    order = [(body["model"][-1], question(body)) for body in world.asked]
    assert order[:4] == [("2", "n0"), ("1", "n0"), ("1", "n1"), ("2", "n1")]
    assert len(order) == 40


async def test_request_that_the_candidate_refuses_scores_nought_and_is_an_error() -> None:
    def candidate(asked: str) -> str | web.Response:
        return refusal(400, "schema is not supported") if asked in {"n3", "n4"} else asked

    result = await World(by_model(candidate, echo)).run()
    assert (result.report.outcome, result.report.samples, result.report.errors) == (Measured.MEASURED, 20, 2)
    assert result.report.candidate is not None
    assert result.report.candidate.score_percent == 90
    assert result.report.difference_percent == -10
    assert "schema is not supported" in json.loads(report.outcome_line(result.outcomes[3]))["candidate"]["error"]


@pytest.mark.parametrize("status", [429, 502, 503, 504, 500])
async def test_busy_endpoint_is_asked_again_as_it_wishes(status: int) -> None:
    left = {"n2": 2}

    def candidate(asked: str) -> str | web.Response:
        left[asked] = left.get(asked, 0) - 1
        return refusal(status, Retry_After="7") if left[asked] >= 0 else asked

    world = World(by_model(candidate, echo))
    found = (await world.run()).report
    assert (found.outcome, found.samples, found.errors) == (Measured.MEASURED, 20, 0)
    assert world.waited == [7, 7]


async def test_endpoint_may_not_make_anybody_wait_for_hours() -> None:
    world = World(by_model(lambda _: refusal(503, Retry_After="86400"), echo), ("a", "a"))
    found = (await world.run()).report
    assert found.outcome is Measured.UNMEASURABLE
    assert not found.permanent
    assert "HTTP 503" in found.message
    assert world.waited == [30] * (ATTEMPTS - 1)


async def test_failing_endpoint_is_no_low_score() -> None:
    world = World(by_model(lambda _: refusal(500, "out of memory"), echo))
    found = (await world.run()).report
    assert (found.outcome, found.permanent, found.candidate) == (Measured.UNMEASURABLE, False, None)
    assert "HTTP 500: out of memory" in found.message
    # It is given up before all were asked in vain.
    assert len(world.asked) < 20 * ATTEMPTS


async def test_a_few_lost_answers_are_left_out_and_many_are_too_many() -> None:
    def losing(*lost: str) -> Answer:
        return by_model(lambda asked: refusal(500) if asked in lost else asked, wrong_for("n1"))

    few = (await World(losing("n1")).run()).report
    assert (few.outcome, few.samples, few.errors) == (Measured.MEASURED, 19, 1)
    # Its pair is gone, too: else the stable one's wrong answer would count alone.
    assert few.difference_percent == 0
    many = (await World(losing("n1", "n2")).run()).report
    assert (many.outcome, many.samples, many.errors, many.permanent) == (Measured.UNMEASURABLE, 18, 2, False)
    assert "18 of 20" in many.message


@pytest.mark.parametrize(
    ("status", "message"), [(401, "may not be called"), (403, "may not be called"), (404, "HTTP 404"), (302, "HTTP 302")]
)
async def test_caller_without_rights_or_a_missing_model_ends_the_run(status: int, message: str) -> None:
    world = World(by_model(lambda _: refusal(status, Location="http://127.0.0.1:1/"), echo), concurrency=1)
    found = (await world.run()).report
    assert (found.outcome, found.permanent) == (Measured.UNMEASURABLE, False)
    assert message in found.message
    assert len(world.asked) <= 6


async def test_nonsense_instead_of_an_answer_is_no_answer() -> None:
    world = World(by_model(lambda _: web.Response(text="<html>"), echo), ("a", "a"))
    found = (await world.run()).report
    assert found.outcome is Measured.UNMEASURABLE
    assert "none of OpenAI's API" in found.message


async def test_answer_without_end_is_no_answer() -> None:
    world = World(by_model(lambda _: web.Response(body=b" " * (5 * 1024 * 1024)), echo), ("a", "a"))
    assert "longer than" in (await world.run(stable=None)).report.message


async def test_time_is_bounded() -> None:
    world = World(by_model(lambda _: refusal(503), echo))

    async def forever(_delay: float) -> None:
        await asyncio.Event().wait()

    async with endpoint(world.answer) as scripted, aiohttp.ClientSession() as session:
        asking = Endpoint(session, scripted.url, token=lambda: None, sleep=forever)
        score = scorer(world.evaluation, schema=None, judge=None)
        plan = Plan(
            evaluation=world.evaluation, golden=world.golden, candidate=CANDIDATE, stable=None, endpoint=asking, scorer=score, seconds=0.2
        )
        found = (await evaluate(plan, clock=lambda: NOW)).report
    assert found.outcome is Measured.UNMEASURABLE
    assert "took longer than" in found.message


async def test_fewer_examples_than_asked_for_stay_too_few() -> None:
    found = (await World(by_model(echo, echo), min_samples=21).run()).report
    assert (found.outcome, found.permanent, found.samples) == (Measured.UNMEASURABLE, True, 20)


async def test_completions_and_parameters_go_as_they_are() -> None:
    text = b'{"prompt": "x ->", "expected": "y"}'
    async with endpoint(lambda _: "y") as scripted, aiohttp.ClientSession() as session:
        asking = Endpoint(session, scripted.url, token=lambda: "secret", parameters={"temperature": 0})
        (example,) = golden.parse(text, metric=Metric.EXACT_MATCH).examples
        assert (await asking.ask("m", example)).text == "y"
    assert scripted.paths == ["/v1/completions"]
    assert scripted.asked == [{"model": "m", "temperature": 0, "prompt": "x ->"}]
    assert scripted.headers[0]["Authorization"] == "Bearer secret"


SCHEMA = '{"type": "object", "required": ["total"]}'


@pytest.mark.parametrize(
    ("metric", "example", "answer", "score"),
    [
        (Metric.JSON_SCHEMA, {}, '{"total": 1}', 100),
        (Metric.JSON_SCHEMA, {}, "{}", 0),
        (Metric.FIELD_F1, {"expected": {"a": 1, "b": 2}}, '{"a": 1, "b": 3}', 50),
        (Metric.REGEX, {"pattern": "[0-9]+"}, "12", 100),
        (Metric.NUMERIC_TOLERANCE, {"expected": 100}, "101", 100),
        (Metric.NUMERIC_TOLERANCE, {"expected": 100}, "103", 0),
    ],
)
async def test_each_metric_scores_in_its_way(metric: Metric, example: dict[str, Any], answer: str, score: float) -> None:
    text = json.dumps({"input": "x", **example}).encode()
    world = World(
        lambda _: answer, text=text, metric=metric, schema=SCHEMA, tolerance_percent=2 if metric is Metric.NUMERIC_TOLERANCE else 0
    )
    found = (await world.run(stable=None)).report
    assert found.candidate is not None
    assert found.candidate.score_percent == score


def test_missing_schema_or_judge_is_told() -> None:
    for metric, schema, message in (
        (Metric.JSON_SCHEMA, None, "outputSchema"),
        (Metric.JSON_SCHEMA, '{"type": "text"}', "not a JSON Schema"),
        (Metric.JUDGE, None, "needs a judge"),
    ):
        with pytest.raises(ScoringError, match=message):
            scorer(Evaluation(dataset=Dataset(config_map_name="golden"), metric=metric), schema=schema, judge=None)


async def test_endless_pattern_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet.evaluation.scoring.SCORE_SECONDS", 0.01)
    lines = b"".join(b'{"input": "x", "pattern": "(a+)+c"}\n' for _ in range(ENDLESS_SCORES + 5))
    found = (await World(lambda _: "a" * 60 + "b", text=lines, metric=Metric.REGEX).run(stable=None)).report
    assert (found.outcome, found.permanent) == (Measured.UNMEASURABLE, True)
    assert "mind the pattern" in found.message


async def test_schema_that_leads_elsewhere_ends_the_run() -> None:
    world = World(lambda _: "{}", metric=Metric.JSON_SCHEMA, schema='{"$ref": "http://127.0.0.1:1/x"}')
    found = (await world.run(stable=None)).report
    assert (found.outcome, found.permanent) == (Measured.UNMEASURABLE, True)


def test_report_is_never_cut() -> None:
    evaluation = Evaluation(dataset=Dataset(config_map_name="golden"))
    figures = Figures(revision="x" * 63, score_percent=99.9999, prompt_tokens=10**12, completion_tokens=10**12)
    for character in ("\N{SNOWMAN}", "\N{FACE WITH TEARS OF JOY}", '"', "\\", "\0", "\x7f"):
        made = report.unmeasurable(character * 4000, evaluation=evaluation, dataset_digest="sha256:" + "a" * 64, now=NOW)
        made = made.model_copy(update={"candidate": figures, "stable": figures, "policy": "\N{FACE WITH TEARS OF JOY}" * 256})
        text = report.encoded(made)
        assert len(text) <= MAX_REPORT_BYTES
        assert EvaluationReport.model_validate(orjson.loads(text)).candidate == figures


async def test_long_answers_are_shortened_in_outcomes() -> None:
    result = await World(lambda _: "x" * 10_000, ("a", "a")).run(stable=None)
    assert len(report.outcome_line(result.outcomes[0])) < 1000
