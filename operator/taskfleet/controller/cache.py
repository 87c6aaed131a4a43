"""What the operator knows of the cluster: the newest version of each object that it heard of, from watches, lists and the answers to its own writes.

An older version never replaces a newer one, whatever order they come in. Objects of our own kinds are parsed once per version.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from taskfleet import names
from taskfleet.api.fields import Model
from taskfleet.kube.resources import Resource

Json = dict[str, Any]
ObjectKey = tuple[str, str]  # namespace (empty for cluster-scoped), name
M = TypeVar("M", bound=Model)

MAX_TOMBSTONES = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """`new` is None for a deletion, `old` for what was not known before. `foreign`: the object is not the operator's."""

    resource: Resource
    old: Json | None
    new: Json | None
    foreign: bool = False

    @property
    def any(self) -> Json:
        found = self.new if self.new is not None else self.old
        if found is None:
            raise ValueError("a change has an old or a new object")
        return found


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that is not as the models say. `message` names the field."""

    message: str


@dataclass(slots=True)
class _Held:
    body: Json
    version: int
    owned: str
    ours: bool
    scaler: str
    parsed: Model | Unreadable | None = None


class Cache:
    """Objects by kind and key. `notify` is called with each change, after it was taken in."""

    def __init__(self, notify: Callable[[Change], None] = lambda _: None) -> None:
        self._objects: dict[Resource, dict[ObjectKey, _Held]] = {}
        self._by_namespace: dict[Resource, dict[str, dict[ObjectKey, None]]] = {}
        # Versions at which objects went, by UID: a late answer or watch event must not bring them back.
        self._gone: OrderedDict[str, int] = OrderedDict()
        self.notify = notify

    def put(self, resource: Resource, body: Json) -> bool:
        """Takes in an object; False where this or a newer version is known."""
        metadata = body["metadata"]
        key = key_of(body)
        version = int(metadata["resourceVersion"])
        uid = metadata["uid"]
        held = self._objects.get(resource, {}).get(key)
        if held is not None and held.version >= version:
            return False
        if self._gone.get(uid, -1) >= version:
            return False
        owned, ours, scaler = owned_fields(metadata), is_ours(body), scaler_of(metadata)
        body = {**body, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
        self._objects.setdefault(resource, {})[key] = _Held(body, version, owned, ours, scaler)
        self._by_namespace.setdefault(resource, {}).setdefault(key[0], {})[key] = None
        self.notify(Change(resource, held.body if held is not None else None, body, foreign=not ours))
        return True

    def remove(self, resource: Resource, body: Json) -> bool:
        """Takes out an object that the API server no longer has, or no longer shows to us. `body` as of its end; False where it was not known or is newer."""
        key = key_of(body)
        version = int(body["metadata"]["resourceVersion"])
        self._gone[body["metadata"]["uid"]] = version
        while len(self._gone) > MAX_TOMBSTONES:
            self._gone.popitem(last=False)
        held = self._objects.get(resource, {}).get(key)
        if held is None or held.version > version:
            return False
        del self._objects[resource][key]
        members = self._by_namespace[resource][key[0]]
        del members[key]
        if not members:
            del self._by_namespace[resource][key[0]]
        self.notify(Change(resource, held.body, None, foreign=not held.ours))
        return True

    def get(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        held = self._objects.get(resource, {}).get((namespace, name))
        return held.body if held is not None else None

    def owned(self, resource: Resource, name: str, namespace: str = "") -> str | None:
        """A fingerprint of the fields that are ours in the object: it changes when somebody else writes one of them. None where there is no object."""
        held = self._objects.get(resource, {}).get((namespace, name))
        return held.owned if held is not None else None

    def is_ours(self, resource: Resource, name: str, namespace: str = "") -> bool:
        """Is there such an object, and did the operator make it?"""
        held = self._objects.get(resource, {}).get((namespace, name))
        return held is not None and held.ours

    def scaler(self, resource: Resource, name: str, namespace: str = "") -> str:
        """The field manager, other than the operator, that spec.replicas of the object belongs to; empty where there is none."""
        held = self._objects.get(resource, {}).get((namespace, name))
        return held.scaler if held is not None else ""

    def bodies(self, resource: Resource, namespace: str | None = None) -> Iterator[Json]:
        """All objects of a kind, or those of one namespace."""
        for held in self._held(resource, namespace):
            yield held.body

    def versions(self, resource: Resource) -> dict[ObjectKey, tuple[str, int]]:
        """UID and version of every object of a kind."""
        return {key: (held.body["metadata"]["uid"], held.version) for key, held in self._objects.get(resource, {}).items()}

    def count(self, resource: Resource) -> int:
        return len(self._objects.get(resource, ()))

    def parsed(self, resource: Resource, model: type[M], name: str, namespace: str = "") -> M | Unreadable | None:
        """The object as a model; None where there is none."""
        held = self._objects.get(resource, {}).get((namespace, name))
        return _parsed(held, model) if held is not None else None

    def readable(self, resource: Resource, model: type[M], namespace: str | None = None, *, ours: bool = False) -> list[M]:
        """All objects of a kind, or those of one namespace, as models; those that can't be parsed are left out, and with `ours` those that others made."""
        return [
            found
            for held in self._held(resource, namespace)
            if (held.ours or not ours) and not isinstance(found := _parsed(held, model), Unreadable)
        ]

    def _held(self, resource: Resource, namespace: str | None) -> Iterable[_Held]:
        objects = self._objects.get(resource, {})
        if namespace is None:
            return list(objects.values())
        return [objects[key] for key in self._by_namespace.get(resource, {}).get(namespace, ())]


def key_of(body: Json) -> ObjectKey:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _parsed(held: _Held, model: type[M]) -> M | Unreadable:
    if held.parsed is None:
        held.parsed = _parse(held.body, model)
    if isinstance(held.parsed, model | Unreadable):
        return held.parsed
    raise TypeError(f"an object that was read as {type(held.parsed).__name__} is not also a {model.__name__}")


def _parse(body: Json, model: type[M]) -> M | Unreadable:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return Unreadable(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def is_ours(body: Json) -> bool:
    """Did the operator make this object? Its entry among the field managers says so, or an owner of its own kinds, which a restored object still names."""
    metadata = body["metadata"]
    owners = metadata.get("ownerReferences") or ()
    return _entry(metadata) is not None or any(str(owner.get("apiVersion")).startswith(f"{names.GROUP}/") for owner in owners)


def owned_fields(metadata: Json) -> str:
    """A fingerprint of the fields that are ours.

    Changing a field's value or removing it takes it out of our entry, so the entry alone shows that somebody else wrote what is ours.
    """
    entry = _entry(metadata)
    try:
        return _fingerprint(entry)
    except orjson.JSONEncodeError:
        # Nested deeper than anything that was ever ours: somebody else wrote it in our name.
        return "forged"


def _fingerprint(entry: Json | None) -> str:
    return hashlib.sha256(orjson.dumps(entry.get("fieldsV1"), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16] if entry is not None else ""


def _entry(metadata: Json) -> Json | None:
    """What server-side apply recorded of the operator's fields."""
    for entry in metadata.get("managedFields") or ():
        if entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return dict(entry)
    return None


def scaler_of(metadata: Json) -> str:
    """Who else than the operator owns spec.replicas: an HPA or KEDA that wrote it by the scale subresource, a person with `kubectl scale`. Empty: nobody."""
    for entry in metadata.get("managedFields") or ():
        spec = (entry.get("fieldsV1") or {}).get("f:spec")
        if isinstance(spec, dict) and "f:replicas" in spec and entry.get("manager") != names.FIELD_MANAGER:
            return str(entry.get("manager"))
    return ""
