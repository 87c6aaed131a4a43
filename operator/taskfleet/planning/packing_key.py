"""With whom a task may share a pool."""

from dataclasses import dataclass

from taskfleet import names
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.taskmodel import Base, Isolation


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PackingKey:
    """TaskModels with equal keys share pools. One queue key per PackingKey is the only writer of these pools' specs.

    The entry of the credentials Secret is part of it: a pool's base is immutable, so a task that names another entry could never be served by the same pool's agents.
    """

    namespace: str
    base_source: str
    base_revision: str
    base_credentials_key: str = ""
    serving_class: str
    isolation: Isolation = Isolation.SHARED
    task_model: str = ""  # only where isolation is Dedicated

    @property
    def parts(self) -> tuple[str, ...]:
        """What the pools' names are hashed from; its order must never change, or every pool gets a new name."""
        return (
            self.namespace,
            self.base_source,
            self.base_revision,
            self.base_credentials_key,
            self.serving_class,
            self.isolation.value,
            self.task_model,
        )

    @property
    def base(self) -> Base:
        return Base(source=self.base_source, revision=self.base_revision, credentials_key=self.base_credentials_key or None)

    def pool_name(self, index: int) -> str:
        """The name of the `index`-th pool of this key, from 0."""
        return names.pool_name(self.base_source, self.parts, index)

    def pool_index(self, name: str) -> int | None:
        """The index of the pool of that name; None for a pool of another key."""
        stem = self.pool_name(0)
        if name == stem:
            return 0
        suffix = name.removeprefix(f"{stem}-")
        return int(suffix) if name.startswith(f"{stem}-") and suffix.isdecimal() and suffix == str(int(suffix)) else None


def key_of(*, namespace: str, task_model: str, base: Base, serving_class: str, isolation: Isolation) -> PackingKey:
    """The key of one task's revision on a class."""
    return PackingKey(
        namespace=namespace,
        base_source=base.source,
        base_revision=base.revision,
        base_credentials_key=base.credentials_key or "",
        serving_class=serving_class,
        isolation=isolation,
        task_model=task_model if isolation is Isolation.DEDICATED else "",
    )


def key_of_pool(pool: ModelPool) -> PackingKey:
    """The key that a pool was made for. A Dedicated pool says by its label `names.LABEL_TASK_MODEL` whose it is."""
    spec = pool.spec
    owner = pool.metadata.labels.get(names.LABEL_TASK_MODEL) or next((member.task_model for member in spec.members), "")
    return key_of(
        namespace=pool.metadata.namespace,
        task_model=owner,
        base=spec.base,
        serving_class=spec.serving_class_name,
        isolation=spec.isolation,
    )
