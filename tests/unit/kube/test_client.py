"""Calls as they go over the wire, against an HTTP server that answers what Kubernetes answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskfleet.kube.client import Kube, WatchEvent
from taskfleet.kube.errors import ConflictError, GoneError, InvalidError, KubeError, UnavailableError
from taskfleet.kube.resources import CONFIG_MAPS, LEASES, NAMESPACES, TASK_MODELS

Handler = Callable[[web.Request], Any]


class _ApiServer:
    """Answers with `handle`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.bodies: list[Any] = []
        self.handle: Handler = lambda _: {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.asked.append(request)
        self.bodies.append(json.loads(text) if text else None)
        answer = self.handle(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


@pytest.fixture
def server() -> _ApiServer:
    return _ApiServer()


@pytest.fixture
async def kube(server: _ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.serve)
    async with TestServer(application) as listening:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": str(listening.make_url("/")).rstrip("/")}}],
            "users": [{"name": "test", "user": {"token": "secret"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        found = await Kube.connect(user_agent="taskfleet-test")
        yield found
        await found.close()


def _refusal(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


async def test_a_list_is_read_page_by_page_and_its_items_say_what_they_are(server: _ApiServer, kube: Kube) -> None:
    def handle(request: web.Request) -> Any:
        if "continue" in request.query:
            return {"metadata": {"resourceVersion": "8"}, "items": [{"metadata": {"name": "b"}}]}
        return {"metadata": {"resourceVersion": "8", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}

    server.handle = handle
    found = await kube.list(TASK_MODELS, namespace="finance", label_selector="a in (b,c),d")
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert {item["kind"] for item in found.items} == {"TaskModel"}
    assert found.resource_version == "8"
    first, second = server.asked
    assert first.path == second.path == "/apis/taskfleet.dev/v1alpha1/namespaces/finance/taskmodels"
    assert first.query["labelSelector"] == "a in (b,c),d"
    assert (first.query["limit"], second.query["continue"]) == ("500", "more")
    assert first.headers["Authorization"] == "Bearer secret"
    assert first.headers["User-Agent"] == "taskfleet-test"


async def test_an_empty_list_of_metadata_has_null_for_items(server: _ApiServer, kube: Kube) -> None:
    """Measured on Kubernetes 1.37."""
    server.handle = lambda _: {"metadata": {"resourceVersion": "8"}, "items": None}
    assert (await kube.list(NAMESPACES, metadata_only=True)).items == ()
    assert "PartialObjectMetadataList" in server.asked[0].headers["Accept"]


async def test_what_is_not_there_is_none(server: _ApiServer, kube: Kube) -> None:
    server.handle = lambda _: _refusal(404, "NotFound", "no such thing")
    assert await kube.get(CONFIG_MAPS, "none", "finance") is None
    assert await kube.delete(CONFIG_MAPS, "none", "finance") is False


async def test_an_apply_is_forced_and_ours(server: _ApiServer, kube: Kube) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "finance"}, "data": {"ü": "ö"}}
    await kube.apply(CONFIG_MAPS, body)
    (request,) = server.asked
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/finance/configmaps/a")
    assert dict(request.query) == {"fieldManager": "taskfleet-operator", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert server.bodies == [body]


async def test_a_status_goes_to_its_subresource(server: _ApiServer, kube: Kube) -> None:
    server.handle = lambda _: _refusal(409, "Conflict", "the object has been modified")
    with pytest.raises(ConflictError):
        await kube.apply_status(TASK_MODELS, {"metadata": {"name": "a", "namespace": "finance", "resourceVersion": "1"}})
    assert server.asked[0].path.endswith("/taskmodels/a/status")


async def test_a_deletion_names_the_object_that_it_means(server: _ApiServer, kube: Kube) -> None:
    assert await kube.delete(CONFIG_MAPS, "a", "finance", uid="u-1")
    assert server.bodies[0]["preconditions"] == {"uid": "u-1"}


async def _stream(request: web.Request, *chunks: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
        await asyncio.sleep(0)
    return response


def _line(kind: str, **content: Any) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


async def test_a_watch_survives_chunks_that_end_anywhere_and_objects_of_any_size(server: _ApiServer, kube: Kube) -> None:
    big = "x" * 3_000_000
    text = _line("ADDED", metadata={"name": "a"}) + _line("MODIFIED", metadata={"name": "b"}, data=big) + _line("BOOKMARK", metadata={})
    server.handle = lambda request: _stream(request, *(text[at : at + 700_001] for at in range(0, len(text), 700_001)))
    events = [event async for event in kube.watch(CONFIG_MAPS, resource_version="7", namespace="finance")]
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "BOOKMARK"]
    assert events[1].object["data"] == big
    query = server.asked[0].query
    assert (query["watch"], query["resourceVersion"], query["allowWatchBookmarks"]) == ("true", "7", "true")


async def test_an_expired_version_is_gone_whether_the_server_says_so_at_once_or_in_the_stream(server: _ApiServer, kube: Kube) -> None:
    server.handle = lambda _: _refusal(410, "Expired", "too old resource version")
    with pytest.raises(GoneError):
        await _first(kube)
    server.handle = lambda request: _stream(request, _line("ERROR", code=410, reason="Expired", message="too old"))
    with pytest.raises(GoneError):
        await _first(kube)
    server.handle = lambda request: _stream(request, _line("ERROR", code=500, reason="InternalError", message="etcd is away"))
    with pytest.raises(UnavailableError, match="etcd is away"):
        await _first(kube)


async def _first(kube: Kube) -> WatchEvent:
    return await anext(aiter(kube.watch(CONFIG_MAPS, resource_version="1")))


async def test_an_answer_that_is_no_json_is_an_outage(server: _ApiServer, kube: Kube) -> None:
    server.handle = lambda _: web.Response(text="<html>")
    with pytest.raises(UnavailableError):
        await kube.get(CONFIG_MAPS, "a", "finance")


async def test_a_server_that_nobody_runs_is_an_outage(tmp_path: Path, kube: Kube, server: _ApiServer) -> None:
    def cut(request: web.Request) -> Any:
        if request.transport is not None:
            request.transport.abort()
        return {}

    server.handle = cut
    with pytest.raises(UnavailableError):
        await kube.get(CONFIG_MAPS, "a", "finance")


async def test_a_token_of_other_audiences_is_nobodys(server: _ApiServer, kube: Kube) -> None:
    user = {"username": "system:serviceaccount:a:b", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}
    server.handle = lambda _: {"status": {"authenticated": True, "user": user, "audiences": ["taskfleet-gateway"]}}
    found = await kube.review_token("t", ("taskfleet-gateway",))
    assert found is not None
    assert (found.username, found.groups, found.extra, found.audiences) == (user["username"], ("g",), {"k": ("v",)}, ("taskfleet-gateway",))
    assert await kube.review_token("t", ("another",)) is None
    server.handle = lambda _: {"status": {"authenticated": True, "user": user}}
    assert await kube.review_token("t", ("taskfleet-gateway",)) is None, "an authenticator without audiences vouches for none"
    server.handle = lambda _: {"status": {"authenticated": False}}
    assert await kube.review_token("t", ("taskfleet-gateway",)) is None


async def test_rights_are_asked_for_as_the_user_with_groups_and_extras(server: _ApiServer, kube: Kube) -> None:
    user = {"username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}
    server.handle = lambda _: {"status": {"authenticated": True, "user": user, "audiences": ["x"], "allowed": True}}
    identity = await kube.review_token("t", ("x",))
    assert identity is not None
    allowed = await kube.review_access(
        identity, verb="create", group="taskfleet.dev", resource="taskmodels", subresource="invoke", namespace="finance"
    )
    assert allowed
    assert server.bodies[-1]["spec"]["extra"] == {"k": ["v"]}
    server.handle = lambda _: {"status": {"denied": True}}
    assert not await kube.review_access(identity, verb="create", group="", resource="", subresource="", namespace="")


async def test_a_refused_object_keeps_the_servers_words(server: _ApiServer, kube: Kube) -> None:
    server.handle = lambda _: _refusal(422, "Invalid", 'TaskModel "a" is invalid: spec.base: Required value')
    with pytest.raises(InvalidError, match=r"spec\.base: Required value"):
        await kube.create(TASK_MODELS, {"metadata": {"name": "a", "namespace": "finance"}})


async def test_the_time_at_which_a_token_ends_is_unix_time(server: _ApiServer, kube: Kube) -> None:
    server.handle = lambda _: {"status": {"token": "t", "expirationTimestamp": "2026-01-02T03:04:05Z"}}
    token = await kube.request_token(namespace="system", service_account="taskfleet-operator", audience="uid-1")
    assert token.expires_at == 1767323045
    assert "t'" not in repr(token), "a token is in no log"
    assert server.asked[0].path == "/api/v1/namespaces/system/serviceaccounts/taskfleet-operator/token"
    assert server.bodies[0]["spec"] == {"audiences": ["uid-1"], "expirationSeconds": 600}


async def test_a_lease_is_renewed_whatever_waits_for_its_turn(server: _ApiServer, kube: Kube) -> None:
    slow = await Kube.connect(user_agent="taskfleet-test", qps=0.001, burst=1)
    await slow.get(CONFIG_MAPS, "a", "finance")
    waiting = asyncio.create_task(slow.get(CONFIG_MAPS, "b", "finance"))
    await asyncio.sleep(0)
    await asyncio.wait_for(slow.get(LEASES, "taskfleet-operator", "system"), 30)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await slow.close()
    assert [request.path.rpartition("/")[2] for request in server.asked] == ["a", "taskfleet-operator"]


async def test_annotations_are_set_and_removed_against_what_was_read(server: _ApiServer, kube: Kube) -> None:
    await kube.annotate(TASK_MODELS, "total", "finance", {"a": "1", "b": None}, resource_version="41", field_manager="somebody")
    (request,) = server.asked
    assert (request.method, request.path) == ("PATCH", "/apis/taskfleet.dev/v1alpha1/namespaces/finance/taskmodels/total")
    assert (request.query["fieldManager"], request.headers["Content-Type"]) == ("somebody", "application/merge-patch+json")
    assert server.bodies == [{"metadata": {"resourceVersion": "41", "annotations": {"a": "1", "b": None}}}]


async def test_a_person_chooses_file_and_context_and_gets_its_namespace(server: _ApiServer, kube: Kube, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["contexts"].append({"name": "other", "context": {"cluster": "test", "user": "test", "namespace": "finance"}})
    (tmp_path / "mine").write_text(yaml.safe_dump(config))
    found = await Kube.connect_as_user(user_agent="person", kubeconfig=str(tmp_path / "mine"), context="other")
    try:
        await found.get_json("/version")
        assert (found.namespace, kube.namespace) == ("finance", "")
    finally:
        await found.close()
    assert server.asked[0].headers["User-Agent"] == "person"


@pytest.mark.parametrize(
    "content", ["", "[]", "kind: Config", "current-context: a\ncontexts: []\nusers: []\nclusters: []", "{", "a: {b: *c}"]
)
async def test_a_kubeconfig_that_cant_be_used_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "broken").write_text(content)
    with pytest.raises(KubeError, match="no usable kubeconfig"):
        await Kube.connect_as_user(user_agent="person", kubeconfig=str(tmp_path / "broken"))


async def test_a_kubeconfig_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="there is no file"):
        await Kube.connect_as_user(user_agent="person", kubeconfig=str(tmp_path / "none"))
