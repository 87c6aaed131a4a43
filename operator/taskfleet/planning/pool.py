"""What a ModelPool's agents are told and asked, and what its status says.

Not here: its members and replicas (`packing`), and what its children look like (`resources`).
"""

from datetime import datetime

from taskfleet import names
from taskfleet.api.agent import AgentState, DesiredState
from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.modelpool import ModelPool, ModelPoolStatus
from taskfleet.api.servingclass import Autoscaler
from taskfleet.planning import servingclass
from taskfleet.planning.conditions import Finding, Outlook, Summary, events_between, merged, summary_of
from taskfleet.planning.desired import desired_state
from taskfleet.planning.members import member_statuses
from taskfleet.planning.plans import PoolPlan
from taskfleet.planning.podtrouble import Trouble, trouble
from taskfleet.planning.resolution import resolutions
from taskfleet.planning.scaling.coldstart import later_start
from taskfleet.planning.scaling.sleep import is_asleep, is_waking
from taskfleet.planning.scaling.status import demand_findings, scaling_events, scaling_status
from taskfleet.planning.snapshot import PoolSnapshot


def plan(snapshot: PoolSnapshot, *, now: datetime) -> PoolPlan:
    """The plan of one ModelPool. A pool that is being deleted gets none: its children go with it."""
    pool = snapshot.pool
    if pool.metadata.deletion_timestamp is not None:
        return PoolPlan()
    usable = snapshot.serving_class is not None and servingclass.violation(snapshot.serving_class.spec) is None
    desired = desired_state(pool, snapshot.serving_class) if usable and snapshot.serving_class is not None else None
    resolve, wait = resolutions(snapshot, now=now) if desired is not None else ((), None)
    status = _status(snapshot, usable=usable, now=now)
    return PoolPlan(
        desired=desired,
        put_to=_behind(snapshot, desired) if desired is not None else (),
        resolve=resolve,
        status=status,
        events=(
            *events_between(pool.status.conditions, status.conditions),
            *scaling_events(pool.status.scaling, status.scaling),
        ),
        requeue_after=wait,
    )


def selector(pool: ModelPool) -> dict[str, str]:
    """The labels by which the pool's Deployment and whoever scales it find its pods."""
    return {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_POOL: pool.metadata.name}


def _behind(snapshot: PoolSnapshot, desired: DesiredState) -> tuple[str, ...]:
    """Pods whose agents were heard, and have an older document, one with other limits, or another pool's."""
    reachable = {pod.name for pod in snapshot.pods if pod.reachable}
    return tuple(
        sorted(
            agent.pod
            for agent in snapshot.agents
            if agent.state is not None and agent.pod in reachable and _is_behind(agent.state, desired)
        )
    )


def _is_behind(state: AgentState, desired: DesiredState) -> bool:
    if state.pool_uid != desired.pool.uid or state.generation < desired.generation:
        return True
    # An agent that names no fingerprint is of an earlier release, or has a document that is: it would name none after a PUT either, so it would be told for ever.
    return state.generation == desired.generation and state.fingerprint not in {None, desired.fingerprint}


def _status(snapshot: PoolSnapshot, *, usable: bool, now: datetime) -> ModelPoolStatus:
    pool = snapshot.pool
    ready = sum(pod.serving for pod in snapshot.pods)
    found = trouble(snapshot)
    scaling = scaling_status(pool.status.scaling, snapshot.scaling, now=now)
    summary = _summary(snapshot, found, ready=ready, usable=usable)
    findings = (_available(snapshot, ready, found), *summary.findings, *demand_findings(scaling))
    return ModelPoolStatus(
        observed_generation=pool.metadata.generation,
        conditions=merged(pool.status.conditions, findings, generation=pool.metadata.generation, now=now),
        replicas=sum(not pod.deleting and pod.phase not in {"Failed", "Succeeded"} for pod in snapshot.pods),
        ready_replicas=ready,
        selector=",".join(f"{key}={value}" for key, value in sorted(selector(pool).items())),
        scaling=scaling,
        last_start=later_start(pool.status.last_start, snapshot.last_start),
        members=member_statuses(snapshot),
    )


def _available(snapshot: PoolSnapshot, ready: int, found: Trouble | None) -> Finding:
    if ready:
        also = f"; not all pods can start: {found.message}" if found is not None else ""
        return Finding(ConditionType.AVAILABLE, True, Reason.SERVING, f"at least one pod is Ready{also}")
    if found is not None:
        return Finding(ConditionType.AVAILABLE, False, found.reason, found.message)
    if is_asleep(snapshot.pool):
        return Finding(ConditionType.AVAILABLE, True, Reason.AT_ZERO, _who_wakes(snapshot))
    if is_waking(snapshot.pool):
        return Finding(ConditionType.AVAILABLE, True, Reason.WAKING, "waking; requests wait until a pod is Ready")
    return Finding(ConditionType.AVAILABLE, False, Reason.STARTING, "pods are starting")


def _who_wakes(snapshot: PoolSnapshot) -> str:
    found = snapshot.serving_class
    external = found is not None and found.spec.scaling.autoscaler is Autoscaler.EXTERNAL
    return "at zero, where another autoscaler put it; that one wakes it" if external else "asleep; the next request wakes it"


def _summary(snapshot: PoolSnapshot, found: Trouble | None, *, ready: int, usable: bool) -> Summary:
    name = snapshot.pool.spec.serving_class_name
    if snapshot.serving_class is None:
        return summary_of(Reason.CLASS_NOT_FOUND, f"there is no ServingClass {name}; what runs goes on")
    if not usable:
        return summary_of(Reason.CLASS_INVALID, f"ServingClass {name} is invalid; what runs goes on")
    if found is not None:
        return summary_of(found.reason, found.message)
    return _progress(snapshot, ready)


def _progress(snapshot: PoolSnapshot, ready: int) -> Summary:
    """Of a pool in which nothing is wrong."""
    if is_asleep(snapshot.pool):
        return Summary(Outlook.READY, Reason.AT_ZERO, _who_wakes(snapshot))
    deployment = snapshot.deployment
    wanted = snapshot.pool.spec.replicas
    if deployment is not None and deployment.rolled_out and deployment.replicas == wanted and ready >= wanted:
        return Summary(Outlook.READY, Reason.SERVING, "all pods are Ready")
    if ready > wanted:
        return Summary(Outlook.RECONCILING, Reason.PROGRESSING, f"pods are being taken away; {ready} serve, and {wanted} are wanted")
    if ready:
        return Summary(Outlook.RECONCILING, Reason.PROGRESSING, f"pods are being brought up; {ready} of {wanted} serve")
    return Summary(Outlook.RECONCILING, Reason.STARTING, "pods are starting")
