"""The Job of an evaluation: what a reviewer reads, and what its pod may not do."""

import os
from pathlib import Path
from typing import Any

import yaml

from taskfleet import names
from taskfleet.api.fields import Metadata
from taskfleet.api.taskmodel import Evaluation
from taskfleet.evaluation.settings import EvaluationSettings
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.resources.evaluation import evaluation_job, evaluator_account
from taskfleet.resources.settings import EvaluatorSettings
from tests.unit.planning.builders import digest

GOLDEN = Path(__file__).parent / "golden" / "evaluation.yaml"

SETTINGS = EvaluatorSettings(
    image="registry.example/taskfleet:1.0",
    gateway_url="http://taskfleet-gateway.taskfleet-system.svc/v1",
    audience="taskfleet-gateway",
    insecure_registries="registry.local:5000",
    allowed_networks="10.20.0.0/16",
    log_style="json",
)
# With what Kubernetes would take for a reference to another variable, and for an escape.
SCHEMA = '{"type": "object", "pattern": "^$(TASKFLEET_TASK)$$"}'


def draft(**evaluation: Any) -> EvaluationDraft:
    return EvaluationDraft(
        name="total-0123456789-eval-2",
        namespace="finance",
        task_model="total",
        revision="total-0123456789",
        revision_uid="uid-candidate",
        compared_with="total-9876543210",
        attempt=2,
        evaluation=Evaluation.model_validate({"dataset": {"configMapName": "golden"}, **evaluation}),
        dataset_digest=digest("d"),
        fingerprint="0123456789abcdef",
        output_schema=SCHEMA,
    )


def pod_of(of: EvaluationDraft) -> dict[str, Any]:
    found: dict[str, Any] = evaluation_job(of, SETTINGS)["spec"]["template"]["spec"]
    return found


def test_a_draft_gives_the_reviewed_objects() -> None:
    """UPDATE_GOLDEN=1 writes them anew; the difference is for a reviewer to read."""
    account = evaluator_account("finance", [Metadata(name="total", namespace="finance", uid="uid-total")])
    text = yaml.safe_dump_all([account, evaluation_job(draft(), SETTINGS, image_pull_secrets=["pull"])], sort_keys=False, width=140)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text


def test_the_evaluator_reads_what_the_operator_meant() -> None:
    (container,) = pod_of(draft(metric="FieldF1"))["containers"]
    settings = EvaluationSettings.from_environment({one["name"]: one["value"].replace("$$", "$") for one in container["env"]})
    assert (settings.namespace, settings.task, settings.candidate, settings.stable) == (
        "finance",
        "total",
        "total-0123456789",
        "total-9876543210",
    )
    assert settings.evaluation == draft(metric="FieldF1").evaluation
    assert (settings.dataset_digest, settings.output_schema) == (digest("d"), SCHEMA)
    assert not any("$(" in one["value"].replace("$$", "") for one in container["env"])
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(path.parent) for path in (settings.dataset, settings.token_path) if path is not None} <= mounted
    assert str(settings.credentials_dir) in mounted


def test_the_pod_has_no_token_but_one_that_the_gateway_takes() -> None:
    pod = pod_of(draft())
    assert pod["automountServiceAccountToken"] is False
    tokens = [
        source["serviceAccountToken"]
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "serviceAccountToken" in source
    ]
    assert [token["audience"] for token in tokens] == [SETTINGS.audience]


def test_a_golden_set_from_an_artifact_mounts_no_config_map() -> None:
    pod = pod_of(draft(dataset={"source": "oci://registry.example/golden", "digest": digest("f")}))
    assert not any("configMap" in volume for volume in pod["volumes"])
    (container,) = pod["containers"]
    assert "TASKFLEET_DATASET" not in {one["name"] for one in container["env"]}


def test_a_first_revision_is_compared_with_nothing() -> None:
    first = EvaluationDraft(
        **{field: getattr(draft(), field) for field in EvaluationDraft.__dataclass_fields__ if field != "compared_with"}, compared_with=None
    )
    job = evaluation_job(first, SETTINGS)
    assert names.ANNOTATION_COMPARED_WITH not in job["metadata"]["annotations"]


def test_names_of_jobs_fit_into_a_label_and_differ_by_attempt() -> None:
    longest = f"{'t' * names.TASK_MODEL_NAME_LENGTH}-0123456789"
    jobs = {names.evaluation_job(longest, attempt) for attempt in (1, 2, 100_000)}
    assert len(jobs) == 3
    assert all(len(job) <= 63 and "-0123456789-eval-" in job for job in jobs)
    assert names.evaluation_job("total-0123456789", 1) == "total-0123456789-eval-1"
