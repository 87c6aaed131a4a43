"""O4 and O5: what serves in a namespace, in a form that two moments can be compared in, whatever led there."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.cluster.api import CHILDREN, POOL, REVISION, TASK_MODEL, Api, key
from tests.cluster.oracles import OURS


def state(api: Api, namespace: str) -> dict[str, Any]:
    """What O4 and O5 compare: everything that serves, without identities, times and counters of how it came about."""
    uids: dict[str, str] = {}
    found: dict[str, Any] = {}
    for kind in (TASK_MODEL, POOL, *CHILDREN):
        for obj in api.list(kind, namespace):
            uids[obj["metadata"]["uid"]] = key(obj)
            if obj["metadata"]["name"] not in {"kube-root-ca.crt", "default"} and not obj["metadata"]["name"].startswith("user-"):
                # What Kubernetes' controllers say of children names ReplicaSets, whose hashes contain UIDs.
                found[key(obj)] = obj if kind in OURS else {name: value for name, value in obj.items() if name != "status"}
                _forget_why_scaled(found[key(obj)])
    uids |= {obj["metadata"]["uid"]: key(obj) for obj in api.list(REVISION, namespace)}
    text = json.dumps({name: _essence(obj) for name, obj in found.items()}, sort_keys=True)
    for uid, name in uids.items():
        text = text.replace(uid, f"<uid of {name}>")
    # The agent's document is a text inside the ConfigMap; its generation counts edits.
    text = re.sub(r'(\\"generation\\":) ?\d+', r"\1 0", text)
    # It is taken over the pool's UID, too.
    text = re.sub(r'(\\"fingerprint\\":) ?\\"\w+\\"', r"\1 0", text)
    comparable: dict[str, Any] = json.loads(text)
    return comparable


def _forget_why_scaled(obj: dict[str, Any]) -> None:
    """Why a pool has its number of pods tells of what it had before, and for how long gateways have been heard; the number is compared."""
    status = obj.get("status", {})
    for name in ("reason", "message"):
        status.get("scaling", {}).pop(name, None)
    if "scaling" in status:
        status["conditions"] = [condition for condition in status.get("conditions", []) if condition["type"] != "DemandUnknown"]


HISTORY = frozenset(
    {
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "managedFields",
        "lastTransitionTime",
        "lastUpdateTime",
        "observedGeneration",
        "startedAt",
        "lastScaleTime",
        "lastStart",
    }
)
ALLOCATED = frozenset({"clusterIP", "clusterIPs", "secrets", "deployment.kubernetes.io/revision", "disruptedPods"})


def _essence(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _essence(inner) for name, inner in value.items() if name not in HISTORY | ALLOCATED}
    if isinstance(value, list):
        inner_values = [_essence(inner) for inner in value]
        # Lists of named things are sets to Kubernetes: their order tells of their history.
        named = [inner for inner in inner_values if isinstance(inner, dict) and ("type" in inner or "uid" in inner or "revision" in inner)]
        return (
            sorted(inner_values, key=lambda inner: json.dumps(inner, sort_keys=True)) if len(named) == len(inner_values) else inner_values
        )
    return value


def same_state(before: Mapping[str, Any], after: Mapping[str, Any], *, what: str) -> None:
    """O4 (path-independent) and O5 (recoverable): two states are equal; the differences are named."""
    different = list(_differences(before, after, ""))
    assert not different, f"{what}:\n" + "\n".join(different[:40])


def _differences(before: Any, after: Any, path: str) -> Iterable[str]:
    if isinstance(before, dict | Mapping) and isinstance(after, dict | Mapping):
        for name in sorted(set(before) | set(after)):
            if name not in before or name not in after:
                yield f"{path}/{name}: only {'after' if name in after else 'before'}"
            else:
                yield from _differences(before[name], after[name], f"{path}/{name}")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"
