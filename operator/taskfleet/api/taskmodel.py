"""TaskModel: a small model for one task, as its team declares it."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from taskfleet.api.conditions import Conditions
from taskfleet.api.fields import (
    CredentialsKey,
    Decimal,
    Digest,
    DnsLabel,
    DnsSubdomain,
    Metadata,
    Model,
    Percent,
    SourceUrl,
    Uid,
    VersionName,
    rules,
)
from taskfleet.api.schedules import Forecast, Schedule

SHORT_NAME_LENGTH = 32
MAX_TEXT = 16_384  # characters of a prompt or schema; a TaskModel stays well below etcd's limit with all of them


class Base(Model):
    """The base model."""

    source: Annotated[SourceUrl, Field(description="Where it comes from: oci://, hf://, s3://, gs://, https://, pvc://.")]
    revision: Annotated[VersionName, Field(description="Tag, commit or path element of the source.")]
    credentials_key: Annotated[CredentialsKey | None, Field(description="Entry of the namespace's Secret taskfleet-credentials.")] = None

    @property
    def short_name(self) -> str:
        """The end of the source, cut to what `status.base` holds."""
        return self.source.rstrip("/").rpartition("/")[2][:SHORT_NAME_LENGTH]


class Adapter(Model):
    """A LoRA adapter."""

    source: Annotated[SourceUrl, Field(description="Where it comes from, without the version.")]
    version: Annotated[VersionName, Field(description="What is bumped: tag, revision or path element.")]
    digest: Annotated[Digest | None, Field(description="Pins the bytes; without it the version is resolved once and recorded.")] = None
    credentials_key: Annotated[CredentialsKey | None, Field(description="Entry of the namespace's Secret taskfleet-credentials.")] = None


class Override(StrEnum):
    """Settings of a task that its callers may change in a request."""

    SYSTEM_PROMPT = "SystemPrompt"
    OUTPUT_SCHEMA = "OutputSchema"
    MAX_TOKENS = "MaxTokens"
    TEMPERATURE = "Temperature"
    TOP_P = "TopP"
    TOP_K = "TopK"
    STOP = "Stop"
    SEED = "Seed"


# What callers may set unless the task says otherwise: how an answer is sampled, not what is asked.
_GENERATION_OVERRIDES = (Override.MAX_TOKENS, Override.TEMPERATURE, Override.TOP_P, Override.TOP_K, Override.STOP, Override.SEED)


class GenerationDefaults(Model):
    """Generation parameters that a request gets where it does not say."""

    max_tokens: Annotated[int | None, Field(ge=1, le=1_000_000, description="Most tokens of an answer.")] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 is greedy.")] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, description="Nucleus sampling.")] = None
    top_k: Annotated[int | None, Field(ge=1, le=100_000, description="Sample among the k likeliest tokens.")] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=4, description="Texts that end an answer.")
    ] = Field(default_factory=list)
    seed: Annotated[int | None, Field(ge=0, le=2**53, description="Seed of sampling.")] = None


class Task(Model):
    """What the model is for, and how it is asked. All of it shapes answers: a change makes a new revision."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!(has(self.systemPrompt) && has(self.promptTemplate))", "at most one of systemPrompt and promptTemplate may be set"),
            ("!has(self.promptTemplate) || self.promptTemplate.contains('{input}')", "promptTemplate must contain {input}"),
            (
                "!has(self.allowOverrides) || self.allowOverrides.all(one, self.allowOverrides.exists_one(other, other == one))",
                "allowOverrides must name each setting once",
            ),
        ),
    )

    description: Annotated[str | None, Field(max_length=1024, description="One or two sentences; agents choose tools by it.")] = None
    system_prompt: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_TEXT,
            description="System message of every chat. Text completions have none, and need SystemPrompt in allowOverrides.",
        ),
    ] = None
    prompt_template: Annotated[
        str | None, Field(min_length=1, max_length=MAX_TEXT, description="Text around the caller's input, which replaces {input}.")
    ] = None
    input_schema: Annotated[
        str | None, Field(min_length=2, max_length=MAX_TEXT, description="JSON Schema of typed input, as JSON or YAML text.")
    ] = None
    output_schema: Annotated[
        str | None, Field(min_length=2, max_length=MAX_TEXT, description="JSON Schema that answers follow, as JSON or YAML text.")
    ] = None
    defaults: Annotated[GenerationDefaults, Field(description="Generation defaults.")] = GenerationDefaults()
    allow_overrides: Annotated[
        list[Override],
        Field(
            max_length=8,
            # Atomic, though it is a set: a server-side apply that takes a set's last item away leaves no list, and the API server fills in the default again.
            json_schema_extra={"x-kubernetes-list-type": "atomic", "default": [*_GENERATION_OVERRIDES]},
            description="What a request may set otherwise than the task does.",
        ),
    ] = Field(default_factory=lambda: [*_GENERATION_OVERRIDES])


class Isolation(StrEnum):
    """With whom a pool is shared."""

    SHARED = "Shared"  # with tasks of the same namespace, base and class
    DEDICATED = "Dedicated"  # with nobody


class Scaling(Model):
    """Scaling wishes; the class's defaults where unset."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not exceed maxReplicas",
            ),
            (
                "!has(self.schedules) || !has(self.maxReplicas) || self.schedules.all(one, one.minReplicas <= self.maxReplicas)",
                "minReplicas of a schedule must not exceed maxReplicas",
            ),
        ),
    )

    min_replicas: Annotated[int | None, Field(ge=0, le=256, description="Fewest replicas; 0 lets the task sleep.")] = None
    max_replicas: Annotated[int | None, Field(ge=1, le=256, description="Most replicas.")] = None
    target_concurrency: Annotated[int | None, Field(ge=1, le=10_000, description="Requests in flight per replica that are aimed at.")] = (
        None
    )
    idle_seconds: Annotated[int | None, Field(ge=10, le=604_800, description="How long without a request until the task is idle.")] = None
    schedules: Annotated[
        list[Schedule],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            description="Times at which the task has at least so many replicas.",
        ),
    ] = Field(default_factory=list)
    forecast: Annotated[
        Forecast | None, Field(description="Replicas for what is usual at a time of day, before it comes; none are taken away by it.")
    ] = None


class Strategy(StrEnum):
    """How a new revision gets its traffic."""

    IMMEDIATE = "Immediate"
    CANARY = "Canary"


class Step(Model):
    """One step of a canary: a share of the conversations, or of requests that are mirrored, or both."""

    model_config = ConfigDict(
        json_schema_extra=rules(("self.weightPercent > 0 || self.shadowPercent > 0", "a step needs a weightPercent or a shadowPercent")),
    )

    weight_percent: Annotated[int, Field(ge=0, le=100, description="Share of conversations that the candidate answers.")]
    shadow_percent: Annotated[
        int, Field(ge=0, le=100, description="Share of requests that the candidate is asked too, while the stable revision answers.")
    ] = 0
    hold_seconds: Annotated[int, Field(ge=0, le=604_800, description="How long at least.")] = 60


class OnNoTraffic(StrEnum):
    """What a step does that saw too few requests."""

    HOLD = "Hold"
    PROMOTE = "Promote"


class Analysis(Model):
    """What a candidate must keep to while it has traffic."""

    max_error_percent: Annotated[Percent, Field(description="Most errors, in percent of requests.")] = 2
    max_latency_ratio_percent: Annotated[
        int, Field(ge=100, le=10_000, description="Latency against the stable revision's, in percent.")
    ] = 150
    max_invalid_percent: Annotated[Percent, Field(description="Most answers that don't follow the task's outputSchema, in percent.")] = 2
    max_bad_feedback_percent: Annotated[Percent, Field(description="Most votes of users against answers, in percent of votes.")] = 20
    min_agreement_percent: Annotated[
        Percent, Field(description="Fewest mirrored answers that agree with the stable revision's; 0 asks for none.")
    ] = 0
    min_requests: Annotated[int, Field(ge=1, le=1_000_000, description="Requests before a step is judged.")] = 20
    max_hold_seconds: Annotated[int, Field(ge=1, le=2_592_000, description="How long evidence is gathered at most.")] = 3600
    on_no_traffic: Annotated[OnNoTraffic, Field(description="What a step does that saw too few requests.")] = OnNoTraffic.HOLD


class Rollout(Model):
    """How a new revision gets its traffic."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                (
                    "!has(self.steps) || (self.steps.map(step, step.weightPercent).isSorted()"
                    " && self.steps.all(step, self.steps.exists_one(other, other.weightPercent == step.weightPercent)))"
                ),
                "weights of steps must grow",
            ),
        ),
    )

    strategy: Annotated[Strategy, Field(description="All at once, or step by step.")] = Strategy.IMMEDIATE
    steps: Annotated[list[Step], Field(max_length=12, description="Steps of a canary, with growing weights.")] = Field(default_factory=list)
    analysis: Annotated[Analysis, Field(description="What stops a canary.")] = Analysis()
    rollback_window_revisions: Annotated[int, Field(ge=0, le=20, description="How many earlier revisions can be gone back to at once.")] = 3


class Dataset(Model):
    """A golden set: JSON Lines with inputs and expected answers."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.configMapName) != has(self.source)", "exactly one of configMapName and source must be set"),
            ("!has(self.source) || has(self.digest)", "a source needs a digest"),
        ),
    )

    config_map_name: Annotated[DnsSubdomain | None, Field(description="A ConfigMap of the namespace.")] = None
    key: Annotated[CredentialsKey, Field(description="Key of the ConfigMap, or file of the artifact.")] = "golden.jsonl"
    source: Annotated[SourceUrl | None, Field(description="An artifact.")] = None
    digest: Annotated[Digest | None, Field(description="Its digest: of the manifest in a registry, of the file elsewhere.")] = None
    credentials_key: Annotated[CredentialsKey | None, Field(description="Entry of the namespace's Secret taskfleet-credentials.")] = None


class Metric(StrEnum):
    """How an answer is scored."""

    EXACT_MATCH = "ExactMatch"
    JSON_SCHEMA = "JSONSchema"
    FIELD_F1 = "FieldF1"
    REGEX = "Regex"
    NUMERIC_TOLERANCE = "NumericTolerance"
    JUDGE = "Judge"


class Judge(Model):
    """A model that scores answers. What it says is a score, never an instruction."""

    url: Annotated[
        str,
        Field(
            max_length=512,
            pattern=r"^https?://[A-Za-z0-9\[\]._:-]+(/[A-Za-z0-9._~+=-]+)*/?$",
            description="OpenAI-compatible address, up to and with /v1.",
        ),
    ]
    model: Annotated[str, Field(min_length=1, max_length=256, description="Its name there.")]
    credentials_key: Annotated[CredentialsKey | None, Field(description="Entry of the namespace's Secret taskfleet-credentials.")] = None
    criteria: Annotated[str | None, Field(min_length=1, max_length=4096, description="What a good answer is, in words.")] = None


class Evaluation(Model):
    """The gate that a revision passes before it gets traffic."""

    model_config = ConfigDict(
        json_schema_extra=rules(("!has(self.judge) || self.metric == 'Judge'", "judge may be set with metric Judge only")),
    )

    dataset: Annotated[Dataset, Field(description="The golden set.")]
    metric: Annotated[Metric, Field(description="How an answer is scored.")] = Metric.EXACT_MATCH
    min_score_percent: Annotated[Percent, Field(description="Lowest score.")] = 95
    max_regression_percent: Annotated[Percent, Field(description="How much worse than the stable revision it may be, in points.")] = 1
    min_samples: Annotated[int, Field(ge=1, le=100_000, description="Fewest examples that must have been answered.")] = 50
    tolerance_percent: Annotated[
        Percent, Field(description="NumericTolerance: how far off a number may be, in percent of what is expected.")
    ] = 0
    judge: Annotated[Judge | None, Field(description="Who scores with metric Judge.")] = None
    concurrency: Annotated[int, Field(ge=1, le=64, description="Requests of the evaluation at a time.")] = 4
    timeout_seconds: Annotated[int, Field(ge=10, le=86_400, description="How long one evaluation may take.")] = 1800


class ReferencePrice(Model):
    """What the task would cost elsewhere."""

    name: Annotated[str, Field(min_length=1, max_length=128, description="Name of the reference model.")]
    input_price_per_million: Annotated[Decimal, Field(description="Price of a million prompt tokens.")]
    output_price_per_million: Annotated[Decimal, Field(description="Price of a million completion tokens.")]


class Savings(Model):
    """What savings are computed against."""

    reference: Annotated[ReferencePrice, Field(description="The reference model's price.")]


class TaskModelSpec(Model):
    """What the team wants."""

    serving_class_name: Annotated[DnsLabel | None, Field(description="The ServingClass; the default class if unset.")] = None
    base: Annotated[Base, Field(description="The base model.")]
    adapter: Annotated[Adapter | None, Field(description="The LoRA adapter; without it the base serves the task.")] = None
    task: Annotated[Task, Field(description="What the model is for, and how it is asked.")] = Task()
    isolation: Annotated[Isolation, Field(description="With whom a pool is shared.")] = Isolation.SHARED
    suspend: Annotated[bool, Field(description="True: nothing of this task is changed.")] = False
    scaling: Annotated[Scaling, Field(description="Scaling wishes.")] = Scaling()
    rollout: Annotated[Rollout | None, Field(description="How a new revision gets its traffic.")] = None
    evaluation: Annotated[Evaluation | None, Field(description="The gate that a revision passes.")] = None
    savings: Annotated[Savings | None, Field(description="What savings are computed against.")] = None


class RevisionReference(Model):
    """A revision, as the status names it."""

    revision: Annotated[DnsLabel, Field(description="Name of the TaskModelRevision.")]
    version: Annotated[VersionName | None, Field(description="The adapter's version.")] = None
    digest: Annotated[Digest | None, Field(description="The adapter's digest.")] = None


class TrafficTarget(Model):
    """Where requests go. Exactly what gateways do."""

    revision: Annotated[DnsLabel, Field(description="Name of the TaskModelRevision.")]
    uid: Annotated[Uid, Field(description="UID of the TaskModelRevision.")]
    pool: Annotated[DnsLabel, Field(description="The ModelPool that serves it.")]
    weight_percent: Annotated[int, Field(ge=0, le=100, description="Share of conversations.")]
    shadow_percent: Annotated[int | None, Field(ge=0, le=100, description="Share of requests that are mirrored to it.")] = None


Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]


class GateStatus(Model):
    """Where the measurement for the gate stands."""

    attempt: Annotated[int, Field(ge=1, le=1_000_000, description="Number of the measurement, from 1; the Job's name ends in it.")]
    job: Annotated[DnsLabel | None, Field(description="The Job that measures; its log has the outcome of every example.")] = None
    compared_with: Annotated[
        DnsLabel | None, Field(description="The stable revision on the same examples; none for the first revision.")
    ] = None
    retry_at: Annotated[Time | None, Field(description="When it is tried again after a measurement that failed.")] = None
    message: Annotated[str | None, Field(max_length=1024, description="Why it could not be measured.")] = None


class RolloutStatus(Model):
    """Where a rollout stands."""

    revision: Annotated[DnsLabel, Field(description="The revision that is rolled.")]
    phase: Annotated[str, Field(max_length=32, description="Resolving, Proving, Evaluating, Stepping, Draining, Done, Failed or Rejected.")]
    started_at: Annotated[Time | None, Field(description="When it began.")] = None
    step: Annotated[int | None, Field(ge=1, le=12, description="Which of the steps it is at, from 1.")] = None
    steps: Annotated[int | None, Field(ge=1, le=12, description="How many steps there are.")] = None
    step_started_at: Annotated[Time | None, Field(description="When the step began.")] = None
    hold: Annotated[
        str | None, Field(max_length=64, description="Why it goes no further by itself: Paused, GateUnmeasurable, NoTraffic, Inconclusive.")
    ] = None
    gate: Annotated[GateStatus | None, Field(description="The measurement for the gate.")] = None
    message: Annotated[str | None, Field(max_length=1024, description="One sentence for people.")] = None


class TaskModelStatus(Model):
    """Written by the operator, on transitions only."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation that this is about.")] = 0
    conditions: Annotated[
        Conditions, Field(description="Accepted, Assigned, AdapterReady, Available, RolloutHealthy, Ready, Reconciling, Stalled.")
    ] = Field(default_factory=list)
    serving_class_name: Annotated[DnsLabel | None, Field(description="The class in use; a default is resolved once.")] = None
    base: Annotated[
        str | None, Field(max_length=SHORT_NAME_LENGTH, description="The base model in short, for lists: the end of its source.")
    ] = None
    stable: Annotated[RevisionReference | None, Field(description="The revision that answers.")] = None
    candidate: Annotated[RevisionReference | None, Field(description="The revision that is to answer next.")] = None
    traffic: Annotated[
        list[TrafficTarget], Field(max_length=8, description="Where requests go.", json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    rollout: Annotated[RolloutStatus | None, Field(description="Where a rollout stands.")] = None
    url: Annotated[str | None, Field(max_length=512, description="OpenAI-compatible address; `model` is namespace/name.")] = None


class TaskModel(Model):
    """A small model for one task: a base, an adapter, and how it is asked, scaled and rolled."""

    metadata: Metadata
    spec: TaskModelSpec
    status: TaskModelStatus = TaskModelStatus()
