"""Settings go through the Job's environment, and only what shapes scores makes another digest."""

from pathlib import Path
from typing import Any

import pytest

from taskfleet.api.taskmodel import Dataset, Evaluation, Judge, Metric
from taskfleet.evaluation.settings import EvaluationSettings, settings_digest
from taskfleet.settings import SettingsError

EVALUATION = Evaluation(dataset=Dataset(config_map_name="golden"))
JUDGE = Judge(url="https://judge.example/v1", model="large", credentials_key="judge", criteria="Is it polite?")


def settings(**changes: Any) -> EvaluationSettings:
    given = {
        "gateway_url": "http://gateway.taskfleet.svc/v1",
        "namespace": "finance",
        "task": "invoice",
        "candidate": "invoice-2",
        "evaluation": EVALUATION,
    }
    return EvaluationSettings.model_validate(given | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stable": "invoice-1", "dataset": Path("/golden/golden.jsonl"), "dataset_digest": "sha256:" + "a" * 64},
        {"evaluation": Evaluation(dataset=Dataset(config_map_name="golden"), metric=Metric.JUDGE, judge=JUDGE, min_score_percent=50)},
        {"output_schema": '{"type": "object"}', "token_path": Path("/token"), "allowed_networks": "10.0.0.0/8, 127.0.0.1/32"},
    ],
)
def test_environment_brings_the_same_settings(changes: dict[str, Any]) -> None:
    told = settings(**changes)
    assert EvaluationSettings.from_environment(told.environment()) == told


@pytest.mark.parametrize("text", ["{", "[]", '{"metric": "Best"}'])
def test_wrong_evaluation_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="TASKFLEET_EVALUATION"):
        EvaluationSettings.from_environment(settings().environment() | {"TASKFLEET_EVALUATION": text})


@pytest.mark.parametrize("changes", [{"metric": Metric.FIELD_F1}, {"tolerance_percent": 1}, {"metric": Metric.JUDGE, "judge": JUDGE}])
def test_what_shapes_scores_makes_another_digest(changes: dict[str, Any]) -> None:
    assert settings_digest(EVALUATION.model_copy(update=changes)) != settings_digest(EVALUATION)


@pytest.mark.parametrize(
    "changes", [{"min_score_percent": 1}, {"max_regression_percent": 9}, {"min_samples": 1}, {"concurrency": 9}, {"timeout_seconds": 99}]
)
def test_limits_leave_the_digest(changes: dict[str, Any]) -> None:
    assert settings_digest(EVALUATION.model_copy(update=changes)) == settings_digest(EVALUATION)


def test_another_golden_set_of_a_source_makes_another_digest() -> None:
    sets = [Dataset(source="oci://r.example/golden", digest="sha256:" + digit * 64) for digit in "ab"]
    one, other = (settings_digest(EVALUATION.model_copy(update={"dataset": dataset})) for dataset in sets)
    assert one != other
    opened = sets[0].model_copy(update={"credentials_key": "registry"})
    assert settings_digest(EVALUATION.model_copy(update={"dataset": opened})) == one


def test_other_credentials_of_the_judge_leave_the_digest() -> None:
    judged = EVALUATION.model_copy(update={"metric": Metric.JUDGE, "judge": JUDGE})
    other = judged.model_copy(update={"judge": JUDGE.model_copy(update={"credentials_key": "other"})})
    assert settings_digest(judged) == settings_digest(other)
