"""The public API over real connections: answers, refusals and limits as a client sees them."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from taskfleet.gateway.main import drain
from tests.unit.gateway.builders import OTHER_DIGEST, at, pool, revision, task, traffic
from tests.unit.gateway.pods import Pod, hang
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import CHAT, MODEL, Rights, running, serve

JSON = {"Content-Type": "application/json"}


async def problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    error: dict[str, Any] = (await response.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_answer_comes_back_under_the_clients_name() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, world.post(temperature=0.5, strange={"x": [1]}) as response:
        answer = await response.json()
        assert (response.status, answer["model"]) == (200, "finance/vendor")
        assert response.headers["x-taskfleet-revision"] == "vendor-1"
        assert response.headers["Content-Type"].startswith("application/json")
        sent = json.loads(answer["choices"][0]["message"]["content"])["body"]
        assert sent == {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "temperature": 0.5, "strange": {"x": [1]}}


async def test_clients_credentials_and_other_headers_never_go_upstream() -> None:
    headers = {"Authorization": "Bearer of-the-client", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "x-request-id": "mine-1"}
    rights = Rights({("of-the-client", "invoke", "finance", "vendor")})
    async with Pod("a", models={MODEL}) as pod, running(pod, access=rights) as world:
        async with world.post(headers=headers) as response:
            assert response.status == 200
            assert response.headers["x-request-id"] == "mine-1"
        (received,) = pod.received
        assert received.headers["Authorization"] == "Bearer token-for-uid-tiny-pool"
        assert "of-the-client" not in str(received)
        assert "Cookie" not in received.headers
        assert "X-Forwarded-For" not in received.headers
        # Two clients may send the same id, and engines take it for a key.
        assert received.headers["x-request-id"].startswith("mine-1-")
        assert len(received.headers["x-request-id"]) > len("mine-1-")


async def test_request_id_that_could_forge_a_header_or_log_line_is_replaced() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world, world.post(headers={"x-request-id": "a b=c"}) as response:
        assert response.headers["x-request-id"] != "a b=c"
        assert response.headers["x-request-id"].isalnum()


async def test_completions_go_their_own_way() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        async with world.post({"model": "finance/vendor", "prompt": "x"}, path="/v1/completions") as response:
            assert response.status == 200
        assert pod.received[0].path == "/v1/completions"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/load_lora_adapter", 404, "not_found"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
        ("POST", "/v1/../v1/load_lora_adapter", 404, "not_found"),
        ("GET", "/metrics", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/finance/vendor", 405, "method_not_allowed"),
    ],
)
async def test_nothing_but_the_api_is_there(method: str, path: str, status: int, code: str) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        async with world.client.request(method, world.url + path) as response:
            assert response.status == status
            assert (await problem(response))["code"] == code
        assert not pod.received


@pytest.mark.parametrize("model", ["finance/nothing", "nothing", MODEL, "../vendor", "finance/vendor@nothing", "tiny-pool", "legal/vendor"])
async def test_unknown_model_is_404(model: str) -> None:
    async with Pod("a", models={MODEL, "tiny-pool"}) as pod, running(pod) as world:
        async with world.post(model=model) as response:
            assert response.status == 404
            error = await problem(response)
            assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")
        assert not pod.received


async def test_forbidden_model_cannot_be_told_from_a_missing_one() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, access=Rights()) as world:
        told = []
        for model in ("finance/vendor", "finance/nobody"):
            async with world.post(model=model, headers={"Authorization": "Bearer t"}) as response:
                told.append((response.status, (await response.text()).replace(model, "M"), sorted(set(response.headers) - {"Date"})))
        assert told[0] == told[1]
        assert told[0][0] == 404
        assert not pod.received


async def test_missing_token_is_401_before_the_body_is_looked_at() -> None:
    async with (
        Pod("a", models={MODEL}) as pod,
        running(pod, access=Rights()) as world,
        world.client.post(world.url + CHAT, data=b"not json") as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await problem(response))["type"] == "authentication_error"


async def test_bare_name_means_the_callers_own_namespace() -> None:
    rights = Rights({("t", "invoke", "finance", "vendor")})
    async with (
        Pod("a", models={MODEL}) as pod,
        running(pod, access=rights) as world,
        world.post(model="vendor", headers={"Authorization": "Bearer t"}) as response,
    ):
        assert response.status == 200
        assert (await response.json())["model"] == "vendor"


async def test_revision_that_was_never_promoted_needs_the_right_to_preview() -> None:
    rights = Rights({("t", "invoke", "finance", "vendor"), ("p", "preview", "finance", "vendor")})
    other = MODEL.replace("ab" * 16, "cd" * 16)
    async with Pod("a", models={MODEL, other}) as pod, running(pod, access=rights) as world:
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
        for token, pin, status in (("t", "1", 200), ("t", "2", 404), ("p", "2", 200), ("p", "vendor-2", 200), ("p", "1", 404)):
            async with world.post(model=f"vendor@{pin}", headers={"Authorization": f"Bearer {token}"}) as response:
                assert (token, pin, response.status) == (token, pin, status)
        assert {received.body["model"] for received in pod.received} == {MODEL, other}


async def test_models_lists_only_what_the_caller_may_invoke() -> None:
    rights = Rights({("t", "invoke", "legal", ""), ("t", "invoke", "finance", "vendor")})
    async with Pod("a", models={MODEL}) as pod, running(pod, access=rights) as world:
        for namespace, name, uid in (("finance", "total", "u2"), ("legal", "clause", "u3"), ("secret", "plan", "u4")):
            world.table.put_task(task(name, namespace=namespace, uid=uid, to=[traffic(f"{name}-1")]))
            world.table.put_revision(revision(f"{name}-1", of=name, namespace=namespace, owner=uid))
        world.table.put_task(task("unborn", namespace="legal", uid="u5"))
        async with world.client.get(world.url + "/v1/models", headers={"Authorization": "Bearer t"}) as response:
            listed = await response.json()
        assert [card["id"] for card in listed["data"]] == ["finance/vendor", "legal/clause"]
        assert listed["object"] == "list"
        assert {(card["object"], card["created"]) for card in listed["data"]} == {("model", 1767323045)}
        # Where the whole namespace is allowed nobody asks for its members.
        assert ("invoke", "legal", "clause") not in rights.asked
        for path, status in (
            ("finance/vendor", 200),
            ("vendor", 200),
            ("finance%2Fvendor", 200),
            ("secret/plan", 404),
            ("finance/total", 404),
        ):
            async with world.client.get(f"{world.url}/v1/models/{path}", headers={"Authorization": "Bearer t"}) as response:
                assert (path, response.status) == (path, status)


async def test_task_settings_are_applied_and_forbidden_overrides_named() -> None:
    settings = {"systemPrompt": "Be brief.", "defaults": {"maxTokens": 8, "temperature": 0}, "allowOverrides": ["Temperature"]}
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        world.table.put_revision(revision("vendor-1", settings=settings))
        async with world.post(temperature=0.7) as response:
            assert response.status == 200
        assert pod.received[0].body == {
            "model": MODEL,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}],
            "temperature": 0.7,
            "max_tokens": 8,
        }
        async with world.post(max_tokens=9) as response:
            assert response.status == 400
            assert (await problem(response))["param"] == "max_tokens"
        assert len(pod.received) == 1


async def test_long_body_is_refused_whether_its_length_is_announced_or_not() -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 1000

    async with Pod("a", models={MODEL}) as pod, running(pod, max_body_bytes=10_000) as world:
        for data in (b"x" * 10_001, chunks()):
            async with world.client.post(world.url + CHAT, data=data, headers=JSON) as response:
                assert response.status == 413
                assert (await problem(response))["code"] == "request_too_large"


async def test_client_that_waits_for_permission_to_send_gets_it() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        body = {"model": "finance/vendor", "messages": [{"role": "user", "content": "x" * 200_000}]}
        async with world.client.post(world.url + CHAT, json=body, expect100=True, timeout=aiohttp.ClientTimeout(total=20)) as response:
            assert response.status == 200


async def test_replica_takes_no_more_than_it_can_hold() -> None:
    async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod, max_open_requests=2) as world:
        waiting = [asyncio.create_task(_status(world.post())) for _ in range(2)]
        await until(lambda: len(pod.received) >= 2)
        async with world.post() as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "1"
        for task_ in waiting:
            task_.cancel()


async def test_shutdown_finishes_what_is_under_way_and_keeps_taking_for_a_moment() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        pod.gate.clear()
        stream = asyncio.create_task(_text(world.post(stream=True)))
        await until(lambda: pod.received)
        draining = asyncio.create_task(drain(world.gateway.api, world.site, delay=0.3, limit=30))
        await asyncio.sleep(0)
        async with world.post() as response:
            assert response.status == 200
            assert response.headers["Connection"] == "close"
        await asyncio.sleep(0.5)
        assert not draining.done()
        with pytest.raises(aiohttp.ClientConnectorError):
            await _status(world.post())
        pod.gate.set()
        assert "[DONE]" in await stream
        await asyncio.wait_for(draining, 10)


async def test_same_names_in_two_namespaces_never_cross_answer() -> None:
    theirs = MODEL.replace("finance", "legal")
    async with Pod("a", models={MODEL}) as ours, Pod("b", models={theirs}, pool_uid="uid-legal-pool") as other, running(ours) as world:
        world.table.put_task(task(namespace="legal", uid="u2", to=[traffic("vendor-1", pool="legal-pool")]))
        world.table.put_revision(revision("vendor-1", namespace="legal", owner="u2"))
        world.table.put_pool(pool("legal-pool", namespace="legal"))
        world.table.put_slice(at(other.address, pool="legal-pool", namespace="legal"))
        for model in ("finance/vendor", "legal/vendor") * 5:
            async with world.post(model=model) as response:
                assert response.status == 200
        assert {received.body["model"] for received in ours.received} == {MODEL}
        assert {received.body["model"] for received in other.received} == {theirs}


async def test_figures_tell_what_happened() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, hold_seconds=0.1) as world:
        for stream in (False, True):
            await _text(world.post(stream=stream))
        labels = {"namespace": "finance", "task_model": "vendor", "revision": "vendor-1"}
        assert world.figure("requests_total", **labels, code="200") == 2
        assert world.figure("prompt_tokens_total", **labels) == 14
        assert world.figure("completion_tokens_total", **labels) == 6
        assert world.figure("time_to_first_token_seconds_count", **labels) == 1
        assert world.figure("in_flight_requests", **labels) == 0
        assert world.figure("open_requests") == 0
        # A request that never got as far as a revision is counted at its task.
        world.table.remove_slice("finance", "slice-1")
        async with world.post() as response:
            assert response.status == 503
        nowhere = {**labels, "revision": ""}
        assert world.figure("requests_total", **nowhere, code="503") == 1


async def test_deleted_task_is_404_at_once() -> None:
    async with Pod("a", models={MODEL}) as pod, running() as world:
        serve(world.table, pod)
        assert await _status(world.post()) == 200
        world.table.remove_task(("finance", "vendor"))
        assert await _status(world.post()) == 404


async def test_client_that_sends_its_body_too_slowly_gives_its_place_back() -> None:
    async def slow() -> Any:
        yield b'{"model":'
        await asyncio.sleep(30)

    async with Pod("a", models={MODEL}) as pod, running(pod, body_timeout_seconds=0.2) as world:
        async with world.client.post(world.url + CHAT, data=slow(), headers=JSON) as response:
            assert response.status == 408
            assert (await problem(response))["code"] == "request_timeout"
        assert world.gateway.api.open_requests == 0


async def _status(request: Any) -> int:
    async with request as response:
        status: int = response.status
        return status


async def _text(request: Any) -> str:
    async with request as response:
        text: str = await response.text()
        return text
