"""The tests' own small client of the Kubernetes API: plain JSON objects, server-side apply under a tester's name, and waiting with a story.

It shares no code with the operator's wrapper, so that a defect there can't hide itself. Objects stay dictionaries: the tests look at them as
`kubectl` would.
"""

import base64
import http.client
import json
import ssl
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import urllib3
import yaml

Object = dict[str, Any]
Found = TypeVar("Found")

TESTER = "taskfleet-tests"  # the field manager of what tests apply, as a user's kubectl would be


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource of the API: where it is found and what it is called."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{place}/{self.plural}" + (f"/{name}" if name else "")


TASK_MODEL = Kind("taskfleet.dev/v1alpha1", "TaskModel", "taskmodels")
REVISION = Kind("taskfleet.dev/v1alpha1", "TaskModelRevision", "taskmodelrevisions")
POOL = Kind("taskfleet.dev/v1alpha1", "ModelPool", "modelpools")
SERVING_CLASS = Kind("taskfleet.dev/v1alpha1", "ServingClass", "servingclasses", namespaced=False)
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("v1", "Node", "nodes", namespaced=False)
POD = Kind("v1", "Pod", "pods")
JOB = Kind("batch/v1", "Job", "jobs")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SECRET = Kind("v1", "Secret", "secrets")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")

KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in list(globals().values()) if isinstance(kind, Kind)}

# What the operator makes for a pool.
CHILDREN: tuple[Kind, ...] = (DEPLOYMENT, SERVICE, CONFIG_MAP, DISRUPTION_BUDGET, NETWORK_POLICY, SERVICE_ACCOUNT)


class ApiError(Exception):
    """The API server refused: HTTP status, the reason of its Status object, its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotReachedError(AssertionError):
    """A condition that was waited for did not come."""


def eventually(check: Callable[[], Found], *, what: str, within: float = 60, describe: Callable[[], str] | None = None) -> Found:
    """Calls `check` until it neither raises AssertionError or ApiError nor returns None or False, and gives its answer.

    `within` is in seconds. Raises NotReachedError with the last obstacle and what `describe` tells of the cluster.
    """
    deadline = time.monotonic() + within
    obstacle: Exception | str = "never checked"
    while True:
        try:
            answer = check()
        except (AssertionError, ApiError, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            obstacle = error
        else:
            if answer is not None and answer is not False:
                return answer
            obstacle = f"answered {answer}"
        if time.monotonic() > deadline:
            story = f"\n{_told(describe)}" if describe else ""
            raise NotReachedError(f"{what}: not within {within:.0f} s; last: {obstacle}{story}")
        time.sleep(0.25)


def _told(describe: Callable[[], str]) -> str:
    try:
        return describe()
    except (ApiError, urllib3.exceptions.HTTPError) as error:
        return f"(the cluster tells no story: {error})"


def condition(obj: Object, name: str) -> Object | None:
    """A condition of an object's status, or None."""
    return next((one for one in obj.get("status", {}).get("conditions", []) if one["type"] == name), None)


def is_true(obj: Object, name: str) -> bool:
    found = condition(obj, name)
    return found is not None and found["status"] == "True"


def key(obj: Object) -> str:
    """`Kind/namespace/name`."""
    metadata = obj["metadata"]
    return "/".join(part for part in (obj["kind"], metadata.get("namespace", ""), metadata["name"]) if part)


class Api:
    """A cluster-administrator's connection to the API server of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        access = access_of(kubeconfig)
        self.url = access.url
        self._headers = {"user-agent": TESTER, **access.headers}
        self._pool = _connections(access.tls)
        self._others = _connections(access.others_tls)

    def close(self) -> None:
        self._pool.clear()
        self._others.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
        content_type: str = "application/json",
        token: str | None = None,
    ) -> bytes:
        """One request, as the administrator or with another identity's `token`. Raises ApiError on any answer but 2xx."""
        url = self.url + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = self._headers | {"content-type": content_type}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        pool = self._pool if token is None else self._others
        reply = pool.request(method, url, headers=headers, body=None if body is None else json.dumps(body).encode())
        if 200 <= reply.status < 300:
            return reply.data
        try:
            told = json.loads(reply.data)
        except ValueError:
            told = {"message": reply.data.decode(errors="replace")}
        raise ApiError(reply.status, told.get("reason", ""), told.get("message", ""))

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Raises ApiError with status 404 where there is none."""
        found: Object = json.loads(self.request("GET", kind.path(namespace, name)))
        return found

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """All of a kind, in one namespace or everywhere, each with its kind and apiVersion."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        listed = json.loads(self.request("GET", kind.path(namespace), query=query))
        return [{"apiVersion": kind.api_version, "kind": kind.kind} | item for item in listed["items"]]

    def apply(
        self, body: Object, *, manager: str = TESTER, subresource: str = "", dry_run: bool = False, token: str | None = None
    ) -> Object:
        """Server-side apply, strict about unknown fields as kubectl is."""
        kind = KINDS[body["kind"]]
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"]) + (f"/{subresource}" if subresource else "")
        query: dict[str, str | int] = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        text = self.request("PATCH", path, body=body, query=query, content_type="application/apply-patch+yaml", token=token)
        applied: Object = json.loads(text)
        return applied

    def patch(
        self, kind: Kind, name: str, namespace: str = "", *, change: object, subresource: str = "", json_patch: bool = False
    ) -> Object:
        """A merge patch, or with `json_patch` a list of JSON patch operations."""
        path = kind.path(namespace, name) + (f"/{subresource}" if subresource else "")
        content_type = "application/json-patch+json" if json_patch else "application/merge-patch+json"
        patched: Object = json.loads(self.request("PATCH", path, body=change, query={"fieldManager": TESTER}, content_type=content_type))
        return patched

    def create(self, body: Object, *, subresource: str = "", token: str | None = None) -> Object:
        kind = KINDS[body["kind"]]
        path = kind.path(body["metadata"].get("namespace", "")) + (f"/{body['metadata']['name']}/{subresource}" if subresource else "")
        created: Object = json.loads(self.request("POST", path, body=body, token=token))
        return created

    def delete(self, kind: Kind, name: str, namespace: str = "", *, grace_seconds: int | None = None) -> None:
        """Asks for deletion; a missing object is fine."""
        query = {"propagationPolicy": "Background"} | ({} if grace_seconds is None else {"gracePeriodSeconds": str(grace_seconds)})
        try:
            self.request("DELETE", kind.path(namespace, name), query=query)
        except ApiError as error:
            if error.status != 404:
                raise

    def evict(self, pod: str, namespace: str) -> None:
        """Eviction as a node drain does it. Raises ApiError with status 429 while a PodDisruptionBudget forbids it."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        self.request("POST", POD.path(namespace, pod) + "/eviction", body=body)

    def logs(
        self,
        pod: str,
        namespace: str,
        *,
        container: str = "",
        previous: bool = False,
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
    ) -> str:
        query: dict[str, str | int] = {"container": container} if container else {}
        if previous:
            query["previous"] = "true"
        if tail is not None:
            query["tailLines"] = tail
        if since is not None:
            query["sinceTime"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        if timestamps:
            query["timestamps"] = "true"
        return self.request("GET", POD.path(namespace, pod) + "/log", query=query).decode(errors="replace")

    def token(self, service_account: str, namespace: str, *, audiences: Sequence[str] = (), seconds: int = 3600) -> str:
        """A token of a ServiceAccount; without audiences one for the API server itself."""
        body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
        if audiences:
            body["spec"]["audiences"] = list(audiences)
        reply = json.loads(self.request("POST", SERVICE_ACCOUNT.path(namespace, service_account) + "/token", body=body))
        return str(reply["status"]["token"])

    def may(
        self, token: str, *, verb: str, resource: str, group: str = "", namespace: str = "", subresource: str = "", name: str = ""
    ) -> bool:
        """Whether the identity of a token may do something, as the API server itself says; without `name`, with all objects."""
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace, "name": name}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        reply = json.loads(self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body, token=token))
        return bool(reply["status"]["allowed"])


@dataclass(frozen=True, slots=True)
class Access:
    """The administrator's way to an API server. `others_tls` is without their certificate, which would win over any token."""

    url: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext
    others_tls: ssl.SSLContext


def access_of(kubeconfig: Path) -> Access:
    configuration = yaml.safe_load(kubeconfig.read_text())
    context = next(one["context"] for one in configuration["contexts"] if one["name"] == configuration["current-context"])
    server = next(one["cluster"] for one in configuration["clusters"] if one["name"] == context["cluster"])
    user = next(one["user"] for one in configuration["users"] if one["name"] == context["user"])
    authority = _pem(server, "certificate-authority", kubeconfig.parent)
    tls, headers = ssl.create_default_context(cadata=authority), {}
    if "token" in user:
        headers["authorization"] = f"Bearer {user['token']}"
    else:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
            pair.write(_pem(user, "client-certificate", kubeconfig.parent) + "\n" + _pem(user, "client-key", kubeconfig.parent))
            pair.flush()
            tls.load_cert_chain(pair.name)
    return Access(server["server"].rstrip("/"), headers, tls, ssl.create_default_context(cadata=authority))


def _connections(tls: ssl.SSLContext) -> urllib3.PoolManager:
    return urllib3.PoolManager(ssl_context=tls, retries=False, timeout=urllib3.Timeout(connect=5, read=60), maxsize=8)


def _pem(entry: Object, name: str, folder: Path) -> str:
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"]).decode()
    return (folder / str(entry[name])).read_text()
