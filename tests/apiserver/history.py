"""Everything that objects were between two moments: the API server still knows each version, so that nothing happens unseen between two looks."""

import json
from dataclasses import dataclass

from tests.cluster.api import TASK_MODEL, Api, Kind, Object


@dataclass(frozen=True, slots=True)
class History:
    """Of one namespace's objects of a kind, TaskModels unless said otherwise, from a moment on."""

    api: Api
    namespace: str
    kind: Kind
    since: str

    @classmethod
    def begin(cls, api: Api, namespace: str, kind: Kind = TASK_MODEL) -> "History":
        """From now on."""
        listed = json.loads(api.request("GET", kind.path(namespace), query={"limit": 1}))
        return cls(api, namespace, kind, listed["metadata"]["resourceVersion"])

    def versions(self, name: str) -> list[Object]:
        """The versions of an object until now, oldest first."""
        query: dict[str, str | int] = {"watch": "true", "resourceVersion": self.since, "timeoutSeconds": 1}
        text = self.api.request("GET", self.kind.path(self.namespace), query=query)
        events = [json.loads(line) for line in text.splitlines()]
        forgotten = [event["object"] for event in events if event["type"] == "ERROR"]
        assert not forgotten, forgotten
        return [event["object"] for event in events if event["object"]["metadata"]["name"] == name]

    def shares(self, task: str) -> list[dict[str, int]]:
        """What the traffic of a TaskModel was, each change once: percent by revision."""
        found: list[dict[str, int]] = []
        for version in self.versions(task):
            shares = traffic(version)
            if not found or found[-1] != shares:
                found.append(shares)
        return found


def traffic(task: Object) -> dict[str, int]:
    """Percent of the conversations by revision."""
    return {target["revision"]: target["weightPercent"] for target in task.get("status", {}).get("traffic", [])}


def rollout(task: Object) -> Object:
    """Where the rollout stands; empty before there is any."""
    found: Object = task.get("status", {}).get("rollout") or {}
    return found
