"""Evaluations at the operator's edge: golden sets are looked at, Jobs are made once and told of, refusals are told."""

import hashlib
from typing import Any

import pytest

from taskfleet import names
from taskfleet.api.taskmodel import Evaluation, TaskModel
from taskfleet.controller.cache import Cache, Change
from taskfleet.controller.evaluations import JobEvaluations
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import Key, TaskKey
from taskfleet.controller.queue import RetryError
from taskfleet.controller.triggers import keys_of
from taskfleet.controller.writer import RefusedError, Writer
from taskfleet.kube.errors import ForbiddenError, UnavailableError
from taskfleet.kube.resources import CONFIG_MAPS, JOBS, PODS, SERVING_CLASSES, TASK_MODELS
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.planning.snapshot import DatasetView
from taskfleet.resources.settings import EvaluatorSettings
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import Json, body, task_model

KEY = TaskKey("finance", "total")
GOLDEN = {"configMapName": "golden"}
SETTINGS = EvaluatorSettings(image="registry.example/taskfleet:1", gateway_url="http://gateway.example/v1", audience="taskfleet-gateway")


def draft(attempt: int = 1) -> EvaluationDraft:
    return EvaluationDraft(
        name=f"total-0123456789-eval-{attempt}",
        namespace="finance",
        task_model="total",
        revision="total-0123456789",
        revision_uid="uid-revision",
        compared_with=None,
        attempt=attempt,
        evaluation=Evaluation.model_validate({"dataset": GOLDEN}),
        dataset_digest=None,
        fingerprint="abc",
    )


class _World:
    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.asked: list[Key] = []
        self.told: list[Key] = []
        self.cache = Cache(self._changed)
        self.fleet = Fleet(self.cache)
        self.evaluations = JobEvaluations(
            fleet=self.fleet,
            writer=Writer(self.server, self.cache),  # type: ignore[arg-type]
            kube=self.server,  # type: ignore[arg-type]
            settings=SETTINGS,
            enqueue=self.asked.append,
        )
        behind_a_gate: dict[str, Any] = {"evaluation": {"dataset": GOLDEN}}
        for name, spec in (("total", behind_a_gate), ("vendor", behind_a_gate), ("date", {})):
            self.cache.put(TASK_MODELS, {**task_model(name, 1, **spec), "status": {"servingClassName": "cpu"}})

    def _changed(self, change: Change) -> None:
        self.fleet.index(change)
        self.told += keys_of(change, self.fleet)

    def config_map(self, **content: Any) -> None:
        self.server.objects[CONFIG_MAPS.kind, "finance", "golden"] = body("golden", 7, **content)

    def object(self, kind: str, name: str) -> Json:
        return self.server.objects[kind, "finance", name]


@pytest.fixture
def world() -> _World:
    return _World()


def task(dataset: dict[str, str] | None) -> TaskModel:
    spec: dict[str, Any] = {"evaluation": {"dataset": dataset}} if dataset else {}
    return TaskModel.model_validate(task_model("total", 1, **spec))


async def test_a_golden_set_is_its_text_s_digest_and_its_lines(world: _World) -> None:
    text = '{"prompt": "a", "expected": "ä"}\n\n{"prompt": "b", "expected": "c"}\n'
    world.config_map(data={"golden.jsonl": text})
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert await world.evaluations.dataset(task(GOLDEN)) == DatasetView(digest=digest, examples=2)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "namespace finance has no ConfigMap golden"),
        ({}, "ConfigMap golden has no text under the key golden.jsonl"),
        ({"binaryData": {"golden.jsonl": "AAAA"}}, "ConfigMap golden has no text under the key golden.jsonl"),
    ],
    ids=["no ConfigMap", "no key", "no text"],
)
async def test_what_is_missing_of_a_golden_set_is_named(world: _World, content: dict[str, Any] | None, why: str) -> None:
    if content is not None:
        world.config_map(**content)
    assert await world.evaluations.dataset(task(GOLDEN)) == DatasetView(error=why)


@pytest.mark.parametrize("dataset", [None, {"source": "oci://registry.example/golden", "digest": f"sha256:{'f' * 64}"}])
async def test_no_config_map_is_looked_for_where_none_is_named(world: _World, dataset: dict[str, str] | None) -> None:
    assert await world.evaluations.dataset(task(dataset)) is None


async def test_a_missing_right_is_told_and_an_outage_is_waited_out(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(error: Exception) -> None:
        async def listing(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(world.server, "list", listing)

    refuse(ForbiddenError("not allowed", status=403))
    assert await world.evaluations.dataset(task(GOLDEN)) == DatasetView(error="ConfigMap golden can't be read: not allowed")
    refuse(UnavailableError("away", status=503))
    with pytest.raises(RetryError):
        await world.evaluations.dataset(task(GOLDEN))


async def test_a_job_is_made_once_with_its_account_and_seen_at_once(world: _World) -> None:
    for _ in range(3):
        await world.evaluations.start(draft())
    assert [write for write in world.server.writes if "Job" in write] == ["apply Job total-0123456789-eval-1"]
    account = world.object("ServiceAccount", names.EVALUATOR_ACCOUNT)
    assert [owner["name"] for owner in account["metadata"]["ownerReferences"]] == ["total", "vendor"]
    (view,) = world.evaluations.views(KEY)
    assert (view.job, view.fingerprint, view.finished) == (draft().name, "abc", False)
    assert KEY in world.told


async def test_the_image_is_pulled_as_the_pool_pulls_it(world: _World) -> None:
    engine = {"type": "vLLM", "image": "registry.example/vllm:1", "imagePullSecrets": ["pull"]}
    world.cache.put(SERVING_CLASSES, body("cpu", 1, namespace="", spec={"engine": engine}))
    await world.evaluations.start(draft())
    assert world.object("Job", draft().name)["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pull"}]


async def test_a_refused_job_is_told_once_and_made_as_soon_as_it_may_be(world: _World) -> None:
    world.server.refuse = ForbiddenError("exceeded quota: jobs", status=403)
    for _ in range(2):
        with pytest.raises(RefusedError):
            await world.evaluations.start(draft())
    assert world.asked == [KEY]
    (view,) = world.evaluations.views(KEY)
    assert (view.job, view.fingerprint, view.finished) == (draft().name, "abc", False)
    assert "exceeded quota: jobs" in view.message
    world.server.refuse = None
    await world.evaluations.start(draft())
    (view,) = world.evaluations.views(KEY)
    assert "exceeded" not in view.message


async def test_somebody_else_s_account_of_that_name_is_left_alone(world: _World) -> None:
    world.server.objects["ServiceAccount", "finance", names.EVALUATOR_ACCOUNT] = body(names.EVALUATOR_ACCOUNT, 5)
    with pytest.raises(RefusedError, match="was not made by the operator"):
        await world.evaluations.start(draft())
    assert not world.server.writes


async def test_a_job_that_is_deleted_is_gone_from_the_views_and_one_never_made_is_not_tried_again(world: _World) -> None:
    await world.evaluations.start(draft())
    await world.evaluations.delete("finance", draft().name)
    assert world.server.writes[-1] == f"delete Job {draft().name}"
    world.server.refuse = ForbiddenError("exceeded quota", status=403)
    with pytest.raises(RefusedError):
        await world.evaluations.start(draft(2))
    world.server.refuse = None
    await world.evaluations.delete("finance", draft(2).name)
    assert all(view.job != draft(2).name for view in world.evaluations.views(KEY))


async def test_the_pod_of_a_job_concerns_its_task(world: _World) -> None:
    await world.evaluations.start(draft())
    job = world.cache.get(JOBS, draft().name, "finance")
    assert job is not None
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": draft().name, "uid": job["metadata"]["uid"], "controller": True}
    pod = body("x-1", 900, labels=job["spec"]["template"]["metadata"]["labels"])
    pod["metadata"]["ownerReferences"] = [owner]
    report = '{"outcome": "Unmeasurable", "message": "no judge", "permanent": true}'
    ended = {"name": "evaluator", "state": {"terminated": {"exitCode": 0, "message": report}}}
    world.told.clear()
    world.cache.put(PODS, {**pod, "status": {"phase": "Succeeded", "containerStatuses": [ended]}})
    assert world.told == [KEY]
    (view,) = world.evaluations.views(KEY)
    assert view.report is not None
    assert view.report.permanent
