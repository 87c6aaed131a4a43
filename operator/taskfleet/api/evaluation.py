"""What an evaluation measured: handed from the evaluator's Job to the operator, and kept in the status of the revision."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from taskfleet.api.fields import Digest, DnsLabel, Model, Percent

# The Job hands its report back as the termination message of its container, which Kubernetes cuts at 4,096 bytes.
MAX_REPORT_BYTES = 4096


class Measured(StrEnum):
    """Whether there is a measurement. What it means for the revision is the gate's to decide (`planning.gate`)."""

    MEASURED = "Measured"
    UNMEASURABLE = "Unmeasurable"  # too few answers, no dataset, no judge: says nothing about the revision


class Figures(Model):
    """One revision on the golden set."""

    revision: Annotated[DnsLabel, Field(description="Name of the TaskModelRevision.")]
    score_percent: Annotated[Percent, Field(description="Mean score.")]
    latency_p50_ms: Annotated[int, Field(ge=0, description="Milliseconds from request to whole answer, median.")] = 0
    latency_p95_ms: Annotated[int, Field(ge=0, description="95th percentile.")] = 0
    prompt_tokens: Annotated[int, Field(ge=0, description="Tokens of all prompts.")] = 0
    completion_tokens: Annotated[int, Field(ge=0, description="Tokens of all answers.")] = 0


class EvaluationReport(Model):
    """What was measured, and with what."""

    outcome: Annotated[Measured, Field(description="Measured or Unmeasurable.")]
    message: Annotated[str, Field(max_length=512, description="One sentence; why it could not be measured.")] = ""
    permanent: Annotated[bool, Field(description="Unmeasurable: another try would come to the same.")] = False
    evaluator_version: Annotated[str, Field(max_length=64, description="Version of taskfleet that measured.")] = ""
    metric: Annotated[str, Field(max_length=32, description="The scorer.")] = ""
    dataset_digest: Annotated[Digest | None, Field(description="SHA-256 of the golden set's text.")] = None
    policy: Annotated[str, Field(max_length=256, description="The limits in force when it was judged, in words.")] = ""
    settings_digest: Annotated[
        str | None, Field(max_length=71, description="Stands for all settings of the evaluation that shape scores.")
    ] = None
    samples: Annotated[int, Field(ge=0, description="Examples that were answered, by both revisions where there are two.")] = 0
    errors: Annotated[int, Field(ge=0, description="Examples without an answer.")] = 0
    candidate: Annotated[Figures | None, Field(description="The revision that is to pass.")] = None
    stable: Annotated[Figures | None, Field(description="The stable revision on the same examples.")] = None
    difference_percent: Annotated[
        float | None, Field(ge=-100, le=100, description="Candidate's mean score less the stable one's, in points, over pairs.")
    ] = None
    difference_lower_percent: Annotated[
        float | None, Field(ge=-100, le=100, description="Lower bound of its 95 % confidence interval.")
    ] = None
    difference_upper_percent: Annotated[
        float | None, Field(ge=-100, le=100, description="Upper bound of its 95 % confidence interval.")
    ] = None
    finished_at: Annotated[
        str | None, Field(max_length=32, json_schema_extra={"format": "date-time"}, description="When it was measured.")
    ] = None
