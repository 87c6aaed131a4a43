"""A canary by live traffic: a real gateway counts what became of requests, and the operator reads it and decides."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from taskfleet.names import CONVERSATION_HEADER, engine_name
from tests.apiserver.conftest import ApiServer
from tests.apiserver.gateway_fleet import OPERATOR, SYSTEM, Fleet, ServedTask, gateway_slice, pods, prepare, reachable_address, running
from tests.apiserver.history import History, rollout, traffic
from tests.apiserver.nodes import nodes
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import POOL, REVISION, SERVING_CLASS, TASK_MODEL, Object, condition
from tests.unit.gateway.pods import Pod, completion, refusing

CLASS = "measured"
AGENTS = [f"127.77.211.{number}" for number in range(1, 4)]


@dataclass(frozen=True, slots=True)
class Live:
    """An operator and a gateway that it reads, and a namespace whose tasks share a pool."""

    fleet: Fleet
    operator: OperatorProcess
    namespace: str

    def apply(self, name: str, version: str, analysis: Object) -> None:
        steps = [{"weightPercent": 50, "holdSeconds": 0}]
        task = changed(
            task_model(self.namespace, name),
            put("spec.servingClassName", CLASS),
            put("spec.adapter.version", version),
            put("spec.rollout", {"strategy": "Canary", "steps": steps, "analysis": analysis}),
        )
        self.fleet.server.api.apply(task)

    def task(self, name: str) -> Object:
        return self.fleet.server.api.get(TASK_MODEL, name, self.namespace)

    async def comes(self, name: str, phase: str, *, hold: str | None = None) -> None:
        """Waits for a phase of the spec's rollout, and for the reason that holds it there."""

        def there() -> bool:
            task = self.task(name)
            found = rollout(task)
            assert (found.get("phase"), found.get("hold")) == (phase, hold), found
            return bool(task["status"]["observedGeneration"] == task["metadata"]["generation"])

        await asyncio.to_thread(self.operator.brings, there, what=f"{name} is {phase} {hold or ''}")

    def looks(self) -> float:
        """How often the operator has looked at a TaskModel."""
        return self.operator.metric("taskfleet_reconcile_seconds_count", kind="taskmodel")

    def engine(self, revision: str) -> str:
        """The revision's name inside engines."""
        found = self.fleet.server.api.get(REVISION, revision, self.namespace)
        return engine_name(self.namespace, found["spec"]["taskModelName"], found["status"]["digest"])


@dataclass
class Users:
    """Conversations with one task, each of one question. `fails` says of the n-th question to the candidate, from 1, whether its engine breaks."""

    live: Live
    name: str
    client: aiohttp.ClientSession
    token: str
    pod: Pod
    stable: str
    candidate: str
    fails: Callable[[int], bool] = lambda _: False
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    asked: int = 0  # questions to the candidate
    of_stable: str = ""  # a conversation that is the stable revision's

    async def ask(self, conversation: str = "") -> None:
        """One question; users get an answer, whatever the candidate does."""
        talk = conversation or f"talk {next(self.numbers)}"
        headers = {"Authorization": f"Bearer {self.token}", CONVERSATION_HEADER: talk}
        body = {"model": f"{self.live.namespace}/{self.name}", "messages": [{"role": "user", "content": "x"}]}
        before = self.asked
        async with self.client.post(f"{self.live.fleet.public}/v1/chat/completions", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
        if self.asked == before:
            self.of_stable = talk

    async def ask_candidate(self, times: int) -> None:
        """Asks until the candidate was asked so often."""
        async with asyncio.timeout(60):
            while self.asked < times:
                await self.ask()

    async def answer(self, pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """What the engine does."""
        if body["model"] == self.candidate:
            self.asked += 1
            if self.fails(self.asked):
                return await refusing(500, "engine-broken")(pod, request, body)
        return await completion(pod, request, body)


@pytest.fixture(scope="module")
def live(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    api, namespace, host = api_server.api, new_namespace("measured"), reachable_address(api_server)
    prepare(api_server)
    api.apply(serving_class(CLASS))
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OPERATOR, "namespace": SYSTEM}})
    with (
        nodes(api, AGENTS) as found,
        running(api_server, tmp_path_factory.mktemp("gateway"), host="0.0.0.0") as fleet,
    ):
        found.namespaces.add(namespace)
        fleet.allow("app", namespace)
        port = urlsplit(fleet.internal).port or 0
        api.apply(gateway_slice(SYSTEM, host, port))
        folder = tmp_path_factory.mktemp("operator")
        with running_operator(api_server, folder, namespace=SYSTEM, gateway_internal_port=str(port)) as operator:
            operator.brings(lambda: operator.metric("taskfleet_measured_gateways") == 1, what="the gateway is heard")
            yield Live(fleet, operator, namespace)
            for task in api.list(TASK_MODEL, namespace):
                api.delete(TASK_MODEL, task["metadata"]["name"], namespace)
    api.delete(SERVING_CLASS, CLASS)


@pytest.fixture
async def pod(live: Live) -> AsyncIterator[Pod]:
    """What stands for the engine of the pool's pod."""
    async with pods(live.fleet.server, "engine", models=set()) as (found,):
        yield found


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def candidate_beside(live: Live, client: aiohttp.ClientSession, pod: Pod, name: str, **analysis: object) -> Users:
    """v1 serves, and half of the conversations are v2's."""
    live.apply(name, "v1", analysis)
    await live.comes(name, "Done")
    (stable,) = traffic(live.task(name))
    live.apply(name, "v2", analysis)
    await live.comes(name, "Stepping")
    # What is asked before the operator's next look is no evidence of this step.
    looks = live.looks()
    await asyncio.to_thread(live.operator.brings, lambda: live.looks() > looks, what="the step is looked at")
    candidate = rollout(live.task(name))["revision"]
    users = Users(live, name, client, live.fleet.token("app", live.namespace), pod, live.engine(stable), live.engine(candidate))
    pod.answer = users.answer
    pod.models |= {users.stable, users.candidate}
    (pool,) = live.fleet.server.api.list(POOL, live.namespace)
    ServedTask(live.fleet.server, live.namespace, name, pool=pool["metadata"]["name"], pool_uid=pool["metadata"]["uid"]).place(pod)
    return users


async def test_errors_of_a_candidate_bring_the_stable_revision_back(live: Live, client: aiohttp.ClientSession, pod: Pod) -> None:
    """V-05: no user has seen any."""
    users = await candidate_beside(live, client, pod, "failing", minRequests=20)
    users.fails = lambda _: True
    task = live.task("failing")
    (stable,) = (name for name in traffic(task) if name != rollout(task)["revision"])
    rejected = asyncio.create_task(live.comes("failing", "Rejected"))
    while not rejected.done():
        await users.ask()
    await rejected
    task = live.task("failing")
    assert traffic(task) == {stable: 100}
    healthy = condition(task, "RolloutHealthy") or {}
    assert (healthy["status"], healthy["reason"]) == ("False", "AnalysisBreached")
    assert "of requests failed" in healthy["message"]
    # The gateway hears of it by its watch.
    before = -1
    async with asyncio.timeout(60):
        while users.asked != before:
            before = users.asked
            for _ in range(12):
                await users.ask()


async def test_two_errors_are_no_verdict(live: Live, client: aiohttp.ClientSession, pod: Pod) -> None:
    """V-22: more than is allowed, and no more than chance."""
    history = History.begin(live.fleet.server.api, live.namespace)
    users = await candidate_beside(live, client, pod, "unlucky", minRequests=20, maxHoldSeconds=1)
    users.fails = lambda number: number in {15, 30}
    await users.ask_candidate(40)
    held = asyncio.create_task(live.comes("unlucky", "Stepping", hold="Inconclusive"))
    while not held.done():
        await users.ask(users.of_stable)
    await held
    await users.ask_candidate(140)
    await live.comes("unlucky", "Done")
    stable, candidate = (revision_of(live, "unlucky", version) for version in ("v1", "v2"))
    assert [shares for shares in history.shares("unlucky") if shares] == [{stable: 100}, {stable: 50, candidate: 50}, {candidate: 100}]


async def test_step_without_traffic_holds(live: Live, client: aiohttp.ClientSession, pod: Pod) -> None:
    """V-04: nobody is promoted unseen."""
    history = History.begin(live.fleet.server.api, live.namespace)
    users = await candidate_beside(live, client, pod, "quiet", minRequests=20, maxHoldSeconds=1)
    await live.comes("quiet", "Stepping", hold="NoTraffic")
    stable, candidate = (revision_of(live, "quiet", version) for version in ("v1", "v2"))
    assert [shares for shares in history.shares("quiet") if shares] == [{stable: 100}, {stable: 50, candidate: 50}]
    await users.ask_candidate(40)
    await live.comes("quiet", "Done")
    assert traffic(live.task("quiet")) == {candidate: 100}


def revision_of(live: Live, name: str, version: str) -> str:
    found = [one for one in live.fleet.server.api.list(REVISION, live.namespace) if one["spec"]["taskModelName"] == name]
    (revision,) = (one["metadata"]["name"] for one in found if one["spec"]["adapter"]["version"] == version)
    return str(revision)
