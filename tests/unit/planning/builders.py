"""Objects as tests need them: valid, small, and said in one line."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from taskfleet.api.agent import AdapterPhase, AdapterReport, AgentState, BaseReport, EngineReport, StartReport
from taskfleet.api.fields import Metadata
from taskfleet.api.modelpool import Member, MemberState, MemberStatus, ModelPool, ModelPoolSpec, ModelPoolStatus, Role
from taskfleet.api.revision import TaskModelRevision, TaskModelRevisionStatus
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel, TaskModelStatus
from taskfleet.planning import revisions
from taskfleet.planning.packing_key import PackingKey, key_of
from taskfleet.planning.snapshot import AgentView, ContainerView, DeploymentView, PodView

NAMESPACE = "finance"
BASE = {"source": "oci://registry.example/tiny-invoices", "revision": "v1"}
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def serving_class(
    name: str = "l4", *, default: bool = False, generation: int = 1, created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> ServingClass:
    annotations = {"taskfleet.dev/is-default-class": "true"} if default else {}
    return ServingClass.model_validate(
        {
            "metadata": {
                "name": name,
                "uid": f"class-{name}",
                "generation": generation,
                "annotations": annotations,
                "creationTimestamp": created,
            },
            "spec": {"engine": {"type": "vLLM", "image": "registry.example/vllm:1"}, **spec},
        }
    )


def task_model(
    name: str = "total", *, version: str | None = "v1", uid: str = "", created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> TaskModel:
    """`version` None: a task without adapter."""
    adapter = {} if version is None else {"adapter": {"source": f"oci://registry.example/{name}", "version": version}}
    return TaskModel.model_validate(
        {
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": uid or f"task-{name}",
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": {"servingClassName": "l4", "base": BASE, **adapter, **spec},
        }
    )


def with_status(task: TaskModel, **status: Any) -> TaskModel:
    return task.model_copy(update={"status": TaskModelStatus.model_validate(status)})


def revision_of(
    task: TaskModel, *, digest: str | None = None, phase: str | None = None, uid: str = "", created: str = "2026-01-01T00:00:00Z"
) -> TaskModelRevision:
    draft = revisions.draft(task)
    return TaskModelRevision(
        metadata=Metadata(
            name=draft.name,
            namespace=draft.namespace,
            uid=uid or f"uid-{draft.name}",
            generation=1,
            creation_timestamp=created,
            labels=dict(draft.labels),
        ),
        spec=draft.spec,
        status=TaskModelRevisionStatus(digest=digest, phase=phase),
    )


def key_for(task: TaskModel, class_name: str = "l4") -> PackingKey:
    return key_of(
        namespace=task.metadata.namespace,
        task_model=task.metadata.name,
        base=task.spec.base,
        serving_class=class_name,
        isolation=task.spec.isolation,
    )


def member_of(revision: TaskModelRevision, *, role: Role = Role.STABLE, digest: str | None = None) -> Member:
    adapter = revision.spec.adapter
    return Member(
        revision=revision.metadata.name,
        uid=revision.metadata.uid,
        task_model=revision.spec.task_model_name,
        role=role,
        adapter=adapter.model_copy(update={"digest": digest}) if adapter is not None else None,
    )


def pool_of(
    *members: Member,
    key: PackingKey,
    index: int = 0,
    generation: int = 1,
    base_digest: str | None = None,
    replicas: int = 1,
    status: ModelPoolStatus | None = None,
) -> ModelPool:
    name = key.pool_name(index)
    return ModelPool(
        metadata=Metadata(name=name, namespace=key.namespace, uid=f"uid-{name}", generation=generation),
        spec=ModelPoolSpec(
            serving_class_name=key.serving_class,
            base=key.base,
            base_digest=base_digest,
            isolation=key.isolation,
            replicas=replicas,
            members=list(members),
        ),
        status=status or ModelPoolStatus(),
    )


def pool_status(
    *members: MemberStatus, ready: int = 1, available: bool = True, reason: str = "Serving", message: str = "at least one pod is Ready"
) -> ModelPoolStatus:
    return ModelPoolStatus.model_validate(
        {
            "observedGeneration": 1,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True" if available else "False",
                    "reason": reason,
                    "message": message,
                    "observedGeneration": 1,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
            "replicas": max(ready, 1),
            "readyReplicas": ready,
            "members": [member.to_json() for member in members],
        }
    )


def said(revision: TaskModelRevision, state: MemberState = MemberState.PROVEN, reason: str = "Proven", message: str = "") -> MemberStatus:
    return MemberStatus(revision=revision.metadata.name, state=state, reason=reason, message=message)


def pod(name: str = "pod-a", *, ready: bool = True, **fields: Any) -> PodView:
    containers = (
        ContainerView(name="agent", ready=True),
        ContainerView(name="base", ready=True),
        ContainerView(name="engine", ready=ready),
    )
    return replace(PodView(name=name, ip="10.0.0.1", phase="Running", ready=ready, containers=containers), **fields)


def deployment(replicas: int = 1, *, ready: int | None = None, refusal: str | None = None) -> DeploymentView:
    return DeploymentView(
        generation=1,
        observed_generation=1,
        replicas=replicas,
        current_replicas=replicas,
        updated_replicas=replicas,
        ready_replicas=replicas if ready is None else ready,
        refusal=refusal,
    )


def agent(
    pool: ModelPool,
    name: str = "pod-a",
    *reports: AdapterReport,
    generation: int | None = None,
    fingerprint: str | None = None,
    staged: bool = True,
    reason: str = "Loading",
    message: str = "",
    error: str = "",
    start: StartReport | None = None,
) -> AgentView:
    state = AgentState(
        pod=name,
        pool_uid=pool.metadata.uid,
        generation=pool.metadata.generation if generation is None else generation,
        fingerprint=fingerprint,
        version=1,
        draining=False,
        base=BaseReport(staged=staged, reason="Proven" if staged else reason, message=message),
        engine=EngineReport(healthy=staged),
        adapters=reports,
        start=start,
    )
    return AgentView(pod=name, state=state, error=error)


def report(engine_name: str, phase: AdapterPhase = AdapterPhase.PROVEN, reason: str = "Proven", message: str = "") -> AdapterReport:
    return AdapterReport(engine_name=engine_name, revision="some", phase=phase, reason=reason, message=message)
