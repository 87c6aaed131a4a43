"""Who may call what, asked of a real API server by a real gateway process that has the chart's rights and no others."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from taskfleet.gateway.answer_ids import read
from taskfleet.names import engine_name
from tests.apiserver import objects
from tests.apiserver.conftest import ApiServer
from tests.apiserver.gateway_fleet import DIGEST, GATEWAY, OPERATOR, SYSTEM, Cable, Fleet, ServedTask, pods, prepare, running
from tests.apiserver.nested import create_forged
from tests.cluster.api import ROLE_BINDING
from tests.unit.gateway.pods import Pod

OTHER_DIGEST = "sha256:" + "cd" * 32


@pytest.fixture(scope="module")
def fleet(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    prepare(api_server)
    with running(api_server, tmp_path_factory.mktemp("gateway")) as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


class Asked:
    """What a client got."""

    def __init__(self, status: int, text: str, headers: Any) -> None:
        self.status = status
        self.text = text
        self.headers = headers

    @property
    def code(self) -> str:
        return str(json.loads(self.text)["error"]["code"])


async def ask(fleet: Fleet, client: aiohttp.ClientSession, model: str, token: str | None) -> Asked:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    async with client.post(f"{fleet.public}/v1/chat/completions", json=body, headers=headers) as response:
        return Asked(response.status, await response.text(), response.headers)


async def listed(fleet: Fleet, client: aiohttp.ClientSession, token: str) -> list[str]:
    async with client.get(f"{fleet.public}/v1/models", headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 200
        return [card["id"] for card in (await response.json())["data"]]


async def report(fleet: Fleet, client: aiohttp.ClientSession, task: ServedTask, token: str) -> Any:
    query = {"namespace": task.namespace, "name": task.name}
    async with client.get(f"{fleet.internal}/internal/v1/routes", params=query, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 200
        return (await response.json())["traffic"]


async def reported(fleet: Fleet, client: aiohttp.ClientSession, task: ServedTask, *revisions: str) -> None:
    """Waits until the gateway acts on the traffic."""
    token = _operator(fleet)
    async with asyncio.timeout(30):
        while True:
            traffic = await report(fleet, client, task, token)
            if tuple(target["revision"] for target in traffic or ()) == revisions:
                return
            await asyncio.sleep(0.05)


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


async def served(fleet: Fleet, client: aiohttp.ClientSession, namespace: str, pod: Pod, name: str = "total") -> ServedTask:
    task = ServedTask(fleet.server, namespace, name, pool=f"pool-of-{name}")
    task.create()
    task.place(pod)
    pod.models.add(engine_name(namespace, name, DIGEST))
    await reported(fleet, client, task, f"{name}-1")
    return task


async def test_client_with_the_right_is_answered_and_the_pod_gets_a_token_for_its_pool_only(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-ok")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        token = fleet.token("app", namespace)
        fleet.allow("app", namespace)
        for model in (task.model, task.name):
            assert (await ask(fleet, client, model, token)).status == 200
        sent = pod.received[0].headers["Authorization"].removeprefix("Bearer ")
        assert token not in str(pod.received)
        assert claims(sent)["aud"] == [task.pool_uid]
        assert claims(sent)["sub"] == f"system:serviceaccount:{SYSTEM}:{GATEWAY}"


async def test_objects_nested_without_end_keep_nobody_from_being_served(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    """R-37: a tenant can write them; a gateway that can't read its list or its watch any more would know no routes."""
    theirs, namespace = new_namespace("gw-nested"), new_namespace("gw-ok")
    for levels in (1_500, 9_900):
        create_forged(fleet.server, objects.task_model(theirs, f"nested-{levels}"), levels, manager="kubectl")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        token = fleet.token("app", namespace)
        fleet.allow("app", namespace)
        assert (await ask(fleet, client, task.model, token)).status == 200


async def test_token_for_the_api_server_is_refused_and_goes_nowhere(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-aud")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        fleet.allow("app", namespace)
        for audiences in ((), ("taskfleet-gateway-internal",), (task.pool_uid,)):
            answer = await ask(fleet, client, task.model, fleet.token("app", namespace, audiences=audiences))
            assert (answer.status, answer.code) == (401, "invalid_api_key")
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        for token in (None, "nonsense", "a.b.c"):
            assert (await ask(fleet, client, task.model, token)).status == 401
        assert not pod.received


async def test_models_that_the_caller_may_not_invoke_do_not_exist_for_it(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    ours, theirs = new_namespace("gw-ours"), new_namespace("gw-theirs")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        total, vendor = [await served(fleet, client, ours, pod, name) for name in ("total", "vendor")]
        secret = await served(fleet, client, theirs, pod, "secret")
        everything, single = fleet.token("all", ours), fleet.token("one", ours)
        fleet.allow("all", ours)
        fleet.allow("one", ours, names=("vendor",))
        assert await listed(fleet, client, everything) == [total.model, vendor.model]
        assert await listed(fleet, client, single) == [vendor.model]
        for token, model, status in (
            (single, vendor.model, 200),
            (single, total.model, 404),
            (everything, secret.model, 404),
            (everything, f"{theirs}/nothing", 404),
        ):
            answer = await ask(fleet, client, model, token)
            assert (model, answer.status) == (model, status)
            assert status == 200 or answer.code == "model_not_found"


async def test_revision_that_was_never_promoted_needs_preview(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-preview")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        pod.models.add(task.add_revision("total-2", OTHER_DIGEST, phase="Pending"))
        user, tester = fleet.token("user", namespace), fleet.token("tester", namespace)
        fleet.allow("user", namespace)
        fleet.allow("tester", namespace, subresource="preview")
        # The gateway's watch and the API server's own one of rights hear of both in their time.
        await _answers(fleet, client, f"{task.model}@2", tester, 200, seconds=60)
        answer = await ask(fleet, client, f"{task.model}@2", tester)
        assert (answer.status, answer.headers["x-taskfleet-revision"]) == (200, "total-2")
        assert (await ask(fleet, client, f"{task.model}@2", user)).status == 404
        assert (await ask(fleet, client, f"{task.model}@1", user)).status == 200


@pytest.mark.slow
async def test_withdrawn_right_ends_within_the_caches_time(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-grant")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        token = fleet.token("app", namespace)
        assert (await ask(fleet, client, task.model, token)).status == 404
        fleet.allow("app", namespace)
        # A refusal is kept for 5 s only.
        await _answers(fleet, client, task.model, token, 200, seconds=20)
        fleet.server.api.delete(ROLE_BINDING, "app-invoke", namespace)
        await _answers(fleet, client, task.model, token, 404, seconds=75)


async def test_routes_in_force_are_told_to_the_operator_alone(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-routes")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        assert await report(fleet, client, task, _operator(fleet)) == [
            {"revision": "total-1", "uid": task.revisions["total-1"], "pool": task.pool, "weightPercent": 100}
        ]
        query = {"namespace": namespace, "name": "total"}
        others = {
            fleet.token("app", namespace, audiences=("taskfleet-gateway-internal",)): 404,
            fleet.token(OPERATOR, SYSTEM, audiences=("taskfleet-gateway",)): 401,
            fleet.token(OPERATOR, namespace, audiences=("taskfleet-gateway-internal",)): 404,
        }
        for token, status in others.items():
            headers = {"Authorization": f"Bearer {token}"}
            async with client.get(f"{fleet.internal}/internal/v1/routes", params=query, headers=headers) as response:
                assert response.status == status


async def test_deleted_task_is_404_at_once_and_its_figures_go(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-gone")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task, other = [await served(fleet, client, namespace, pod, name) for name in ("total", "vendor")]
        token = fleet.token("app", namespace)
        fleet.allow("app", namespace)
        assert (await ask(fleet, client, task.model, token)).status == 200
        assert f'namespace="{namespace}",revision="total-1"' in await _metrics(fleet, client)
        task.remove()
        await _answers(fleet, client, task.model, token, 404, seconds=5)
        assert (await ask(fleet, client, other.model, token)).status == 200
        figures = await _metrics(fleet, client)
        assert f'namespace="{namespace}",revision="total-1"' not in figures
        assert f'namespace="{namespace}",revision="vendor-1"' in figures


async def test_request_waits_for_a_pool_that_is_made_again(
    fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str]
) -> None:
    namespace = new_namespace("gw-repool")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        token = fleet.token("app", namespace)
        fleet.allow("app", namespace)
        task.remove_pool()
        asked = await _waiting(fleet, client, task.model, token)
        task.create()
        task.place(pod)
        assert (await asked).status == 200
        assert claims(pod.received[-1].headers["Authorization"])["aud"] == [task.pool_uid]


async def test_outage_of_the_api_server_stops_no_known_client(
    api_server: ApiServer, client: aiohttp.ClientSession, new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    prepare(api_server)
    namespace = new_namespace("gw-outage")
    cable = Cable(api_server)
    async with pods(api_server, "a", models=set()) as (pod,):
        with cable.laid() as address, running(api_server, tmp_path, address=address) as fleet:
            task = await served(fleet, client, namespace, pod)
            known, unknown = fleet.token("app", namespace), fleet.token("late", namespace)
            fleet.allow("app", namespace)
            fleet.allow("late", namespace)
            assert (await ask(fleet, client, task.model, known)).status == 200
            cable.cut()
            for _ in range(50):
                assert (await ask(fleet, client, task.model, known)).status == 200
            refused = await ask(fleet, client, task.model, unknown)
            assert (refused.status, refused.code) == (503, "auth_unavailable")
            assert "Retry-After" in refused.headers
            cable.mend()
            await _answers(fleet, client, task.model, unknown, 200, seconds=30)
            pod.models.add(task.add_revision("total-2", OTHER_DIGEST, phase="Pending"))
            task.publish("total-2")
            await reported(fleet, client, task, "total-2")


async def test_restarted_gateway_serves_a_task_that_has_lost_its_status(
    api_server: ApiServer, client: aiohttp.ClientSession, new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    prepare(api_server)
    namespace = new_namespace("gw-cold")
    async with pods(api_server, "a", models=set()) as (pod,):
        with running(api_server, tmp_path) as fleet:
            task = await served(fleet, client, namespace, pod)
            token = fleet.token("app", namespace)
            fleet.allow("app", namespace)
            task.publish()
            assert (await ask(fleet, client, task.model, token)).status == 200
            assert [target["revision"] for target in await report(fleet, client, task, _operator(fleet))] == ["total-1"]
        with running(api_server, tmp_path) as fleet:
            answer = await ask(fleet, client, task.model, token)
            assert (answer.status, answer.headers["x-taskfleet-revision"]) == (200, "total-1")
            # It is a guess, and the operator isn't told that traffic is in force.
            assert await report(fleet, client, task, _operator(fleet)) is None


async def judgeable(fleet: Fleet, client: aiohttp.ClientSession, model: str, token: str) -> str:
    """The id of an answer, as soon as ids are signed: the right to the key may have come after the gateway."""
    async with asyncio.timeout(30):
        while True:
            answer_id = str(json.loads((await ask(fleet, client, model, token)).text)["id"])
            if read(answer_id) is not None:
                return answer_id
            await asyncio.sleep(0.2)


async def test_answer_of_one_replica_is_judged_at_another_by_its_reader_alone(
    api_server: ApiServer, fleet: Fleet, client: aiohttp.ClientSession, new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    namespace = new_namespace("gw-vote")
    async with pods(fleet.server, "a", models=set()) as (pod,):
        task = await served(fleet, client, namespace, pod)
        reader, other = fleet.token("reader", namespace), fleet.token("other", namespace)
        for name in ("reader", "other"):
            fleet.allow(name, namespace)
        answer_id = await judgeable(fleet, client, task.model, reader)
        # It starts after the key was made, as a replica after a roll-out does.
        with running(api_server, tmp_path) as replica:
            await reported(replica, client, task, "total-1")
            for token, status in ((other, 404), (reader, 200)):
                headers = {"Authorization": f"Bearer {token}"}
                async with client.post(
                    f"{replica.public}/v1/feedback", json={"id": answer_id, "verdict": "bad"}, headers=headers
                ) as response:
                    assert response.status == status, await response.text()
            figures = await _metrics(replica, client)
        assert f'votes_total{{namespace="{namespace}",revision="total-1",task_model="total",verdict="bad"}} 1.0' in figures


def _operator(fleet: Fleet) -> str:
    return fleet.token(OPERATOR, SYSTEM, audiences=("taskfleet-gateway-internal",))


async def _answers(fleet: Fleet, client: aiohttp.ClientSession, model: str, token: str, status: int, *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if (await ask(fleet, client, model, token)).status == status:
                return
            await asyncio.sleep(0.2)


async def _waiting(fleet: Fleet, client: aiohttp.ClientSession, model: str, token: str) -> "asyncio.Task[Asked]":
    """A request that the gateway holds, because it has seen that no pod is left."""
    async with asyncio.timeout(20):
        while True:
            asked = asyncio.create_task(ask(fleet, client, model, token))
            while not asked.done():
                if "taskfleet_gateway_held_requests 1.0" in await _metrics(fleet, client):
                    return asked


async def _metrics(fleet: Fleet, client: aiohttp.ClientSession) -> str:
    async with client.get(f"{fleet.internal}/metrics") as response:
        return await response.text()
