"""A whole fleet in memory, for stories: the planners are the real ones, everything around them is played.

Pods are scheduled, agents take documents up, resolve, load and prove, gateways follow, golden sets are run, users ask; each can be told to fail. `settle()` carries plans out,
one object at a time as the controller would, until nothing changes any more, and writes down every step that a person could see.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from taskfleet import names
from taskfleet.api.agent import AdapterPhase, AdapterReport, AgentState, BaseReport, DesiredState, EngineReport
from taskfleet.api.conditions import Condition
from taskfleet.api.evaluation import EvaluationReport, Figures, Measured
from taskfleet.api.fields import Metadata
from taskfleet.api.measurements import latency_bucket
from taskfleet.api.modelpool import ModelPool, ModelPoolStatus
from taskfleet.api.revision import TaskModelRevision, TaskModelRevisionStatus
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel, TaskModelStatus, TrafficTarget
from taskfleet.evaluation.settings import settings_digest
from taskfleet.planning import packing, pool, revisionstatus, taskmodel
from taskfleet.planning.conditions import outlook_of
from taskfleet.planning.packing_key import PackingKey, key_of_pool
from taskfleet.planning.plans import EvaluationDraft, Event, Resolution, TaskPlan
from taskfleet.planning.snapshot import (
    AgentView,
    ContainerView,
    DatasetView,
    DeploymentView,
    EvaluationView,
    Evidence,
    GatewayView,
    PackingSnapshot,
    PackingTask,
    PodView,
    PoolSnapshot,
    ResolutionFailure,
    TaskSnapshot,
    Window,
)
from tests.unit.planning.builders import NOW

GATEWAY_URL = "http://gateway.example"


@dataclass
class Pod:
    """A pod, its agent and its engine. `heard`: has the operator heard the agent?"""

    name: str
    pool: str
    template: str
    scheduled: bool = False
    document: DesiredState | None = None

    def state(self, fleet: "Fleet", uid: str) -> AgentState:
        staged = self.document is not None and self.document.base_digest is not None
        adapters = tuple(
            _report(adapter.engine_name, adapter.revision, adapter.adapter.digest or "", fleet) for adapter in self.held(staged=staged)
        )
        return AgentState(
            pod=self.name,
            pool_uid=uid,
            generation=self.document.generation if self.document is not None else 0,
            fingerprint=self.document.fingerprint if self.document is not None else None,
            version=1,
            draining=False,
            base=BaseReport(staged=staged, reason="Proven" if staged else "Loading"),
            engine=EngineReport(healthy=staged),
            adapters=adapters,
        )

    def held(self, *, staged: bool) -> tuple[Any, ...]:
        return self.document.adapters if staged and self.document is not None else ()

    @property
    def ready(self) -> bool:
        return self.scheduled and self.document is not None and self.document.base_digest is not None


def _report(engine_name: str, revision: str, digest: str, fleet: "Fleet") -> AdapterReport:
    if digest in fleet.broken:
        return AdapterReport(
            engine_name=engine_name, revision=revision, phase=AdapterPhase.FAILED, reason="ArtifactInvalid", message=fleet.broken[digest]
        )
    return AdapterReport(engine_name=engine_name, revision=revision, phase=AdapterPhase.PROVEN, reason="Proven")


@dataclass
class Fleet:
    """The cluster, the registry, the gateways, and what was seen."""

    now: datetime = NOW
    classes: dict[str, ServingClass] = field(default_factory=dict)
    tasks: dict[str, TaskModel] = field(default_factory=dict)
    revisions: dict[str, TaskModelRevision] = field(default_factory=dict)
    pools: dict[str, ModelPool] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    failures: dict[tuple[str, str], ResolutionFailure] = field(default_factory=dict)
    base_digests: dict[str, str] = field(default_factory=dict)
    # What the story may change.
    registry: dict[str, str] = field(default_factory=dict)  # "source version" → digest
    registry_is_up: bool = True
    unresolved: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # "source version" → what agents say instead of a digest: reason and message
    broken: dict[str, str] = field(default_factory=dict)  # digest → why no agent can load it
    free_devices: int = 99
    gateways: dict[str, tuple[TrafficTarget, ...] | None] = field(default_factory=lambda: {"gateway-0": None})
    gateways_follow: bool = True
    followed: dict[tuple[str, str], tuple[TrafficTarget, ...]] = field(default_factory=dict)  # by gateway and task
    jobs: dict[str, EvaluationView] = field(default_factory=dict)
    golden_set: DatasetView = field(default_factory=lambda: DatasetView(digest=f"sha256:{'9' * 64}", examples=60))
    scores: dict[str, float] = field(default_factory=dict)  # digest → score on the golden set, in percent; 97 unless told otherwise
    unmeasurable: int = 0  # so many of the next evaluations come to nothing
    requests_per_second: float = 10.0
    failing: dict[str, float] = field(default_factory=dict)  # digest → share of requests that fail
    slow: dict[str, float] = field(default_factory=dict)  # digest → how many times as long its answers take
    transcript: list[str] = field(default_factory=list)
    serial: int = 0

    def apply(self, task: TaskModel) -> None:
        """What `kubectl apply` does."""
        before = self.tasks.get(task.metadata.name)
        generation = before.metadata.generation if before else 0
        grown = generation + (before is None or before.spec != task.spec)
        metadata = task.metadata.model_copy(update={"generation": grown})
        self.tasks[task.metadata.name] = task.model_copy(
            update={"metadata": metadata, "status": before.status if before else TaskModelStatus()}
        )

    def settle(self, title: str, *, seconds: int = 600) -> None:
        """Carries plans out until nothing changes; time passes only where a plan asks for it, and at most so many seconds."""
        self.transcript.append(f"\n== {title}")
        deadline = self.now + timedelta(seconds=seconds)
        for _ in range(500):
            waits, changed = self._round()
            if changed:
                self.now += timedelta(seconds=1)
            elif waits and self.now + timedelta(seconds=min(waits)) <= deadline:
                self.now += timedelta(seconds=max(min(waits), 1))
            else:
                break
        else:
            raise AssertionError(f"never settles:\n{self.text}")
        for task in self.tasks.values():
            self.transcript.append(f"   = {_standing(task)}")

    @property
    def text(self) -> str:
        return "\n".join(self.transcript).strip() + "\n"

    def said(self, line: str) -> None:
        self.transcript.append(f"   {line}")

    def _round(self) -> tuple[list[float], bool]:
        waits: list[float] = []
        before = (dict(self.tasks), dict(self.revisions), dict(self.pools), repr(self.pods), len(self.transcript))
        for name in sorted(self.tasks):
            waits += self._task(name)
        for name in sorted(self.pools):
            waits += self._pool(name)
        self._play()
        return waits, before != (self.tasks, self.revisions, self.pools, repr(self.pods), len(self.transcript))

    def _task(self, name: str) -> list[float]:
        snapshot = self.task_snapshot(name)
        plan = taskmodel.plan(snapshot, now=self.now)
        if plan.read_dataset:
            snapshot = replace(snapshot, dataset=self.golden_set)
            plan = taskmodel.plan(snapshot, now=self.now)
        if plan.ask_gateways:
            views = tuple(
                GatewayView(name=gateway, traffic=self.followed.get((gateway, name), traffic)) for gateway, traffic in self.gateways.items()
            )
            plan = taskmodel.plan(replace(snapshot, gateways=views), now=self.now)
        self._carry_out(name, plan)
        for key in plan.packing_keys:
            self._pack(key)
        self._evaluate(plan)
        for revision in plan.delete_revisions:
            del self.revisions[revision]
            self.said(f"delete tmr {revision}")
        return [plan.requeue_after] if plan.requeue_after is not None else []

    def task_snapshot(self, name: str) -> TaskSnapshot:
        return TaskSnapshot(
            task=self.tasks[name],
            serving_classes=tuple(self.classes.values()),
            revisions=self._revisions_of(name),
            pools=tuple(self.pools.values()),
            gateway_url=GATEWAY_URL,
            evaluations=tuple(view for view in self.jobs.values() if self._task_of(view.revision) == name),
            evidence=self._evidence(self.tasks[name].status),
        )

    def _evidence(self, status: TaskModelStatus) -> Evidence | None:
        """What users' requests came to since the step began."""
        rollout = status.rollout
        if rollout is None or rollout.step_started_at is None or len(status.traffic) < 2:
            return None
        since = datetime.fromisoformat(rollout.step_started_at)
        stable, candidate = status.traffic
        asked = self.requests_per_second * (self.now - since).total_seconds()
        return Evidence(
            since=since,
            stable=self._window(stable.revision, asked * stable.weight_percent / 100),
            candidate=self._window(candidate.revision, asked * candidate.weight_percent / 100),
            shadow=self._window(candidate.revision, asked * (candidate.shadow_percent or 0) / 100),
        )

    def _window(self, revision: str, asked: float) -> Window:
        digest = self.revisions[revision].status.digest or ""
        requests, errors = int(asked), int(asked * self.failing.get(digest, 0.0))
        middle = latency_bucket(0.1 * self.slow.get(digest, 1.0))
        answers = requests - errors
        latency = {middle - 1: answers // 4, middle: answers - 2 * (answers // 4), middle + 1: answers // 4}
        return Window(requests=requests, errors=errors, latency={bucket: count for bucket, count in latency.items() if count})

    def _evaluate(self, plan: TaskPlan) -> None:
        for job in plan.delete_jobs:
            if self.jobs.pop(job, None) is not None:
                self.said(f"delete job {job}")
        draft = plan.evaluate
        if draft is not None and draft.name not in self.jobs:
            self.said(f"job {draft.name} measures {draft.revision}{f' beside {draft.compared_with}' if draft.compared_with else ''}")
            self.jobs[draft.name] = EvaluationView(
                job=draft.name,
                revision=draft.revision,
                compared_with=draft.compared_with,
                attempt=draft.attempt,
                fingerprint=draft.fingerprint,
                finished=True,
                finished_at=self.now,
                report=self._report(draft),
            )

    def _report(self, draft: EvaluationDraft) -> EvaluationReport:
        if self.unmeasurable:
            self.unmeasurable -= 1
            return EvaluationReport(outcome=Measured.UNMEASURABLE, message="7 of 60 examples were answered")
        candidate = self._figures(draft.revision)
        stable = self._figures(draft.compared_with) if draft.compared_with is not None else None
        difference = candidate.score_percent - stable.score_percent if stable is not None else None
        return EvaluationReport(
            outcome=Measured.MEASURED,
            metric=draft.evaluation.metric.value,
            dataset_digest=self.golden_set.digest,
            settings_digest=settings_digest(draft.evaluation),
            samples=self.golden_set.examples,
            candidate=candidate,
            stable=stable,
            difference_percent=difference,
            difference_lower_percent=difference - 0.5 if difference is not None else None,
            difference_upper_percent=difference + 0.5 if difference is not None else None,
        )

    def _figures(self, revision: str) -> Figures:
        return Figures(revision=revision, score_percent=self.scores.get(self.revisions[revision].status.digest or "", 97.0))

    def _carry_out(self, name: str, plan: TaskPlan) -> None:
        task = self.tasks[name]
        if plan.revision is not None and plan.revision.name not in self.revisions:
            self.serial += 1
            metadata = Metadata(
                name=plan.revision.name,
                namespace=plan.revision.namespace,
                uid=f"uid-{self.serial}",
                generation=1,
                creation_timestamp=self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                labels=dict(plan.revision.labels),
            )
            self.revisions[plan.revision.name] = TaskModelRevision(
                metadata=metadata, spec=plan.revision.spec, status=TaskModelRevisionStatus()
            )
            self.said(f"create tmr {plan.revision.name} ({plan.revision.spec.adapter.version if plan.revision.spec.adapter else 'base'})")
        for revision, status in plan.revision_statuses.items():
            before = self.revisions[revision].status
            if status != before:
                self.revisions[revision] = self.revisions[revision].model_copy(update={"status": status})
                if status.phase != before.phase:
                    self.said(f"tmr {revision}: {status.phase}")
        if plan.status is not None and plan.status != task.status:
            self._show_change(name, task.status, plan.status)
            self.tasks[name] = task.model_copy(update={"status": plan.status})
        self._show_events("tm", name, plan.events)

    def _pack(self, key: PackingKey) -> None:
        plan = packing.pack(
            PackingSnapshot(
                key=key,
                serving_classes=tuple(self.classes.values()),
                tasks=tuple(PackingTask(task=task, revisions=self._revisions_of(name)) for name, task in sorted(self.tasks.items())),
                pools=tuple(self.pools.values()),
                base_digests=self.base_digests,
            )
        )
        for draft in plan.apply:
            before = self.pools.get(draft.name)
            if before is not None and before.spec == draft.spec:
                continue
            self.serial += before is None
            metadata = Metadata(
                name=draft.name,
                namespace=draft.namespace,
                uid=before.metadata.uid if before else f"uid-{self.serial}",
                generation=before.metadata.generation + 1 if before else 1,
                labels=dict(draft.labels),
            )
            self.pools[draft.name] = ModelPool(metadata=metadata, spec=draft.spec, status=before.status if before else ModelPoolStatus())
            members = ", ".join(
                f"{member.revision} {member.role.value}{'' if _known(member) else ' (no digest)'}" for member in draft.spec.members
            )
            self.said(f"apply mp {draft.name}: {members}")
        for deletion in plan.delete:
            del self.pools[deletion.name]
            self.pods = {name: found for name, found in self.pods.items() if found.pool != deletion.name}
            self.said(f"delete mp {deletion.name}")

    def _pool(self, name: str) -> list[float]:
        the_pool = self.pools[name]
        plan = pool.plan(self.pool_snapshot(name), now=self.now)
        if plan.desired is not None:
            self._play_pods(the_pool, self.classes[the_pool.spec.serving_class_name], plan.desired)
        for pod_name in plan.put_to:
            self.pods[pod_name].document = plan.desired
        for resolution in plan.resolve:
            self._resolve(the_pool, resolution)
        if plan.status is not None and plan.status != the_pool.status:
            self._show_pool_change(name, the_pool.status, plan.status)
            self.pools[name] = the_pool.model_copy(update={"status": plan.status})
        self._show_events("mp", name, plan.events)
        return [plan.requeue_after] if plan.requeue_after is not None else []

    def pool_snapshot(self, name: str) -> PoolSnapshot:
        the_pool = self.pools[name]
        own = [found for found in self.pods.values() if found.pool == name]
        ready = sum(found.ready for found in own)
        return PoolSnapshot(
            pool=the_pool,
            serving_class=self.classes.get(the_pool.spec.serving_class_name),
            deployment=DeploymentView(
                replicas=the_pool.spec.replicas, current_replicas=len(own), updated_replicas=len(own), ready_replicas=ready
            ),
            pods=tuple(_view(found) for found in own),
            agents=tuple(AgentView(pod=found.name, state=found.state(self, the_pool.metadata.uid)) for found in own if found.scheduled),
            revisions=tuple(self.revisions.values()),
            failures=tuple(failure for (home, _), failure in self.failures.items() if home == name),
        )

    def _resolve(self, the_pool: ModelPool, resolution: Resolution) -> None:
        request = resolution.request
        key = (the_pool.metadata.name, resolution.revision)
        name = f"{request.source} {request.version}"
        found = self.registry.get(name) if self.registry_is_up and name not in self.unresolved else None
        if found is None:
            before = self.failures.get(key)
            reason, message = self.unresolved.get(
                name,
                ("ArtifactNotFound", f"{request.source} has no version {request.version}")
                if self.registry_is_up
                else ("SourceUnavailable", f"{request.source} does not answer"),
            )
            # As `controller.resolutions` counts.
            attempts = before.attempts + 1 if before and reason != "Resolving" else 1
            self.failures[key] = ResolutionFailure(
                kind=request.kind,
                revision=resolution.revision,
                reason=reason,
                message=message,
                permanent=False,
                attempts=attempts,
                at=self.now,
            )
            if before is None or before.reason != reason:
                self.said(f"pod {resolution.pod} can't resolve {request.source} {request.version}: {reason}")
            return
        self.failures.pop(key, None)
        self.said(f"pod {resolution.pod} resolves {request.source} {request.version} to {found[:12]}")
        if not resolution.revision:
            self.base_digests[the_pool.metadata.name] = found
            self._pack(key_of_pool(the_pool))
            return
        revision = self.revisions[resolution.revision]
        self.revisions[resolution.revision] = revision.model_copy(update={"status": revisionstatus.with_digest(revision, found)})

    def _play_pods(self, the_pool: ModelPool, serving_class: ServingClass, desired: DesiredState) -> None:
        """Deployment and scheduler."""
        own = [found for found in self.pods.values() if found.pool == the_pool.metadata.name]
        for _ in range(len(own), the_pool.spec.replicas):
            self.serial += 1
            name = f"pod-{self.serial}"
            # A starting pod finds the document in its ConfigMap.
            self.pods[name] = Pod(name=name, pool=the_pool.metadata.name, template=serving_class.spec.engine.image, document=desired)
            self.said(f"pod {name} of {the_pool.metadata.name} is created")
        for found in own[the_pool.spec.replicas :]:
            del self.pods[found.name]

    def _play(self) -> None:
        for found in self.pods.values():
            if not found.scheduled and sum(other.scheduled for other in self.pods.values()) < self.free_devices:
                found.scheduled = True
                self.said(f"pod {found.name} runs")
        if self.gateways_follow:
            for task in self.tasks.values():
                for gateway in self.gateways:
                    self.followed[gateway, task.metadata.name] = tuple(task.status.traffic)

    def _task_of(self, revision: str) -> str | None:
        found = self.revisions.get(revision)
        return found.metadata.labels[names.LABEL_TASK_MODEL] if found is not None else None

    def _revisions_of(self, task: str) -> tuple[TaskModelRevision, ...]:
        return tuple(found for found in self.revisions.values() if found.metadata.labels[names.LABEL_TASK_MODEL] == task)

    def _show_change(self, name: str, before: TaskModelStatus, after: TaskModelStatus) -> None:
        if before.traffic != after.traffic:
            self.said(f"tm {name}: traffic {_traffic(before)} → {_traffic(after)}")
        phases = [_phase(status) for status in (before, after)]
        if phases[0] != phases[1]:
            self.said(f"tm {name}: rollout {phases[1]}")
        messages = [status.rollout.message or "" if status.rollout is not None else "" for status in (before, after)]
        if messages[0] != messages[1] and "slot" in messages[1]:
            self.said(f"tm {name}: {messages[1]}")
        _show_conditions(self.said, f"tm {name}", before.conditions, after.conditions)

    def _show_pool_change(self, name: str, before: ModelPoolStatus, after: ModelPoolStatus) -> None:
        states = {member.revision: member.state for member in before.members}
        for member in after.members:
            if states.get(member.revision) is not member.state:
                self.said(f"mp {name}: {member.revision} {member.state.value}, {member.reason}")
        _show_conditions(self.said, f"mp {name}", before.conditions, after.conditions)

    def _show_events(self, kind: str, name: str, events: tuple[Event, ...]) -> None:
        for event in events:
            self.said(f"event {kind} {name}: {event.type} {event.reason}: {event.message}")


def _show_conditions(say: Callable[[str], None], who: str, before: list[Condition], after: list[Condition]) -> None:
    words = {condition.type: (condition.status, condition.reason) for condition in before}
    for condition in after:
        if words.get(condition.type) != (condition.status, condition.reason):
            say(f"{who}: {condition.type}={condition.status} {condition.reason}: {condition.message}")
    for gone in sorted(set(words) - {condition.type for condition in after}):
        say(f"{who}: {gone} is gone")


def _standing(task: TaskModel) -> str:
    outlook = outlook_of(task.status.conditions)
    ready = next(condition for condition in task.status.conditions if condition.type == "Ready")
    return f"tm {task.metadata.name}: {outlook.value if outlook else '?'}, {ready.reason}, traffic {_traffic(task.status)}"


def _phase(status: TaskModelStatus) -> str:
    rollout = status.rollout
    if rollout is None:
        return "-"
    step = f" {rollout.step} of {rollout.steps}" if rollout.step is not None else ""
    return f"{rollout.revision} {rollout.phase}{step}{f', held: {rollout.hold}' if rollout.hold is not None else ''}"


def _traffic(status: TaskModelStatus) -> str:
    return ", ".join(f"{target.revision} on {target.pool} {target.weight_percent} %{_shadow(target)}" for target in status.traffic) or "-"


def _shadow(target: TrafficTarget) -> str:
    return f" and {target.shadow_percent} % mirrored" if target.shadow_percent else ""


def _view(found: Pod) -> PodView:
    return PodView(
        name=found.name,
        ip="10.0.0.1" if found.scheduled else "",
        phase="Running" if found.ready else "Pending",
        ready=found.ready,
        unschedulable=None if found.scheduled else "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        containers=(ContainerView(name="engine", ready=found.ready),) if found.scheduled else (),
    )


def _known(member: Any) -> bool:
    return member.adapter is None or member.adapter.digest is not None
