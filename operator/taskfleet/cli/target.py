"""What the commands that people use have in common on the command line."""

from dataclasses import dataclass
from enum import StrEnum


class Output(StrEnum):
    """How it is printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster and namespace is meant; None: what the kubeconfig says."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
