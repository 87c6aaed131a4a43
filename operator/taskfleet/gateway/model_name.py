"""What a client may write into `model`: `namespace/name`, the bare `name` in its own namespace, and `@revision` behind either to pin one.

Names are taken apart by Kubernetes' own rules and nothing else: an engine that is handed an unchecked name may resolve it as a path.
"""

import re
from dataclasses import dataclass

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_MODEL = re.compile(rf"(?:(?P<namespace>{_LABEL})/)?(?P<name>{_LABEL})(?:@(?P<revision>{_LABEL}))?")
_SERVICE_ACCOUNT = re.compile(rf"system:serviceaccount:({_LABEL}):[-.a-z0-9]{{1,253}}")

MAX_LENGTH = 3 * 63 + 2


@dataclass(frozen=True, slots=True)
class ModelName:
    """A TaskModel, and the revision that the client pinned: the TaskModelRevision's name or the hash at its end."""

    namespace: str
    name: str
    revision: str | None = None

    @property
    def public(self) -> str:
        """The full form, as `/v1/models` lists it."""
        return f"{self.namespace}/{self.name}" + (f"@{self.revision}" if self.revision else "")


def parse(text: str, *, own_namespace: str | None) -> ModelName | None:
    """The model that `text` names; None where it can't name any, also for a bare name of a client without a namespace of its own."""
    if len(text) > MAX_LENGTH or (match := _MODEL.fullmatch(text)) is None:
        return None
    namespace = match["namespace"] or own_namespace
    return ModelName(namespace, match["name"], match["revision"]) if namespace else None


def own_namespace(username: str) -> str | None:
    """The namespace of a ServiceAccount's user name; people and other users have none."""
    match = _SERVICE_ACCOUNT.fullmatch(username)
    return match[1] if match else None
