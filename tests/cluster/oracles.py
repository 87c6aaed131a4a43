"""What must hold after every step, as checks that any test can use: O1 to O10.

Each looks from outside, through the API server, the metrics and the logs; none asks the operator's own code. Windows are short in `make test` and literal
with TASKFLEET_SOAK=1. O8 is `load.Load.assert_no_error` of a load on the tasks that a step does not concern.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.cluster.api import (
    CHILDREN,
    CONFIG_MAP,
    ENDPOINT_SLICE,
    EVENT,
    NAMESPACE,
    POD,
    POOL,
    REPLICA_SET,
    REVISION,
    TASK_MODEL,
    Api,
    ApiError,
    Kind,
    Object,
    condition,
    eventually,
    is_true,
    key,
)
from tests.cluster.own_metrics import MetricsSource, Writes
from tests.cluster.story import tell

SOAK = os.environ.get("TASKFLEET_SOAK") == "1"
SILENT_SECONDS = 300.0 if SOAK else 20.0
SETTLE_SECONDS = 60.0
# The machine that runs the tests is shared: what the operator must do within a minute may take pods longer to follow.
START_SECONDS = 180.0
MEMORY_BYTES = 400 * 2**20
# Between two readings of one process: buffers of requests and copies of objects come and go.
MEMORY_GROWTH_BYTES = 64 * 2**20

SUMMARY = ("Ready", "Reconciling", "Stalled")
CAMEL_CASE = re.compile(r"[A-Z][a-z0-9]+([A-Z][a-z0-9]*)*")
OURS: tuple[Kind, ...] = (TASK_MODEL, REVISION, POOL)


def summary(obj: Object) -> str:
    """O1 of one object: its generation is observed, and exactly one of Ready, Reconciling, Stalled is True, which is the answer."""
    status = obj.get("status", {})
    generation = obj["metadata"]["generation"]
    assert status.get("observedGeneration") == generation, (
        f"{key(obj)}: observed {status.get('observedGeneration')} of generation {generation}"
    )
    true = [name for name in SUMMARY if is_true(obj, name)]
    assert len(true) == 1, f"{key(obj)}: {true} of {SUMMARY} are True"
    for one in status["conditions"]:
        assert one.get("reason"), f"{key(obj)}: condition {one['type']} has no reason"
        assert CAMEL_CASE.fullmatch(one["reason"]), f"{key(obj)}: reason {one['reason']!r} of {one['type']} is not CamelCase"
    return true[0]


def settled(api: Api, *namespaces: str, within: float = SETTLE_SECONDS) -> dict[str, str]:
    """O1: every TaskModel and ModelPool of the namespaces explains its state. Gives the summary of each by its key."""

    def check() -> dict[str, str]:
        return {key(obj): summary(obj) for namespace in namespaces for kind in (TASK_MODEL, POOL) for obj in api.list(kind, namespace)}

    return eventually(check, what=f"{', '.join(namespaces)} settled", within=within, describe=lambda: tell(api, *namespaces))


def ready(api: Api, namespace: str, *names: str, within: float = START_SECONDS) -> list[Object]:
    """The named TaskModels (all of the namespace, if none is named), once they are Ready with their spec in force."""

    def check() -> list[Object]:
        tasks = [api.get(TASK_MODEL, name, namespace) for name in names] or api.list(TASK_MODEL, namespace)
        assert tasks, "there is no TaskModel"
        for task in tasks:
            assert summary(task) == "Ready", f"{key(task)}: {summary(task)}: {said(task)}"
        return tasks

    return eventually(check, what=f"{namespace} {' '.join(names)} Ready", within=within, describe=lambda: tell(api, namespace))


def said(obj: Object) -> str:
    """All conditions of an object in one line each."""
    return "; ".join(
        f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in obj.get("status", {}).get("conditions", [])
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Resource versions of everything of ours in some namespaces, and how many events there were."""

    versions: Mapping[str, str]
    events: Mapping[str, str]


def standing(api: Api, *namespaces: str) -> Standing:
    versions, events = {}, {}
    for namespace in namespaces:
        for kind in (*OURS, *CHILDREN, REPLICA_SET, ENDPOINT_SLICE, POD):
            for obj in api.list(kind, namespace):
                if kind is not CONFIG_MAP or obj["metadata"]["name"] != "kube-root-ca.crt":
                    versions[key(obj)] = obj["metadata"]["resourceVersion"]
        events.update({event["metadata"]["name"]: event["metadata"]["resourceVersion"] for event in api.list(EVENT, namespace)})
    return Standing(versions, events)


def still(api: Api, *namespaces: str, seconds: float = 3.0, within: float = SETTLE_SECONDS) -> Standing:
    """What stands once nothing of ours has been written for some `seconds`: last strokes follow after a TaskModel is Ready."""
    deadline = time.monotonic() + within
    seen, since = standing(api, *namespaces), time.monotonic()
    while time.monotonic() - since < seconds:
        assert time.monotonic() < deadline, f"{namespaces} did not come to rest within {within:.0f} s"
        time.sleep(0.25)
        now = standing(api, *namespaces)
        if now.versions != seen.versions:
            seen, since = now, time.monotonic()
    return seen


def silent(api: Api, *namespaces: str, writes: "Writes | None" = None, seconds: float = SILENT_SECONDS) -> None:
    """O2: for `seconds` nothing of ours is written and no event is told; with `writes` the operator's own count of them stands still, too."""
    before, counted = still(api, *namespaces, seconds=min(3.0, seconds)), writes.count() if writes else 0
    assert before.versions, f"{namespaces} are empty: their silence says nothing"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(2.0, max(0.0, deadline - time.monotonic())))
        now = standing(api, *namespaces)
        changed = sorted(name for name in {*before.versions, *now.versions} if before.versions.get(name) != now.versions.get(name))
        assert not changed, f"written in a settled state: {changed}\n{tell(api, *namespaces)}"
        told = sorted(set(now.events.items()) - set(before.events.items()))
        assert not told, f"events in a settled state: {told}"
    if writes:
        assert writes.count() == counted, f"the operator wrote {writes.count() - counted} times in a settled state"


def invisible(spec: Object, evidence: str, *, prefix: str = "spec") -> list[str]:
    """O3: the fields of a spec that nothing shows: neither their value nor their name occurs in `evidence`.

    `evidence` is the text of the children, the agent's document, the conditions. Give every field a value of its own, or the check is blind.
    """
    hidden = []
    for path, value in _leaves(spec, prefix):
        if not any(text in evidence for text in _spellings(value)) and not _named(path, evidence):
            hidden.append(f"{path}={value}")
    return hidden


def _spellings(value: object) -> tuple[str, ...]:
    """How a value may be written: as it is, escaped inside a text, a size also in bytes."""
    if not isinstance(value, str):
        return (str(value),)
    size = re.fullmatch(r"(\d+)Mi", value)
    return (value, json.dumps(value)[1:-1], json.dumps(json.dumps(value))[2:-2], *([str(int(size[1]) * 2**20)] if size else []))


def _named(path: str, evidence: str) -> bool:
    parents = path.split(".")
    return any(".".join(parents[:length]) in evidence for length in range(2, len(parents) + 1))


def _leaves(value: Any, path: str) -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


@dataclass(frozen=True, slots=True)
class Identities:
    """UIDs of children and pods, and the restarts of every container."""

    uids: Mapping[str, str]
    restarts: Mapping[str, int] = field(default_factory=dict)


def identities(api: Api, *namespaces: str, pods: bool = True) -> Identities:
    uids, restarts = {}, {}
    for namespace in namespaces:
        for kind in (*OURS, *CHILDREN, *([POD] if pods else [])):
            for obj in api.list(kind, namespace):
                uids[key(obj)] = obj["metadata"]["uid"]
                if kind is POD:
                    restarts.update({f"{key(obj)}/{name}": count for name, count in restart_counts(obj).items()})
    return Identities(uids, restarts)


def restart_counts(pod: Object) -> dict[str, int]:
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return {container["name"]: container["restartCount"] for container in containers}


def minimal(before: Identities, after: Identities) -> None:
    """O6: nothing that was there is gone, was made anew, or restarted."""
    lost = sorted(name for name, uid in before.uids.items() if after.uids.get(name) != uid)
    assert not lost, f"made anew or gone: {lost}"
    restarted = sorted(name for name, count in before.restarts.items() if after.restarts.get(name) != count)
    assert not restarted, f"restarted: {restarted}"


def ours(api: Api, namespace: str) -> list[str]:
    """Keys of everything in a namespace that is ours: our objects, and what carries our label."""
    kinds = (*CHILDREN, REPLICA_SET, POD, ENDPOINT_SLICE)
    found = [key(obj) for kind in OURS for obj in api.list(kind, namespace)]
    return sorted(
        found + [key(obj) for kind in kinds for obj in api.list(kind, namespace, labels="app.kubernetes.io/managed-by=taskfleet")]
    )


def foreign(api: Api, namespace: str) -> dict[str, str]:
    """UIDs of what is not ours in a namespace."""
    own = set(ours(api, namespace))
    return {key(obj): obj["metadata"]["uid"] for kind in (*CHILDREN, POD) for obj in api.list(kind, namespace) if key(obj) not in own}


def no_orphan(api: Api, namespace: str, *, others: Mapping[str, str], within: float = 120) -> None:
    """O7: nothing of ours is left in the namespace, and what was there of others still is."""

    def check() -> bool:
        left = ours(api, namespace)
        assert not left, f"left: {left}"
        return True

    eventually(check, what=f"nothing of ours is left in {namespace}", within=within, describe=lambda: tell(api, namespace))
    assert api.get(NAMESPACE, namespace)["status"]["phase"] == "Active"
    gone = sorted(name for name, uid in others.items() if foreign(api, namespace).get(name) != uid)
    assert not gone, f"others' objects are gone: {gone}"


@dataclass(frozen=True, slots=True)
class Health:
    """Pods of operator and gateway at a time: their restarts, and their resident memory in bytes."""

    at: datetime
    restarts: Mapping[str, int]
    memory: Mapping[str, float]


TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
# A missing right, as RBAC words it. What a quota or a namespace that ends refuses is forbidden, too, and belongs to the tests.
FORBIDDEN = re.compile(r"\bforbidden: User\b", re.IGNORECASE)


def health(api: Api, namespace: str, *, metrics_port: int = 9090) -> Health:
    at, restarts, memory = datetime.now(UTC), {}, {}
    for pod in api.list(POD, namespace):
        name = pod["metadata"]["name"]
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
            restarts[name] = sum(restart_counts(pod).values())
            memory[name] = MetricsSource(api, namespace, name, metrics_port).value("process_resident_memory_bytes")
    return Health(at, restarts, memory)


def healthy(api: Api, namespace: str, *, since: Health | None = None, may_restart: bool = False) -> None:
    """O9: operator and gateways did not restart, lack no right, log no traceback, and their memory neither passes a bound nor grows much.

    With `since` all of it counts from then on. `may_restart`: they were killed, or had reason to end themselves.
    """
    now = health(api, namespace)
    assert now.restarts, f"no pod runs in {namespace}"
    for name, restarts in now.restarts.items():
        allowed = since.restarts.get(name, 0) if since else 0
        assert may_restart or restarts == allowed, f"{name} restarted {restarts - allowed} times\n{_last_words(api, name, namespace)}"
        _logs_no_trouble(api, name, namespace, since=since.at if since else None)
        assert now.memory[name] < MEMORY_BYTES, f"{name} holds {now.memory[name] / 2**20:.0f} MiB"
        grown = now.memory[name] - since.memory.get(name, now.memory[name]) if since else 0
        assert grown < MEMORY_GROWTH_BYTES, f"{name} grew by {grown / 2**20:.0f} MiB to {now.memory[name] / 2**20:.0f} MiB"


def agents_healthy(api: Api, namespace: str) -> None:
    """O9 of the agents in a namespace: none has met an error that it does not know. They may restart: tests kill them."""
    for pod in api.list(POD, namespace, labels="app.kubernetes.io/managed-by=taskfleet"):
        started = [
            one for one in pod.get("status", {}).get("initContainerStatuses", []) if one["name"] == "agent" and one.get("containerID")
        ]
        if started and "deletionTimestamp" not in pod["metadata"]:
            _logs_no_trouble(api, pod["metadata"]["name"], namespace, container="agent")


def _logs_no_trouble(api: Api, pod: str, namespace: str, *, container: str = "", since: datetime | None = None) -> None:
    lines = api.logs(pod, namespace, container=container, since=since).splitlines()
    bad = [number for number, line in enumerate(lines) if TRACEBACK.search(line) or FORBIDDEN.search(line)]
    # A traceback's error stands at its end.
    assert not bad, f"{pod} logs:\n" + "\n".join(lines[max(0, bad[0] - 1) : bad[0] + 40])


def _last_words(api: Api, pod: str, namespace: str) -> str:
    try:
        return api.logs(pod, namespace, previous=True, tail=40)
    except ApiError as error:
        return error.message


def refused_clearly(api: Api, namespace: str, name: str, *, reason: str, mentions: str, within: float = SETTLE_SECONDS) -> Object:
    """O10 for input that only the operator can judge: not Ready, Stalled, a stable reason, the field or cause in the message, one Warning event."""

    def check() -> Object:
        task = api.get(TASK_MODEL, name, namespace)
        assert summary(task) == "Stalled", f"{key(task)} is {summary(task)}: {said(task)}"
        stalled = condition(task, "Stalled") or {}
        assert stalled["reason"] == reason, f"stalled with {stalled['reason']}, not {reason}: {stalled['message']}"
        assert mentions in stalled["message"], f"{stalled['message']!r} does not mention {mentions!r}"
        unready = condition(task, "Ready")
        assert unready, said(task)
        assert unready["status"] == "False", said(task)
        warned = warnings(api, namespace, name)
        assert warned, "no Warning event"
        return task

    task = eventually(check, what=f"{namespace}/{name} refused with {reason}", within=within, describe=lambda: tell(api, namespace))
    about = [event for event in warnings(api, namespace, name) if event["reason"] == reason]
    assert len(about) == 1, (
        f"{len(about)} Warning events say {reason}, not one: {[event.get('note') for event in warnings(api, namespace, name)]}"
    )
    return task


def warnings(api: Api, namespace: str, name: str) -> list[Object]:
    """Warning events about the TaskModel that exists now under this name."""
    uid = api.get(TASK_MODEL, name, namespace)["metadata"]["uid"]
    return [event for event in api.list(EVENT, namespace) if event["type"] == "Warning" and event.get("regarding", {}).get("uid") == uid]
