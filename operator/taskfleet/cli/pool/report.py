"""What is told of a ModelPool's size: one record for the table and for scripts."""

from taskfleet.api.conditions import ConditionType
from taskfleet.api.fields import Model
from taskfleet.api.modelpool import ModelPool, ScalingFloor, StartStatus
from taskfleet.planning.conditions import find


class MemberReport(Model):
    """One revision that the pool serves, or is to serve."""

    task_model: str
    revision: str
    role: str
    state: str = "Pending"


class PoolReport(Model):
    """One ModelPool. `reason` and `message`: why so many pods are wanted; `floor`: what raises the fewest now; `trouble`: why it can't answer, where it can't.

    `max_resident`: so many of its `adapters` a pod has loaded at a time, the others rest on its disk. Which ones changes with the requests, so no status has it.
    """

    namespace: str
    name: str
    serving_class: str
    desired_replicas: int
    ready_replicas: int
    reason: str = ""
    message: str = ""
    last_scale_time: str | None = None
    floor: ScalingFloor | None = None
    trouble: str = ""
    last_start: StartStatus | None = None
    adapters: int = 0
    max_resident: int | None = None
    members: tuple[MemberReport, ...] = ()


def report(pool: ModelPool, *, max_resident: int | None = None) -> PoolReport:
    """As the pool's spec and status say. `max_resident` is its ServingClass's, where that can be read."""
    spec, status, scaling = pool.spec, pool.status, pool.status.scaling
    states = {member.revision: member.state for member in status.members}
    members = [
        MemberReport(
            task_model=member.task_model,
            revision=member.revision,
            role=member.role,
            **({"state": states[member.revision]} if member.revision in states else {}),
        )
        for member in spec.members
    ]
    return PoolReport(
        namespace=pool.metadata.namespace,
        name=pool.metadata.name,
        serving_class=spec.serving_class_name,
        desired_replicas=scaling.desired_replicas if scaling is not None else spec.replicas,
        ready_replicas=status.ready_replicas,
        reason=scaling.reason if scaling is not None else "",
        message=scaling.message if scaling is not None else "",
        last_scale_time=scaling.last_scale_time if scaling is not None else None,
        floor=scaling.floor if scaling is not None else None,
        trouble=_trouble(pool),
        last_start=status.last_start,
        adapters=sum(member.adapter is not None for member in spec.members),
        max_resident=max_resident,
        members=tuple(members),
    )


def _trouble(pool: ModelPool) -> str:
    available = find(pool.status.conditions, ConditionType.AVAILABLE)
    return f"{available.reason}: {available.message}" if available is not None and available.status != "True" else ""
