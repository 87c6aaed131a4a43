"""A digest is asked for once at a time; what came of it is kept until it is recorded or no longer of interest."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from taskfleet.api.agent import AgentProblem, ArtifactKind, ResolveReply, ResolveRequest
from taskfleet.api.modelpool import ModelPool
from taskfleet.controller.agents import AgentRefusedError, AgentUnreachableError
from taskfleet.controller.keys import PoolKey
from taskfleet.controller.resolutions import Resolutions
from taskfleet.planning.plans import Resolution
from tests.unit.controller.objects import pool
from tests.unit.controller.waiting import until

POOL = ModelPool.model_validate(pool("tiny", 1, ("a", "a-1")))
UID = POOL.metadata.uid
REPLY = ResolveReply(digest="sha256:" + "b" * 64, version="c1")


def question(revision: str = "a-1") -> Resolution:
    request = ResolveRequest(kind=ArtifactKind.ADAPTER, source="oci://registry.example/a", version="v1")
    return Resolution(pod="p", revision=revision, request=request)


class _Agents:
    """Answers when it is let to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.answer: ResolveReply | Exception = REPLY

    async def resolve(self, _pool: PoolKey, _pod: str, _request: ResolveRequest) -> ResolveReply:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class _World:
    def __init__(self) -> None:
        self.agents = _Agents()
        self.found: list[str] = []
        self.failed: list[PoolKey] = []
        agents: Any = self.agents
        self.resolutions = Resolutions(
            agents,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            on_found=lambda _, revision: self.found.append(revision),
            on_failed=self.failed.append,
        )

    async def ask(self, *, times: int = 1) -> None:
        for _ in range(times):
            before = len(self.found) + len(self.failed)
            self.resolutions.start(POOL, question())
            self.agents.may_answer.set()
            await until(lambda before=before: len(self.found) + len(self.failed) > before)  # type: ignore[misc]
            await asyncio.sleep(0)


@pytest.fixture
def world() -> _World:
    return _World()


async def test_agent_that_is_still_fetching_is_asked_again_soon_however_long_it_takes(world: _World) -> None:
    fetching = AgentProblem(reason="Resolving", message="is being fetched, for its digest", permanent=False)
    world.agents.answer = AgentRefusedError(fetching)
    await world.ask(times=5)
    (failure,) = world.resolutions.failures(UID)
    assert (failure.attempts, failure.reason) == (1, "Resolving")
    world.agents.answer = AgentRefusedError(fetching.model_copy(update={"reason": "SourceUnavailable"}))
    await world.ask(times=2)
    assert world.resolutions.failures(UID)[0].attempts == 3


async def test_one_question_at_a_time_for_each_revision(world: _World) -> None:
    for _ in range(5):
        world.resolutions.start(POOL, question("a-1"))
    world.resolutions.start(POOL, question(""))
    await asyncio.sleep(0)
    assert world.agents.asked == 2
    world.agents.may_answer.set()
    await until(lambda: len(world.found) == 2)
    assert world.resolutions.found(UID, "a-1") == world.resolutions.found(UID) == REPLY
    world.resolutions.start(POOL, question("a-1"))
    await asyncio.sleep(0)
    assert world.agents.asked == 2, "what was found waits to be recorded"


async def test_failures_are_counted_with_the_agents_words_and_forgotten_by_a_success(world: _World) -> None:
    world.agents.answer = AgentRefusedError(AgentProblem(reason="ArtifactNotFound", message="has no v1", permanent=False))
    await world.ask(times=3)
    (failure,) = world.resolutions.failures(UID)
    assert (failure.revision, failure.reason, failure.message, failure.attempts) == ("a-1", "ArtifactNotFound", "has no v1", 3)
    assert world.failed == [PoolKey("finance", "tiny")] * 3
    world.agents.answer = REPLY
    await world.ask()
    assert world.resolutions.failures(UID) == ()


async def test_an_agent_out_of_reach_is_a_source_that_cant_be_read_now(world: _World) -> None:
    world.agents.answer = AgentUnreachableError("pod p: connection refused")
    await world.ask()
    (failure,) = world.resolutions.failures(UID)
    assert (failure.reason, failure.permanent) == ("SourceUnavailable", False)


async def test_what_is_no_member_any_more_is_forgotten_but_the_base_is_kept(world: _World) -> None:
    world.agents.may_answer.set()
    for revision in ("a-1", "a-2", ""):
        world.resolutions.start(POOL, question(revision))
    await until(lambda: len(world.found) == 3)
    world.resolutions.keep_only(UID, frozenset({"a-2"}))
    assert [world.resolutions.found(UID, revision) for revision in ("a-1", "a-2", "")] == [None, REPLY, REPLY]
    world.resolutions.forget(UID)
    assert world.resolutions.found(UID, "a-2") is None


async def test_questions_of_a_pool_that_is_gone_end(world: _World) -> None:
    world.resolutions.start(POOL, question())
    await asyncio.sleep(0)
    world.resolutions.forget(UID)
    world.agents.may_answer.set()
    await asyncio.sleep(0.01)
    assert world.found == []
    await world.resolutions.close()
