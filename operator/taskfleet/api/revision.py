"""TaskModelRevision: one version of a task, immutable: everything that shapes an answer."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from taskfleet.api.conditions import Conditions
from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.fields import Digest, DnsLabel, Metadata, Model, VersionName, rules
from taskfleet.api.taskmodel import Adapter, Base, Task, Time


class TaskModelRevisionSpec(Model):
    """What this version is."""

    model_config = ConfigDict(
        json_schema_extra=rules(("self == oldSelf", "spec is immutable; another version is another TaskModelRevision"))
    )

    task_model_name: Annotated[DnsLabel, Field(description="The TaskModel that this is a version of.")]
    base: Annotated[Base, Field(description="The base model.")]
    adapter: Annotated[Adapter | None, Field(description="The adapter.")] = None
    task: Annotated[Task, Field(description="How the model is asked.")] = Task()


class Outcome(StrEnum):
    """How a rollout of a revision ended."""

    PROMOTED = "Promoted"
    REJECTED = "Rejected"


class Verdict(Model):
    """How the last rollout of this revision ended, and why. A rejected revision gets no traffic until somebody retries it."""

    outcome: Annotated[Outcome, Field(description="Promoted or Rejected.")]
    reason: Annotated[str, Field(max_length=64, description="Stable CamelCase word.")]
    message: Annotated[str, Field(max_length=1024, description="One sentence with the figures.")]
    at: Annotated[Time, Field(description="When.")]


class TaskModelRevisionStatus(Model):
    """Written by the operator."""

    model_config = ConfigDict(
        json_schema_extra=rules(("!has(oldSelf.digest) || (has(self.digest) && self.digest == oldSelf.digest)", "digest is recorded once")),
    )

    observed_generation: Annotated[int, Field(ge=0, description="Generation that this is about.")] = 0
    conditions: Annotated[Conditions, Field(description="AdapterReady, Ready.")] = Field(default_factory=list)
    digest: Annotated[Digest | None, Field(description="The adapter's digest, resolved once.")] = None
    resolved_version: Annotated[
        VersionName | None, Field(description="What the adapter's version stood for when it was resolved: a hub's commit.")
    ] = None
    phase: Annotated[str | None, Field(max_length=32, description="Pending, Stable, Superseded, Failed or Rejected.")] = None
    verdict: Annotated[Verdict | None, Field(description="How its last rollout ended.")] = None
    evaluation: Annotated[EvaluationReport | None, Field(description="What was measured for the gate.")] = None
    promoted_at: Annotated[Time | None, Field(description="When it got all traffic last.")] = None
    retried: Annotated[
        str | None, Field(max_length=128, description="The retry annotation that was acted on last: each value counts once.")
    ] = None


class TaskModelRevision(Model):
    """One version of a task: base, adapter, prompt, defaults and schema. Immutable."""

    metadata: Metadata
    spec: TaskModelRevisionSpec
    status: TaskModelRevisionStatus = TaskModelRevisionStatus()
