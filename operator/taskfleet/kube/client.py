"""The one wrapper over the Kubernetes API: what the parts ask of it, in Kubernetes' own JSON.

Raw paths and plain dictionaries rather than the generated classes: these cost ten times the time and drop fields that they don't know.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskfleet import names
from taskfleet.kube import nesting
from taskfleet.kube.connection import Connection
from taskfleet.kube.errors import GoneError, NotFoundError, from_status
from taskfleet.kube.identity import Identity
from taskfleet.kube.resources import SERVICE_ACCOUNTS, SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Resource

Json = dict[str, Any]

PAGE = 500
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# Bookmarks are no sign of life to rely on: a kind that has seen no event since the API server started sends none. So a watch is short, and one that is
# silent for longer than the server was asked to hold it is dead, whatever TCP thinks of it.
WATCH_SECONDS = 60
WATCH_SILENCE_SECONDS = 75.0


@dataclass(frozen=True, slots=True)
class ObjectList:
    """Objects as of one `resource_version`, to watch from."""

    items: tuple[Json, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type`: ADDED, MODIFIED, DELETED or BOOKMARK (whose object has only a resourceVersion)."""

    type: str
    object: Json


@dataclass(frozen=True, slots=True)
class Token:
    """A ServiceAccount's token; `expires_at` in Unix time."""

    value: str
    expires_at: float

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at})"


class Kube:
    """The API server. Every call raises KubeError; see `errors` for the kinds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, *, user_agent: str, qps: float = 50, burst: int = 100) -> "Kube":
        """In a pod with its ServiceAccount; elsewhere with KUBECONFIG. `qps`: requests a second over time, `burst`: at once."""
        return cls(await Connection.open(user_agent=user_agent, qps=qps, burst=burst))

    @classmethod
    async def connect_as_user(cls, *, user_agent: str, kubeconfig: str | None = None, context: str | None = None) -> "Kube":
        """With a person's kubeconfig, as kubectl would: a file, or KUBECONFIG, or the one at home; its current context, or another one."""
        return cls(await Connection.of_kubeconfig(user_agent=user_agent, path=kubeconfig, context=context, qps=50, burst=100))

    @property
    def namespace(self) -> str:
        """The namespace that the kubeconfig's context names; empty where it names none."""
        return self._connection.namespace

    async def close(self) -> None:
        await self._connection.close()

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """The object; None where there is none."""
        try:
            return await self._connection.request("get", resource.plural, "GET", resource.path(namespace, name))
        except NotFoundError:
            return None

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = "", metadata_only: bool = False
    ) -> ObjectList:
        """All objects, page by page. With `metadata_only` they have no spec and no status, which is cheaper on both sides."""
        query = {"limit": str(PAGE)} | _selectors(label_selector, field_selector)
        accept = METADATA_ONLY if metadata_only else "application/json"
        items: list[Json] = []
        while True:
            page = await self._connection.request("list", resource.plural, "GET", resource.path(namespace), query=query, accept=accept)
            # Items of a list carry neither kind nor apiVersion; whoever gets one of them wants to know.
            # An empty list of metadata has null for its items, not [] (API server 1.37).
            items += [{**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in page["items"] or ()]
            more = page["metadata"].get("continue")
            if not more:
                return ObjectList(tuple(items), page["metadata"]["resourceVersion"])
            query["continue"] = more

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        timeout_seconds: int = WATCH_SECONDS,
    ) -> AsyncIterator[WatchEvent]:
        """Changes since `resource_version`, until the server ends the watch after `timeout_seconds`. Raises GoneError where a new list is needed."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        } | _selectors(label_selector, "")
        path = resource.path(namespace)
        async for line in self._connection.lines(resource.plural, path, query=query, silence_seconds=WATCH_SILENCE_SECONDS):
            event = nesting.loads(line)
            if event["type"] == "ERROR":
                raise _watch_error(event["object"])
            yield WatchEvent(event["type"], event["object"])

    async def apply(self, resource: Resource, body: Json, *, force: bool = True, field_manager: str = names.FIELD_MANAGER) -> Json:
        """Server-side apply; the object as it is now. With metadata.resourceVersion it raises ConflictError where that is not the current one."""
        return await self._apply(resource, body, subresource="", force=force, field_manager=field_manager)

    async def apply_status(self, resource: Resource, body: Json) -> Json:
        """Server-side apply of the status. With metadata.resourceVersion it raises ConflictError where that is not the current one."""
        return await self._apply(resource, body, subresource="status", force=True, field_manager=names.FIELD_MANAGER)

    async def replace_status(self, resource: Resource, body: Json) -> Json:
        """Merge patch of the status: lists become those of `body`. For what server-side apply can't do; otherwise as `apply_status`."""
        metadata = body["metadata"]
        return await self._connection.request(
            "patch",
            f"{resource.plural}/status",
            "PATCH",
            resource.path(metadata.get("namespace", ""), metadata["name"], "status"),
            query={"fieldManager": names.FIELD_MANAGER},
            body=body,
            content_type=MERGE_PATCH,
        )

    async def annotate(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        annotations: Mapping[str, str | None],
        *,
        resource_version: str,
        field_manager: str,
    ) -> Json:
        """Sets annotations, and removes those with None. Raises ConflictError where `resource_version` is not the current one."""
        body = {"metadata": {"resourceVersion": resource_version, "annotations": dict(annotations)}}
        return await self._connection.request(
            "patch",
            resource.plural,
            "PATCH",
            resource.path(namespace, name),
            query={"fieldManager": field_manager},
            body=body,
            content_type=MERGE_PATCH,
        )

    async def _apply(self, resource: Resource, body: Json, *, subresource: str, force: bool, field_manager: str) -> Json:
        metadata = body["metadata"]
        return await self._connection.request(
            "apply",
            f"{resource.plural}/{subresource}" if subresource else resource.plural,
            "PATCH",
            resource.path(metadata.get("namespace", ""), metadata["name"], subresource),
            query={"fieldManager": field_manager, "force": "true" if force else "false"},
            body=body,
            content_type=APPLY,
        )

    async def create(self, resource: Resource, body: Json) -> Json:
        """Raises ConflictError where the object exists."""
        path = resource.path(body["metadata"].get("namespace", ""))
        return await self._connection.request(
            "create", resource.plural, "POST", path, query={"fieldManager": names.FIELD_MANAGER}, body=body
        )

    async def replace(self, resource: Resource, body: Json) -> Json:
        """Writes the whole object; raises ConflictError where its metadata.resourceVersion is not the current one."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        return await self._connection.request(
            "update", resource.plural, "PUT", path, query={"fieldManager": names.FIELD_MANAGER}, body=body
        )

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str | None = None) -> bool:
        """Deletes, dependants in the background; False where it is gone already. Raises ConflictError where `uid` is not the object's."""
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._connection.request("delete", resource.plural, "DELETE", resource.path(namespace, name), body=body)
        except NotFoundError:
            return False
        return True

    async def request_token(self, *, namespace: str, service_account: str, audience: str, seconds: int = 600) -> Token:
        """A token of a ServiceAccount for one audience; 600 s is the least that Kubernetes gives."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds},
        }
        path = SERVICE_ACCOUNTS.path(namespace, service_account, "token")
        status = (await self._connection.request("create", "serviceaccounts/token", "POST", path, body=body))["status"]
        return Token(status["token"], datetime.fromisoformat(status["expirationTimestamp"]).timestamp())

    async def review_token(self, token: str, audiences: tuple[str, ...]) -> Identity | None:
        """Who presents this token, if it is good for one of `audiences`; None where it is not."""
        body = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "spec": {"token": token, "audiences": list(audiences)},
        }
        status = (await self.create_review(TOKEN_REVIEWS, body))["status"]
        good_for = tuple(audience for audience in status.get("audiences") or () if audience in audiences)
        # An authenticator that knows nothing of audiences answers without them; its tokens are the API server's own, and those are not for us.
        if not status.get("authenticated") or not good_for:
            return None
        user = status["user"]
        return Identity(
            username=user["username"],
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            extra={key: tuple(values) for key, values in (user.get("extra") or {}).items()},
            audiences=good_for,
        )

    async def review_access(
        self, identity: Identity, *, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str = ""
    ) -> bool:
        """May they? An empty `name` asks for all objects of the namespace."""
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace, "name": name}
        body = {
            "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": SUBJECT_ACCESS_REVIEWS.kind,
            "spec": {
                "user": identity.username,
                "uid": identity.uid,
                "groups": list(identity.groups),
                "extra": {key: list(values) for key, values in identity.extra.items()},
                "resourceAttributes": attributes,
            },
        }
        return bool((await self.create_review(SUBJECT_ACCESS_REVIEWS, body))["status"].get("allowed"))

    async def create_review(self, resource: Resource, body: Json) -> Json:
        return await self._connection.request("create", resource.plural, "POST", resource.path(), body=body)

    async def get_json(self, path: str) -> Json:
        """A document of the API server that is no object: `/openid/v1/jwks`, `/version`."""
        return await self._connection.request("get", "nonresource", "GET", path, accept="application/json, */*")


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value}


def _watch_error(status: Json) -> Exception:
    error = from_status(status)
    # Some servers say an expired resourceVersion by its reason only.
    return GoneError(error.message, status=410, reason=error.reason) if error.reason in {"Expired", "Gone"} else error
