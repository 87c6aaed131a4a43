"""Between which numbers of pods a pool moves: what its tasks ask for, with the class's defaults."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.floor import Floor

MAX_REPLICAS = 256


class Origin(Enum):
    """Who says how few or how many pods a task may have."""

    TASK = auto()
    CLASS = auto()  # its default
    WISH = auto()  # of the most alone: what the task asks for at least is more than the class's default
    FROZEN = auto()  # nobody: there are so many


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScaling:
    """How one task is scaled, with nothing left open."""

    fewest: int
    most: int
    fewest_by: Origin = Origin.TASK
    most_by: Origin = Origin.TASK
    target: int  # requests at a time that a pod is to have
    idle_seconds: int
    frozen: bool = False  # suspended or unreadable: it keeps what there is
    floor: Floor | None = None  # what asks for the fewest, where that is more than the minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Fewest and most pods of a pool, both included."""

    fewest: int
    most: int
    frozen: bool = False  # a frozen task asks for the fewest, and nobody for more

    def clipped(self, replicas: int) -> int:
        """The nearest allowed number."""
        return max(self.fewest, min(replicas, self.most))


def scaling_of(scaling: Scaling | None, defaults: ScalingDefaults, *, present: int, floor: Floor | None = None) -> TaskScaling:
    """A task's wishes with the class's defaults, and with what raises its minimum now. None: the task is frozen and keeps the `present` pods.

    The class's maximum is a default too: a task that asks for more and says no maximum gets what it asks for, at any time.
    """
    if scaling is None:
        return TaskScaling(
            fewest=present,
            most=max(present, 1),
            target=defaults.target_concurrency,
            idle_seconds=defaults.idle_seconds,
            frozen=True,
            fewest_by=Origin.FROZEN,
            most_by=Origin.FROZEN,
        )
    fewest = defaults.min_replicas if scaling.min_replicas is None else scaling.min_replicas
    asked = max((scaling.min_replicas or 0, *(schedule.min_replicas for schedule in scaling.schedules)))
    most = max(defaults.max_replicas, asked) if scaling.max_replicas is None else scaling.max_replicas
    most = min(most, MAX_REPLICAS)
    allowed = replace(floor, replicas=min(floor.replicas, most)) if floor is not None else None
    raised = allowed if allowed is not None and allowed.replicas > fewest else None
    return TaskScaling(
        fewest=min(fewest, most) if raised is None else raised.replicas,
        most=most,
        fewest_by=Origin.CLASS if scaling.min_replicas is None else Origin.TASK,
        most_by=_most_by(scaling, defaults, asked),
        target=defaults.target_concurrency if scaling.target_concurrency is None else scaling.target_concurrency,
        idle_seconds=defaults.idle_seconds if scaling.idle_seconds is None else scaling.idle_seconds,
        floor=raised,
    )


def _most_by(scaling: Scaling, defaults: ScalingDefaults, asked: int) -> Origin:
    if scaling.max_replicas is not None:
        return Origin.TASK
    return Origin.WISH if asked > defaults.max_replicas else Origin.CLASS


def bounds_of(wishes: Iterable[TaskScaling]) -> Bounds:
    """The greatest minimum and the greatest maximum of a pool's tasks; one pod for a pool without tasks."""
    found = tuple(wishes)
    if not found:
        return Bounds(fewest=1, most=1)
    fewest = max(wish.fewest for wish in found)
    asked = max((wish.fewest for wish in found if not wish.frozen), default=0)
    return Bounds(fewest=fewest, most=max(wish.most for wish in found), frozen=fewest > asked)


def floor_of(wishes: Mapping[str, TaskScaling], bounds: Bounds) -> tuple[str, Floor] | None:
    """What raises the fewest pods above everybody's minimum, and for which task."""
    first = [(task, wish.floor) for task, wish in sorted(wishes.items()) if wish.fewest == bounds.fewest and not wish.frozen]
    return next(((task, floor) for task, floor in first if floor is not None), None) if all(floor for _, floor in first) else None


def of_task(scaling: Scaling, defaults: ScalingDefaults) -> int:
    """What one task asks for at least, and never none: what a pool has that nobody scales."""
    return max(1, scaling_of(scaling, defaults, present=1).fewest)


def of_pool(wishes: Iterable[int]) -> int:
    """The greatest wish."""
    return max((1, *wishes))
