"""Evaluations as their Jobs' pods end: what the evaluator would say, without its questions."""

from dataclasses import dataclass

from taskfleet.api.evaluation import EvaluationReport, Figures, Measured
from taskfleet.evaluation.settings import EvaluationSettings, settings_digest
from tests.cluster.api import Object

EXAMPLES = 60
# A gate on the golden set below.
GATE: Object = {"dataset": {"configMapName": "golden"}}


def golden_set(namespace: str, *, name: str = "golden", examples: int = EXAMPLES) -> Object:
    """The ConfigMap."""
    lines = [f'{{"messages":[{{"role":"user","content":"Total of {number}?"}}],"expected":"{number}"}}' for number in range(examples)]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"golden.jsonl": "\n".join(lines)},
    }


@dataclass(frozen=True, slots=True)
class Question:
    """What one Job was made to find out."""

    job: str
    settings: EvaluationSettings

    @classmethod
    def of(cls, pod: Object) -> "Question":
        """The question that the pod of a Job was given."""
        (container,) = pod["spec"]["containers"]
        environment = {one["name"]: one["value"].replace("$$", "$") for one in container["env"]}
        return cls(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"], EvaluationSettings.from_environment(environment))

    @property
    def task(self) -> str:
        """The TaskModel, as `namespace/name`."""
        return f"{self.settings.namespace}/{self.settings.task}"

    @property
    def compared(self) -> tuple[str, str | None]:
        """The candidate, and the stable revision."""
        return self.settings.candidate, self.settings.stable

    def measured(self, score: float = 97.0, *, stable: float = 97.0) -> str:
        """The termination message of an evaluation that came to these scores, in percent."""
        evaluation, difference = self.settings.evaluation, score - stable
        report = EvaluationReport(
            outcome=Measured.MEASURED,
            metric=evaluation.metric.value,
            dataset_digest=self.settings.dataset_digest,
            settings_digest=settings_digest(evaluation),
            samples=EXAMPLES,
            candidate=Figures(revision=self.settings.candidate, score_percent=score),
        )
        if self.settings.stable is not None:
            compared = {
                "stable": Figures(revision=self.settings.stable, score_percent=stable),
                "difference_percent": difference,
                "difference_lower_percent": difference - 0.5,
                "difference_upper_percent": difference + 0.5,
            }
            report = report.model_copy(update=compared)
        return _message(report)

    def unmeasurable(self, why: str = "7 of 60 examples were answered") -> str:
        """That of one that came to nothing."""
        return _message(EvaluationReport(outcome=Measured.UNMEASURABLE, message=why))


def _message(report: EvaluationReport) -> str:
    return report.model_dump_json(by_alias=True, exclude_none=True)
