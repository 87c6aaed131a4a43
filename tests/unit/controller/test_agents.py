"""The operator listens to agents, hands them documents and asks them for digests, over HTTP as an agent speaks it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskfleet.api.agent import (
    DESIRED_PATH,
    DRAIN_PATH,
    RESOLVE_PATH,
    STATE_PATH,
    UNDRAIN_PATH,
    ArtifactKind,
    DesiredState,
    DrainReply,
    DrainRequest,
    Limits,
    PoolIdentity,
    ResolveReply,
    ResolveRequest,
)
from taskfleet.api.taskmodel import Base
from taskfleet.controller import agents as module
from taskfleet.controller.agents import AgentConnections, AgentOutdatedError, AgentRefusedError, AgentUnreachableError
from taskfleet.controller.keys import PoolKey
from taskfleet.planning.snapshot import PodView
from tests.unit.controller.waiting import until

POOL = PoolKey("finance", "tiny")
DIGEST = "sha256:" + "a" * 64


class _Tokens:
    """Tokens that name their audience and how often they were renewed."""

    def __init__(self) -> None:
        self.renewed = 0

    async def get(self, audience: str) -> str:
        return f"{audience}#{self.renewed}"

    async def another(self, audience: str, refused: Collection[str]) -> str | None:
        if len(refused) > 1:
            return None
        self.renewed += 1
        return f"{audience}#{self.renewed}"

    def forget(self, audience: str) -> None:
        """The pool is gone."""


class _Agent:
    """Speaks the agent's administration."""

    def __init__(self) -> None:
        self.version = 1
        self.generation = 0
        self.accepts = "uid-1#0"
        self.asked: list[str] = []
        self.documents: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.problem: web.Response | None = None
        self.in_flight = 0
        self.drained: dict[str, Any] | None = None

    def becomes(self, **values: Any) -> None:
        """Something changes."""
        for name, value in values.items():
            setattr(self, name, value)
        self.version += 1
        self.changed.set()

    def _allowed(self, request: web.Request) -> None:
        self.asked.append(f"{request.method} {request.path_qs}")
        if request.headers["Authorization"] != f"Bearer {self.accepts}":
            raise web.HTTPUnauthorized

    def _state(self) -> web.Response:
        state = {"pod": "p", "poolUid": "uid-1", "generation": self.generation, "version": self.version, "draining": False}
        report = {"staged": True, "reason": "Proven"}
        return web.json_response({**state, "base": report, "engine": {"healthy": True}, "inFlight": self.in_flight})

    async def state(self, request: web.Request) -> web.Response:
        self._allowed(request)
        if int(request.query.get("after", "-1")) >= self.version:
            self.changed.clear()
            await self.changed.wait()
        return self._state()

    async def put(self, request: web.Request) -> web.Response:
        self._allowed(request)
        if self.problem is not None:
            return self.problem
        document = await request.json()
        self.documents.append(document)
        self.generation = document["generation"]
        self.version += 1
        return self._state()

    async def resolve(self, request: web.Request) -> web.Response:
        self._allowed(request)
        return self.problem or web.json_response({"digest": DIGEST, "version": "c1"})

    async def drain(self, request: web.Request) -> web.Response:
        self._allowed(request)
        if self.problem is not None:
            return self.problem
        accepted = not self.in_flight
        if accepted:
            self.drained = await request.json()
        answer = {"accepted": accepted, "inFlight": self.in_flight, "idleSeconds": 7.5 if accepted else 0}
        return web.json_response(answer, status=200 if accepted else 409)

    async def undrain(self, request: web.Request) -> web.Response:
        self._allowed(request)
        self.drained = None
        return self._state()


class _World:
    def __init__(self, agent: _Agent, connections: AgentConnections, changes: list[PoolKey]) -> None:
        self.agent = agent
        self.connections = connections
        self.changes = changes

    def listen(self, *pods: PodView, uid: str = "uid-1") -> None:
        self.connections.sync(POOL, uid, pods or (pod("p"),))

    @property
    def version(self) -> int | None:
        views = self.connections.views(POOL)
        return views[0].state.version if views and views[0].state else None


def pod(name: str, *, ip: str = "127.0.0.1", phase: str = "Running") -> PodView:
    return PodView(name=name, ip=ip, phase=phase)


def document(generation: int) -> DesiredState:
    return DesiredState(
        pool=PoolIdentity(namespace="finance", name="tiny", uid="uid-1"),
        generation=generation,
        base=Base(source="oci://registry.example/tiny", revision="v1"),
        served_base_name="tiny",
        limits=Limits(max_rank=8, max_adapter_bytes=1, max_base_bytes=1),
    )


REQUEST = ResolveRequest(kind=ArtifactKind.ADAPTER, source="oci://registry.example/a", version="v1")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_World]:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    agent = _Agent()
    application = web.Application()
    application.add_routes([web.get(STATE_PATH, agent.state), web.put(DESIRED_PATH, agent.put), web.post(RESOLVE_PATH, agent.resolve)])
    application.add_routes([web.post(DRAIN_PATH, agent.drain), web.post(UNDRAIN_PATH, agent.undrain)])
    changes: list[PoolKey] = []
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        connections = AgentConnections(session, _Tokens(), changes.append, port=server.port or 0)
        yield _World(agent, connections, changes)
        await connections.close()


async def test_a_state_is_heard_at_once_and_each_change_after_it(world: _World) -> None:
    world.listen()
    await until(lambda: world.version == 1)
    world.agent.becomes(generation=3)
    await until(lambda: world.version == 2)
    assert world.changes == [POOL, POOL]
    assert world.agent.asked[0] == f"GET {STATE_PATH}"
    assert world.agent.asked[1].startswith(f"GET {STATE_PATH}?after=1&wait=")


async def test_an_agent_that_says_nothing_new_is_no_news(world: _World) -> None:
    world.listen()
    await until(lambda: len(world.agent.asked) == 2)
    world.agent.changed.set()  # its wait is over
    await until(lambda: len(world.agent.asked) >= 3)
    assert world.changes == [POOL]


async def test_an_agent_that_comes_back_is_asked_from_the_start(world: _World) -> None:
    """A restarted agent counts its versions anew; asked for what comes after the old count, it would be silent for long."""
    world.listen()
    world.agent.becomes(version=40)
    await until(lambda: world.version == 41)
    world.agent.accepts = "somebody else's"
    world.agent.becomes()
    await until(lambda: any(view.error for view in world.connections.views(POOL)))
    world.agent.version = 2
    world.agent.accepts = f"uid-1#{world.connections.tokens.renewed}"  # type: ignore[attr-defined]
    world.agent.asked.clear()

    def renewed() -> bool:
        # Every refusal makes the operator ask for another token.
        world.agent.accepts = f"uid-1#{world.connections.tokens.renewed}"  # type: ignore[attr-defined]
        return world.version == 2

    await until(renewed)
    assert not world.connections.views(POOL)[0].error
    assert f"GET {STATE_PATH}" in world.agent.asked


async def test_an_agent_that_cant_be_asked_is_told_once_and_what_it_said_is_kept(world: _World) -> None:
    world.listen()
    await until(lambda: world.version == 1)
    world.changes.clear()
    world.agent.accepts = "nobody's"
    world.agent.becomes()
    await until(lambda: len(world.agent.asked) > 6)
    (view,) = world.connections.views(POOL)
    assert "401" in view.error
    assert view.state is not None
    assert len(world.changes) <= 2, "one for the change, one for the silence"


async def test_an_agent_with_other_keys_is_asked_with_another_token(world: _World) -> None:
    """The issuer's key was rotated: what the agent refuses is not what it is told to do, and it is told at once."""
    world.agent.accepts = "uid-1#1"
    world.listen()
    await until(lambda: world.version == 1)
    assert not world.connections.views(POOL)[0].error
    world.agent.accepts = "uid-1#2"
    await world.connections.put(POOL, "p", document(5))
    assert [one["generation"] for one in world.agent.documents] == [5]


async def test_a_document_is_handed_over_and_its_answer_is_the_newest_state(world: _World) -> None:
    world.listen()
    await until(lambda: world.version == 1)
    await world.connections.put(POOL, "p", document(7))
    (view,) = world.connections.views(POOL)
    assert view.state is not None
    assert view.state.generation == 7
    assert world.agent.documents[0]["pool"]["uid"] == "uid-1"


async def test_a_refused_document_is_no_failure_of_the_pool(world: _World) -> None:
    world.listen()
    await until(lambda: world.version == 1)
    world.agent.problem = web.json_response(
        {"reason": "InvalidSpec", "message": "a newer document is in force", "permanent": False}, status=409
    )
    await world.connections.put(POOL, "p", document(1))
    assert world.version == 1


async def test_a_digest_is_asked_for(world: _World) -> None:
    world.listen()
    assert await world.connections.resolve(POOL, "p", REQUEST) == ResolveReply(digest=DIGEST, version="c1")


async def test_a_problem_comes_with_its_reason(world: _World) -> None:
    world.listen()
    world.agent.problem = web.json_response({"reason": "ArtifactNotFound", "message": "has no v1", "permanent": False}, status=404)
    with pytest.raises(AgentRefusedError) as refused:
        await world.connections.resolve(POOL, "p", REQUEST)
    assert refused.value.problem.reason == "ArtifactNotFound"


@pytest.mark.parametrize("answer", [{"text": "<html>", "status": 502}, {"text": "{}", "status": 200}])
async def test_an_answer_that_is_no_agents_is_an_agent_out_of_reach(world: _World, answer: dict[str, Any]) -> None:
    world.listen()
    world.agent.problem = web.Response(**answer)
    with pytest.raises(AgentUnreachableError):
        await world.connections.resolve(POOL, "p", REQUEST)


async def test_counts_in_flight_are_those_of_the_moment_that_they_are_asked_for(world: _World) -> None:
    """They are no news to a long poll, so what it heard last may be old."""
    world.listen()
    await until(lambda: world.version == 1)
    world.agent.in_flight = 3
    assert (await world.connections.look(POOL, "p")).in_flight == 3
    (view,) = world.connections.views(POOL)
    assert view.state is not None
    assert view.state.in_flight == 3
    assert world.changes == [POOL], "nothing to decide anew"


async def test_pods_that_were_busy_when_heard_last_are_looked_at_again(world: _World) -> None:
    world.agent.in_flight = 3
    world.listen()
    await until(lambda: len(world.agent.asked) == 2)
    world.agent.in_flight = 0
    world.agent.asked.clear()
    await world.connections.refresh(POOL)
    assert [view.state.in_flight for view in world.connections.views(POOL) if view.state] == [0]
    await world.connections.refresh(POOL)
    assert world.agent.asked == [f"GET {STATE_PATH}"], "one that was idle is left alone"


async def test_busy_pod_that_cant_be_asked_stays_as_it_was_heard(world: _World) -> None:
    world.agent.in_flight = 3
    world.listen()
    await until(lambda: len(world.agent.asked) == 2)
    world.agent.accepts = "nobody's"
    await world.connections.refresh(POOL)
    assert [view.state.in_flight for view in world.connections.views(POOL) if view.state] == [3]


async def test_an_idle_agent_drains_and_is_opened_again(world: _World) -> None:
    world.listen()
    accepted = await world.connections.drain(POOL, "p", DrainRequest(idle_seconds=5))
    assert accepted == DrainReply(accepted=True, in_flight=0, idle_seconds=7.5)
    assert world.agent.drained == {"idleSeconds": 5, "holdSeconds": 30}
    await world.connections.undrain(POOL, "p")
    assert world.agent.drained is None


async def test_an_agent_in_use_answers_so_and_that_is_no_failure(world: _World) -> None:
    world.listen()
    world.agent.in_flight = 2
    refused = await world.connections.drain(POOL, "p", DrainRequest(idle_seconds=5))
    assert refused == DrainReply(accepted=False, in_flight=2, idle_seconds=0)


async def test_an_agent_that_does_not_know_drains_is_of_an_earlier_version(world: _World) -> None:
    world.listen()
    world.agent.problem = web.Response(status=404, text="404: Not Found")
    with pytest.raises(AgentOutdatedError):
        await world.connections.drain(POOL, "p", DrainRequest(idle_seconds=5))


@pytest.mark.parametrize("answer", [{"text": "<html>", "status": 409}, {"text": "{}", "status": 200}, {"text": "", "status": 500}])
async def test_an_answer_that_does_not_say_whether_it_drains_is_none(world: _World, answer: dict[str, Any]) -> None:
    world.listen()
    world.agent.problem = web.Response(**answer)
    with pytest.raises(AgentUnreachableError):
        await world.connections.drain(POOL, "p", DrainRequest(idle_seconds=5))


async def test_an_answer_without_end_is_given_up(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents run in their tenants' namespaces: what one sends must not fill the memory that all tenants' operator has."""
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    world.listen()
    world.agent.problem = web.json_response({"digest": DIGEST, "and": "x" * 1000})
    with pytest.raises(AgentUnreachableError, match="without end"):
        await world.connections.resolve(POOL, "p", REQUEST)


async def test_an_agent_that_never_makes_its_caller_wait_is_not_asked_without_a_pause(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_PAUSE_SECONDS", 3600.0)
    world.listen()
    await until(lambda: world.version == 1)
    world.agent.becomes()
    # What is asked of it otherwise goes on, and by then the next question would have come.
    for _ in range(20):
        await world.connections.resolve(POOL, "p", REQUEST)
    assert [asked for asked in world.agent.asked if asked.startswith("GET")] == [f"GET {STATE_PATH}"]


async def test_pods_that_go_are_no_longer_listened_to(world: _World) -> None:
    world.listen(pod("p"), pod("q"))
    await until(lambda: all(view.state for view in world.connections.views(POOL)))
    world.listen(pod("q"), pod("r", phase="Failed"))
    assert [view.pod for view in world.connections.views(POOL)] == ["q"]
    with pytest.raises(AgentUnreachableError):
        await world.connections.put(POOL, "p", document(1))


async def test_a_pod_with_a_new_address_and_a_pool_with_a_new_uid_are_new_connections(world: _World) -> None:
    world.listen()
    await until(lambda: world.version == 1)
    world.listen(pod("p", ip="127.0.0.2"))
    assert world.version is None
    world.listen(uid="uid-2")
    assert world.version is None
    await until(lambda: world.connections.views(POOL)[0].error != "")
    world.connections.forget(POOL)
    assert world.connections.views(POOL) == ()
