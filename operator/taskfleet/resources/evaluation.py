"""The Job that runs a golden set for a gate, and the ServiceAccount that it runs under.

Its pod has no right on the API server: a token for the gateway is all that it gets, and its report leaves it as the termination message of its container.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from taskfleet import names
from taskfleet.api.fields import Metadata
from taskfleet.evaluation.settings import EvaluationSettings
from taskfleet.planning.plans import EvaluationDraft
from taskfleet.resources.metadata import Json, given
from taskfleet.resources.security import container_security, pod_security
from taskfleet.resources.settings import EvaluatorSettings

CONTAINER = "evaluator"

_DATASET = Path("/etc/taskfleet/dataset/golden.jsonl")
_TOKEN = Path("/var/run/secrets/taskfleet/token")
_CREDENTIALS = Path("/etc/taskfleet/credentials")
_TOKEN_SECONDS = 600  # the shortest that Kubernetes gives; the kubelet renews it
# Limits in both, so that it starts also where a quota asks for them. It waits for answers most of the time.
_RESOURCES: Json = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


def evaluator_account(namespace: str, owners: Iterable[Metadata]) -> Json:
    """Goes with the last TaskModel of the namespace that has a gate."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": names.EVALUATOR_ACCOUNT,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "ownerReferences": [_owner("TaskModel", owner.name, owner.uid, controller=False) for owner in owners],
        },
        "automountServiceAccountToken": False,
    }


def evaluation_job(draft: EvaluationDraft, settings: EvaluatorSettings, *, image_pull_secrets: Sequence[str] = ()) -> Json:
    """Runs once: whether there is another try is the gate's to say. It stays when it has ended, because its log has the outcome of every example."""
    labels = {
        "app.kubernetes.io/name": "taskfleet-evaluation",
        "app.kubernetes.io/component": "evaluation",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_TASK_MODEL: draft.task_model,
        names.LABEL_EVALUATION: draft.revision,
    }
    annotations = {
        names.ANNOTATION_ATTEMPT: str(draft.attempt),
        names.ANNOTATION_FINGERPRINT: draft.fingerprint,
        names.ANNOTATION_COMPARED_WITH: draft.compared_with,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": draft.name,
            "namespace": draft.namespace,
            "labels": labels,
            "annotations": given(annotations),
            "ownerReferences": [_owner("TaskModelRevision", draft.revision, draft.revision_uid, controller=True)],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": draft.evaluation.timeout_seconds,
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": given(
                    {
                        "serviceAccountName": names.EVALUATOR_ACCOUNT,
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        "restartPolicy": "Never",
                        "securityContext": pod_security(),
                        "imagePullSecrets": [{"name": name} for name in image_pull_secrets],
                        "containers": [_container(draft, settings)],
                        "volumes": _volumes(draft, settings),
                    }
                ),
            },
        },
    }


def _owner(kind: str, name: str, uid: str, *, controller: bool) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": controller,
        "blockOwnerDeletion": False,
    }


def _container(draft: EvaluationDraft, settings: EvaluatorSettings) -> Json:
    environment = _settings(draft, settings).environment()
    return {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["taskfleet", "evaluate", "job"],
        # Kubernetes takes $(NAME) for a reference and $$ for one $; a pattern in a schema may have either.
        "env": [{"name": name, "value": value.replace("$", "$$")} for name, value in sorted(environment.items())],
        "resources": _RESOURCES,
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (a mount point)
            {"name": "token", "mountPath": str(_TOKEN.parent), "readOnly": True},
            {"name": "credentials", "mountPath": str(_CREDENTIALS), "readOnly": True},
            *([{"name": "dataset", "mountPath": str(_DATASET.parent), "readOnly": True}] if _is_mounted(draft) else []),
        ],
    }


def _settings(draft: EvaluationDraft, settings: EvaluatorSettings) -> EvaluationSettings:
    return EvaluationSettings(
        gateway_url=settings.gateway_url,
        namespace=draft.namespace,
        task=draft.task_model,
        candidate=draft.revision,
        stable=draft.compared_with,
        evaluation=draft.evaluation,
        dataset=_DATASET if _is_mounted(draft) else None,
        dataset_digest=draft.dataset_digest,
        output_schema=draft.output_schema,
        token_path=_TOKEN,
        credentials_dir=_CREDENTIALS,
        insecure_registries=settings.insecure_registries,
        allowed_networks=settings.allowed_networks,
        log_level=settings.log_level,
        log_style=settings.log_style,
    )


def _is_mounted(draft: EvaluationDraft) -> bool:
    return draft.evaluation.dataset.config_map_name is not None


def _volumes(draft: EvaluationDraft, settings: EvaluatorSettings) -> list[Json]:
    token = {"path": _TOKEN.name, "audience": settings.audience, "expirationSeconds": _TOKEN_SECONDS}
    return [
        {"name": "tmp", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "credentials", "secret": {"secretName": names.CREDENTIALS_SECRET, "optional": True}},
        *([_dataset(draft)] if _is_mounted(draft) else []),
    ]


def _dataset(draft: EvaluationDraft) -> Json:
    dataset = draft.evaluation.dataset
    return {"name": "dataset", "configMap": {"name": dataset.config_map_name, "items": [{"key": dataset.key, "path": _DATASET.name}]}}
