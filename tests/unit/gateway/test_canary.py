"""A candidate beside the stable revision: who gets it, for how long, and what happens when it is taken away."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from taskfleet.api.measurements import UNSUPERVISED_SECONDS
from taskfleet.gateway.supervision import Supervision
from taskfleet.names import CONVERSATION_HEADER
from tests.unit.gateway.builders import OTHER_DIGEST, revision, traffic
from tests.unit.gateway.pods import Answer, Pod, break_off, completion, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import MODEL, World, running, serve

CANDIDATE = MODEL.replace("ab" * 16, "cd" * 16)


@asynccontextmanager
async def canary(*pods: Pod, weight: int = 50, supervised: bool = True, **settings: Any) -> AsyncIterator[World]:
    """finance/vendor with the stable vendor-1 and the candidate vendor-2."""
    async with running(**settings) as world:
        prompt = {"systemPrompt": "new"}
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending", settings=prompt))
        serve(world.table, *pods, to=[traffic("vendor-1", weight=100 - weight), traffic("vendor-2", weight=weight)])
        if supervised:
            world.supervise()
        yield world


async def answered_by(world: World, said: str = "x", *, headers: dict[str, str] | None = None, **fields: Any) -> str:
    async with world.post(messages=[{"role": "user", "content": said}], headers=headers, **fields) as response:
        assert response.status == 200
        await response.read()
        return str(response.headers["x-taskfleet-revision"])


async def test_conversations_are_split_by_weight_and_stay_where_they_are() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as pod, canary(pod) as world:
        first = [await answered_by(world, f"conversation {number}") for number in range(60)]
        assert 15 < first.count("vendor-2") < 45
        assert [await answered_by(world, f"conversation {number}") for number in range(60)] == first


async def test_client_can_say_what_belongs_together() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as pod, canary(pod) as world:
        by_name = {
            name: {await answered_by(world, f"{number}", headers={CONVERSATION_HEADER: name}) for number in range(5)} for name in "abcdefgh"
        }
        by_user = {name: {await answered_by(world, f"{number}", user=name) for number in range(5)} for name in "abcdefgh"}
        for answers in (by_name, by_user):
            assert all(len(revisions) == 1 for revisions in answers.values())
            assert set.union(*answers.values()) == {"vendor-1", "vendor-2"}


async def test_unsupervised_candidate_gets_nothing() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as pod, canary(pod, weight=100, supervised=False) as world:
        assert await answered_by(world) == "vendor-1"
        assert world.figure("supervised") == 0
        world.supervise()
        assert await answered_by(world) == "vendor-2"
        assert world.figure("supervised") == 1
        world.gateway.supervision.routes_heard = lambda: float("-inf")
        world.gateway.supervision.check()
        assert await answered_by(world) == "vendor-1"
        assert {received.body["model"] for received in pod.received[-1:]} == {MODEL}


def test_supervision_ends_a_while_after_the_last_sign_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    now, heard = [1000.0], [1000.0]
    supervision = Supervision(lambda: now[0])
    supervision.check()
    assert not supervision.active
    supervision.routes_heard = lambda: heard[0]
    with caplog.at_level("INFO", logger="taskfleet.gateway.supervision"):
        for _ in range(3):
            supervision.told()
            assert supervision.active
        now[0] = heard[0] = 1000.0 + UNSUPERVISED_SECONDS
        supervision.check()
        assert supervision.active
        now[0] = heard[0] = 1001.0 + UNSUPERVISED_SECONDS
        for _ in range(3):
            supervision.check()
            assert not supervision.active
        supervision.told()
        assert supervision.active
        now[0] += 1 + UNSUPERVISED_SECONDS
        supervision.told()
        assert not supervision.active
    assert [record.message for record in caplog.records] == ["candidates are supervised", "candidates get no requests"] * 2


async def test_revoked_candidate_is_answered_by_stable_at_once_while_the_watch_is_frozen() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as one, Pod("b", models={MODEL, CANDIDATE}) as two, canary(one, two) as world:
        talks = [f"conversation {number}" for number in range(40)]
        before = [await answered_by(world, said) for said in talks]
        assert "vendor-2" in before
        # The verdict reaches the agents; the routes stay as they are.
        for pod in (one, two):
            pod.models.discard(CANDIDATE)
            pod.received.clear()
        for said in talks:
            async with world.post(messages=[{"role": "user", "content": said}]) as response:
                assert (response.status, response.headers["x-taskfleet-revision"]) == (200, "vendor-1")
                assert "x-taskfleet-held-seconds" not in response.headers
                # The stable revision is asked its own way, though the candidate's was tried first.
                sent = json.loads((await response.json())["choices"][0]["message"]["content"])["body"]
                assert sent["messages"] == [{"role": "user", "content": said}]
        refused = [received for pod in (one, two) for received in pod.received if received.body["model"] == CANDIDATE]
        # Not once for every conversation that was the candidate's: pods that refuse rest for a moment.
        assert 1 <= len(refused) < before.count("vendor-2")


async def test_revocation_under_load_fails_no_request() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as one, Pod("b", models={MODEL, CANDIDATE}) as two, canary(one, two, weight=90) as world:
        over = asyncio.Event()
        answers: list[str] = []

        async def client(name: str) -> None:
            while not over.is_set():
                answers.append(await answered_by(world, f"{name} {len(answers)}", stream=name == "streams"))

        clients = [asyncio.create_task(client(name)) for name in ("a", "b", "streams")]
        await until(lambda: answers.count("vendor-2") > 30)
        one.models.discard(CANDIDATE)
        two.models.discard(CANDIDATE)
        since = len(answers) + len(clients)  # what was under way may end as it began
        await until(lambda: len(answers) > since + 60)
        over.set()
        await asyncio.gather(*clients)
        assert set(answers[since:]) == {"vendor-1"}


async def test_candidate_that_one_pod_lacks_is_found_on_another() -> None:
    async with (
        Pod("a", models={MODEL}) as without,
        Pod("b", models={MODEL, CANDIDATE}) as having,
        canary(without, having, weight=100) as world,
    ):
        assert {await answered_by(world, f"{number}") for number in range(20)} == {"vendor-2"}


@pytest.mark.parametrize("failure", [refusing(500, "boom"), refusing(503, "busy"), break_off], ids=["500", "503", "breaks off"])
async def test_users_of_a_failing_candidate_are_answered_by_stable_and_the_failure_counts(failure: Answer) -> None:
    async def by_model(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (failure if body["model"] == CANDIDATE else completion)(pod, request, body)

    async with (
        Pod("a", models={MODEL, CANDIDATE}, answer=by_model) as one,
        Pod("b", models={MODEL, CANDIDATE}, answer=by_model) as two,
        canary(one, two, weight=90) as world,
    ):
        assert [await answered_by(world, f"{number}") for number in range(6)] == ["vendor-1"] * 6
        asked = [received.body["model"] for pod in (one, two) for received in pod.received]
        assert CANDIDATE in asked
        assert asked.count(MODEL) == 6, "the stable revision answers once for each"


async def test_stable_revision_is_never_answered_by_a_candidate() -> None:
    async with Pod("a", models={CANDIDATE}) as pod, canary(pod, weight=1, hold_seconds=0.1) as world:
        codes = set()
        for number in range(5):
            async with world.post(messages=[{"role": "user", "content": f"{number}"}]) as response:
                codes.add(response.status)
        assert codes == {503}


async def test_revoked_revision_that_is_asked_for_by_name_says_so() -> None:
    async def by_model(pod: Pod, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (refusing(421) if body["model"] == CANDIDATE else completion)(pod, request, body)

    async with (
        Pod("a", models={MODEL, CANDIDATE}, answer=by_model) as pod,
        canary(pod, hold_seconds=0.1) as world,
        world.post(model="finance/vendor@vendor-2") as response,
    ):
        assert response.status == 503
