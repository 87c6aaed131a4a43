"""Settings of one evaluation in the cluster: the operator writes them into the Job's environment, the evaluator reads them there."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from taskfleet.api.fields import Digest, DnsLabel
from taskfleet.api.taskmodel import MAX_TEXT, Evaluation
from taskfleet.artifacts.addresses import Network, parse_networks
from taskfleet.settings import PREFIX, Settings

# Part of every settings digest: changed with what scorers give for the same answers, so that no report of before counts as one of now.
_SCORING = "1"


class EvaluationSettings(Settings):
    """What `taskfleet evaluate job` is told."""

    gateway_url: Annotated[str, Field(min_length=1, description="The gateway's OpenAI-compatible address, up to and with /v1.")]
    namespace: Annotated[DnsLabel, Field(description="Namespace of the TaskModel.")]
    task: Annotated[DnsLabel, Field(description="Name of the TaskModel.")]
    candidate: Annotated[DnsLabel, Field(description="The TaskModelRevision that is measured.")]
    stable: Annotated[DnsLabel | None, Field(description="The one that it is compared with; none for a first revision.")] = None
    evaluation: Annotated[Evaluation, Field(description="The TaskModel's `spec.evaluation`, as JSON.")]
    dataset: Annotated[Path | None, Field(description="File of the golden set; the dataset's source is asked if unset.")] = None
    dataset_digest: Annotated[Digest | None, Field(description="SHA-256 that the golden set's text must have; any if unset.")] = None
    output_schema: Annotated[str | None, Field(max_length=MAX_TEXT, description="The candidate's output schema.")] = None
    token_path: Annotated[Path | None, Field(description="File of the token for the gateway; read anew when it changes.")] = None
    credentials_dir: Annotated[Path, Field(description="The namespace's mounted Secret; need not exist.")] = Path(
        "/etc/taskfleet/credentials"
    )
    insecure_registries: Annotated[
        str, Field(description="Comma-separated hosts (with ports) of registries and judges that are asked over plain http.")
    ] = ""
    allowed_networks: Annotated[
        str, Field(description="Comma-separated networks (CIDR), beside the public ones, in which golden sets and judges may be.")
    ] = ""
    termination_log: Annotated[Path, Field(description="File that takes the report.")] = Path("/dev/termination-log")

    @field_validator("evaluation", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def networks(self) -> tuple[Network, ...]:
        """`allowed_networks`, read."""
        return parse_networks(self.allowed_networks)

    @property
    def insecure_hosts(self) -> frozenset[str]:
        """`insecure_registries` as a set."""
        return frozenset(host.strip().lower() for host in self.insecure_registries.split(",") if host.strip())

    def environment(self) -> dict[str, str]:
        """The variables that `from_environment` makes the same settings of."""
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        values["evaluation"] = json.dumps(self.evaluation.to_json(), sort_keys=True, separators=(",", ":"))
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value not in {None, ""}}


def settings_digest(evaluation: Evaluation) -> str:
    """Stands for everything in an evaluation that shapes scores: two with the same digest give the same scores to the same answers. Limits are no part of it."""
    dataset = evaluation.dataset
    shaping = {
        "scoring": _SCORING,
        "metric": evaluation.metric,
        "tolerancePercent": evaluation.tolerance_percent,
        # Which credentials open the judge's door changes nothing of what it says.
        "judge": evaluation.judge.model_copy(update={"credentials_key": None}).to_json() if evaluation.judge else None,
        # A ConfigMap's text has a digest of its own in each report; an artifact is known by what pins it.
        "dataset": [dataset.source, dataset.key, dataset.digest] if dataset.source else None,
    }
    return "sha256:" + hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
