"""A small API server in memory: versions, conflicts, field ownership by manager. For the operator's edges; what Kubernetes really does is shown in tests/apiserver."""

import copy
from typing import Any

from taskfleet.kube.client import ObjectList
from taskfleet.kube.errors import ConflictError, ForbiddenError, KubeError, NotFoundError
from taskfleet.kube.resources import Resource
from tests.unit.controller.objects import Json, body

Key = tuple[str, str, str]


class MemoryApiServer:
    """Applies merge at the top level of `spec` and `metadata` only. `refuse` is raised by every write while it is set; `hidden` kinds may not be read by name."""

    def __init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.version = 100
        self.writes: list[str] = []
        self.refuse: KubeError | None = None
        self.hidden: frozenset[str] = frozenset()

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        if resource.kind in self.hidden:
            raise ForbiddenError("may not be read", status=403)
        return copy.deepcopy(self.objects.get((resource.kind, namespace, name)))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",  # noqa: ARG002
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> ObjectList:
        name = field_selector.removeprefix("metadata.name=")
        found = [
            item
            for key, item in self.objects.items()
            if key[0] == resource.kind and namespace in {"", key[1]} and (not field_selector or key[2] == name)
        ]
        items = [{"metadata": item["metadata"]} if metadata_only else item for item in copy.deepcopy(found)]
        return ObjectList(tuple(items), str(self.version))

    async def apply(self, resource: Resource, intent: Json, *, force: bool = True) -> Json:  # noqa: ARG002
        self._write(f"apply {resource.kind} {intent['metadata']['name']}")
        key = (resource.kind, intent["metadata"].get("namespace", ""), intent["metadata"]["name"])
        before = self.objects.get(key)
        if intent["metadata"].get("uid") not in {None, before["metadata"]["uid"] if before else None}:
            raise ConflictError("another uid", status=409)
        self._check_version(intent, before)
        after = copy.deepcopy(before) if before else body(key[2], 0, namespace=key[1], uid=f"uid-{key[2]}-{self.version}")
        owned: dict[str, Any] = {}
        for part, content in intent.items():
            if isinstance(content, dict):
                after.setdefault(part, {}).update(copy.deepcopy(content))
                owned[f"f:{part}"] = {f"f:{name}": {} for name in content}
            else:
                after[part] = content
        ours = {"manager": "taskfleet-operator", "operation": "Apply", "fieldsV1": owned}
        after["metadata"]["managedFields"] = [ours, *_others(after, owned.get("f:spec", {}))]
        return self._store(key, before, after)

    async def apply_status(self, resource: Resource, intent: Json) -> Json:
        self._write(f"status {resource.kind} {intent['metadata']['name']}")
        key = (resource.kind, intent["metadata"].get("namespace", ""), intent["metadata"]["name"])
        before = self.objects.get(key)
        if before is None:
            raise NotFoundError("gone", status=404)
        self._check_version(intent, before)
        return self._store(key, before, {**copy.deepcopy(before), "status": copy.deepcopy(intent["status"])})

    async def create(self, resource: Resource, new: Json) -> Json:
        key = (resource.kind, new["metadata"].get("namespace", ""), new["metadata"]["name"])
        self._write(f"create {resource.kind} {key[2]}")
        if key in self.objects:
            raise ConflictError("exists", status=409)
        after = copy.deepcopy(new)
        after["metadata"]["uid"] = f"uid-{key[2]}-{self.version}"
        return self._store(key, None, after)

    async def replace(self, resource: Resource, new: Json) -> Json:
        key = (resource.kind, new["metadata"].get("namespace", ""), new["metadata"]["name"])
        self._write(f"replace {resource.kind} {key[2]}")
        before = self.objects.get(key)
        if before is None:
            raise NotFoundError("gone", status=404)
        if before["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"]:
            raise ConflictError("modified", status=409)
        return self._store(key, before, copy.deepcopy(new))

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str | None = None) -> bool:
        self._write(f"delete {resource.kind} {name}")
        found = self.objects.get((resource.kind, namespace, name))
        if found is not None and uid is not None and found["metadata"]["uid"] != uid:
            raise ConflictError("another uid", status=409)
        self.version += 1
        return self.objects.pop((resource.kind, namespace, name), None) is not None

    def edit(self, resource: Resource, name: str, namespace: str = "finance", *, takes: str = "", manager: str = "", **spec: Any) -> Json:
        """Somebody else writes into `spec`, and takes the field `takes` from us; with a `manager` it is seen whose it is now."""
        key = (resource.kind, namespace, name)
        after = copy.deepcopy(self.objects[key])
        after["spec"].update(spec)
        if takes:
            after["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop(f"f:{takes}", None)
        if manager:
            others = [entry for entry in after["metadata"]["managedFields"] if entry["manager"] != manager]
            entry = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {f"f:{field}": {} for field in spec}}}
            after["metadata"]["managedFields"] = [*others, entry]
        return self._store(key, self.objects[key], after)

    def _check_version(self, intent: Json, before: Json | None) -> None:
        current = before["metadata"]["resourceVersion"] if before is not None else ""
        if intent["metadata"].get("resourceVersion", current) != current:
            raise ConflictError("the object has been modified", status=409)

    def _write(self, what: str) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.writes.append(what)

    def _store(self, key: Key, before: Json | None, after: Json) -> Json:
        """As the real one: a write that changes nothing makes no version."""
        if (
            before is not None
            and {**after, "metadata": {**after["metadata"], "resourceVersion": before["metadata"]["resourceVersion"]}} == before
        ):
            return copy.deepcopy(before)
        self.version += 1
        after["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = after
        return copy.deepcopy(after)


def _others(live: Json, forced: Json) -> list[Json]:
    """Entries of other managers, without the fields that an apply takes from them."""
    found = []
    for entry in live["metadata"].get("managedFields", ()):
        fields: Json = {name: {} for name in entry["fieldsV1"].get("f:spec", {}) if name not in forced}
        if entry["manager"] != "taskfleet-operator" and fields:
            found.append({**entry, "fieldsV1": {"f:spec": fields}})
    return found
