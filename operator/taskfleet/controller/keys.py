"""Keys of the queue: what is reconciled as one. Another kind is `planning.packing_key.PackingKey`."""

from dataclasses import dataclass
from typing import TypeAlias

from taskfleet.planning.packing_key import PackingKey


@dataclass(frozen=True, slots=True)
class TaskKey:
    """One TaskModel with its revisions."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PoolKey:
    """One ModelPool with its children and agents."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ScalingKey:
    """The number of pods of one ModelPool."""

    namespace: str
    name: str

    @property
    def pool(self) -> PoolKey:
        return PoolKey(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ClassKey:
    """One ServingClass."""

    name: str

    def __str__(self) -> str:
        return self.name


Key: TypeAlias = TaskKey | PoolKey | ScalingKey | ClassKey | PackingKey

_KINDS: dict[type, str] = {TaskKey: "taskmodel", PoolKey: "pool", ScalingKey: "scaling", ClassKey: "servingclass", PackingKey: "packing"}
KINDS = tuple(_KINDS.values())


def kind_of(key: Key) -> str:
    """For figures and logs."""
    return _KINDS[type(key)]


def tenant_of(key: Key) -> str:
    """Whose work it is: a namespace's, or the administrators' (empty)."""
    return "" if isinstance(key, ClassKey) else key.namespace


def is_shared(key: Key) -> bool:
    """What tasks wait for: their pool, its members, its pods."""
    return not isinstance(key, TaskKey)


def text_of(key: Key) -> str:
    """For logs."""
    return f"{key.namespace}/{key.pool_name(0)}" if isinstance(key, PackingKey) else str(key)
