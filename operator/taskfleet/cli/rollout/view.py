"""What the commands see of one TaskModel: its own objects, and what can be seen of the pods and Jobs around them."""

from dataclasses import dataclass

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    """A pod of a pool. `phase` is Kubernetes' own, or Terminating."""

    name: str
    pool: str
    phase: str
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSeen:
    """A Job that measures a revision. `state`: Running, Complete or Failed."""

    name: str
    revision: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One TaskModel. `pods` and `jobs` are None where the user may not list them."""

    task: TaskModel
    revisions: tuple[TaskModelRevision, ...] = ()
    pools: tuple[ModelPool, ...] = ()
    pods: tuple[PodSeen, ...] | None = ()
    jobs: tuple[JobSeen, ...] | None = ()

    def revision(self, name: str | None) -> TaskModelRevision | None:
        """The revision of that name."""
        return next((revision for revision in self.revisions if revision.metadata.name == name), None)
