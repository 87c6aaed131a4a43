"""POST /v1/feedback over real connections: from an answer to the figures of the revision that gave it, and everything that is no vote."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from taskfleet.gateway.answer_ids import AnswerIds, KeyRing
from taskfleet.gateway.auth import Caller
from taskfleet.gateway.errors import UnauthenticatedError
from taskfleet.gateway.feedback import MAX_CORRECTION_BYTES
from taskfleet.kube.identity import Identity
from tests.unit.gateway.builders import OTHER_DIGEST, revision, task, traffic
from tests.unit.gateway.pods import Pod
from tests.unit.gateway.world import MODEL, KnownKeys, World, running

PATH = "/v1/feedback"
CANDIDATE = MODEL.replace("ab" * 16, "cd" * 16)


class People:
    """Tokens are user names; `may` lists who may do what with finance/vendor."""

    def __init__(self, *may: tuple[str, str]) -> None:
        self.allowed = set(may)

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        name = headers.get("Authorization", "").removeprefix("Bearer ")
        if not name:
            raise UnauthenticatedError("A token is needed", presented=False)
        identity = Identity(username=name, audiences=("taskfleet-gateway",))
        return Caller(identity=identity, token_hash=name.encode(), expiry=0, namespace="finance")

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:
        return (namespace, name) == ("finance", "vendor") and (caller.username, subresource) in self.allowed


EVERYBODY = (("alice", "invoke"), ("bob", "invoke"), ("tester", "preview"))


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"} if name else {}


async def answered(world: World, name: str = "", **fields: Any) -> str:
    """The id of an answer to somebody."""
    async with world.post(headers=by(name), **fields) as response:
        assert response.status == 200
        text = await response.text()
    whole = text.removeprefix("data: ").partition("\n")[0]
    return str(json.loads(whole)["id"])


async def vote(world: World, answer_id: Any, verdict: Any = "good", *, name: str = "", **fields: Any) -> tuple[int, Any]:
    async with world.post({"id": answer_id, "verdict": verdict, **fields}, path=PATH, headers=by(name)) as response:
        body = await response.json()
        if response.status != 200:
            assert set(body["error"]) == {"message", "type", "param", "code"}
        return response.status, body if response.status == 200 else body["error"]


def counted(world: World, name: str = "vendor-1") -> tuple[float, float]:
    labels = {"namespace": "finance", "task_model": "vendor", "revision": name}
    good, bad = (world.figure("votes_total", **labels, verdict=verdict) for verdict in ("good", "bad"))
    return good, bad


def measured(world: World, name: str) -> tuple[int, int]:
    """What the operator is told."""
    tallies = [tally.live for tally in world.gateway.measurements.tallies() if tally.revision.name == name]
    return sum(live.good for live in tallies), sum(live.bad for live in tallies)


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_is_judged_by_its_id(*, stream: bool) -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        answer_id = await answered(world, stream=stream)
        status, reply = await vote(world, answer_id, "bad", correction="Wonka Ltd", unknown=[1])
        assert status == 200
        assert reply == {
            "object": "feedback",
            "id": answer_id,
            "model": "finance/vendor",
            "revision": "vendor-1",
            "verdict": "bad",
            "correction_stored": False,
        }
        assert counted(world) == (0, 1)


async def test_corrections_are_counted_and_not_kept() -> None:
    labels = {"namespace": "finance", "task_model": "vendor", "revision": "vendor-1"}
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        for correction in ({}, {"correction": None}, {"correction": ""}, {"correction": "Wonka Ltd"}):
            answer_id = await answered(world)
            for _ in range(2):
                status, reply = await vote(world, answer_id, "bad", **correction)
                assert (status, reply["correction_stored"]) == (200, False)
        assert counted(world) == (0, 4)
        assert world.figure("corrections_total", **labels) == 1
        world.gateway.meter.forget_revision(("finance", "vendor"), "vendor-1")
        assert world.figure("corrections_total", **labels) == 0


async def test_vote_counts_for_the_revision_that_answered() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as pod, running(pod) as world:
        world.supervise()
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
        world.table.put_task(task(to=[traffic("vendor-1", weight=50), traffic("vendor-2", weight=50)]))
        sent = {"vendor-1": 0, "vendor-2": 0}
        for number in range(20):
            messages = [{"role": "user", "content": f"line {number}"}]
            async with world.post(messages=messages) as response:
                name = response.headers["x-taskfleet-revision"]
                answer_id = (await response.json())["id"]
            sent[name] += 1
            assert (await vote(world, answer_id, "good" if name == "vendor-1" else "bad"))[0] == 200
        assert counted(world, "vendor-1") == (sent["vendor-1"], 0)
        assert counted(world, "vendor-2") == (0, sent["vendor-2"])
        assert (measured(world, "vendor-1"), measured(world, "vendor-2")) == ((sent["vendor-1"], 0), (0, sent["vendor-2"]))
        assert all(sent.values())


async def test_vote_counts_for_the_revision_that_took_over() -> None:
    """The candidate was picked and has refused: what the user saw is the stable revision's."""
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        world.supervise()
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
        world.table.put_task(task(to=[traffic("vendor-1", weight=1), traffic("vendor-2", weight=99)]))
        assert (await vote(world, await answered(world)))[0] == 200
        assert {received.body["model"] for received in pod.received} == {MODEL, CANDIDATE}
        assert counted(world, "vendor-1") == (1, 0)


async def test_one_vote_for_each_answer() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        answer_id = await answered(world)
        for verdict, status in (("good", 200), ("good", 200), ("bad", 409), ("good", 200)):
            got, reply = await vote(world, answer_id, verdict)
            assert got == status
            assert status == 200 or reply["code"] == "already_voted"
        # An engine's prefix, or another one, is no part of what is judged.
        assert (await vote(world, f"cmpl-other-{answer_id[-40:]}", "bad"))[0] == 409
        assert counted(world) == (1, 0)


async def test_only_who_got_the_answer_may_judge_it() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, access=People(*EVERYBODY)) as world:
        answer_id = await answered(world, "alice")
        told = [await vote(world, answer_id, name="bob"), await vote(world, "chatcmpl-" + "A" * 40, name="bob")]
        assert told[0] == told[1]
        assert (told[0][0], told[0][1]["code"], told[0][1]["param"]) == (404, "answer_not_found", "id")
        assert (await vote(world, answer_id))[0] == 401
        assert counted(world) == (0, 0)
        assert (await vote(world, answer_id, name="alice"))[0] == 200
        assert counted(world) == (1, 0)


async def test_who_may_no_longer_ask_may_no_longer_judge() -> None:
    people = People(*EVERYBODY)
    async with Pod("a", models={MODEL}) as pod, running(pod, access=people) as world:
        answer_id = await answered(world, "alice")
        people.allowed.remove(("alice", "invoke"))
        assert (await vote(world, answer_id, name="alice"))[0] == 404
        assert counted(world) == (0, 0)


async def test_previewed_answer_can_be_judged_and_is_no_part_of_a_comparison() -> None:
    async with Pod("a", models={MODEL, CANDIDATE}) as pod, running(pod, access=People(*EVERYBODY)) as world:
        world.table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
        answer_id = await answered(world, "tester", model="finance/vendor@2")
        assert (await vote(world, answer_id, name="tester"))[0] == 200
        assert (counted(world, "vendor-2"), measured(world, "vendor-2")) == ((1, 0), (0, 0))


async def test_answer_of_a_revision_that_is_gone_is_unknown() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        answer_id = await answered(world)
        world.table.remove_revision("finance", "vendor-1")
        assert (await vote(world, answer_id))[0] == 404
        # One of the same name is another one.
        world.table.put_revision(replace(revision("vendor-1"), uid="uid-again"))
        assert (await vote(world, answer_id))[0] == 404


async def test_old_answer_is_unknown() -> None:
    ring = KeyRing({0: b"a" * 32})
    async with Pod("a", models={MODEL}) as pod, running(pod, keys=KnownKeys(ring), feedback_lifetime_seconds=60) as world:
        for age, status in ((30, 200), (62, 404)):
            old = AnswerIds(ring, lifetime=60).make(revision_uid="uid-vendor-1", caller="", pinned=False, now=time.time() - age)
            assert (await vote(world, f"chatcmpl-{old}"))[0] == status


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"nonsense", None, "invalid_json"),
        (b"[1]", None, "invalid_json"),
        ({"verdict": "good"}, "id", "invalid_value"),
        ({"id": 7, "verdict": "good"}, "id", "invalid_value"),
        ({"id": "", "verdict": "good"}, "id", "invalid_value"),
        ({"id": "x"}, "verdict", "invalid_value"),
        ({"id": "x", "verdict": "Good"}, "verdict", "invalid_value"),
        ({"id": "x", "verdict": ["good"]}, "verdict", "invalid_value"),
        ({"id": "x", "verdict": "good", "correction": {}}, "correction", "invalid_value"),
        ({"id": "x", "verdict": "good", "correction": "ü" * (MAX_CORRECTION_BYTES // 2 + 1)}, "correction", "invalid_value"),
    ],
)
async def test_field_that_is_wrong_is_named(body: Any, param: str | None, code: str) -> None:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with running() as world, world.client.post(world.url + PATH, data=data, headers={"Content-Type": "application/json"}) as response:
        error = (await response.json())["error"]
        assert (response.status, error["param"], error["code"]) == (400, param, code)


async def test_correction_of_full_length_is_taken_however_it_is_written_and_nothing_longer_is_read() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        answer_id = await answered(world)
        escaped = json.dumps({"id": answer_id, "verdict": "bad", "correction": "\x01" * MAX_CORRECTION_BYTES})
        for data, status in ((escaped, 200), (escaped + " " * 10_000, 413)):
            async with world.client.post(world.url + PATH, data=data, headers={"Content-Type": "application/json"}) as response:
                assert response.status == status


async def test_neither_ids_nor_corrections_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="taskfleet")
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        answer_id = await answered(world)
        await vote(world, answer_id, "bad", correction="the-secret-word")
        await vote(world, answer_id, "good", correction="the-secret-word")
        await vote(world, "the-secret-id")
    assert "the-secret" not in caplog.text
    assert answer_id[-40:] not in caplog.text


async def test_caller_that_votes_too_often_is_refused_before_its_body_is_read() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, access=People(*EVERYBODY), feedback_per_minute=3) as world:
        answer_id = await answered(world, "bob")
        for _ in range(3):
            assert (await vote(world, "unknown", name="alice"))[0] == 404
        async with world.client.post(world.url + PATH, data=b"nonsense", headers=by("alice")) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (429, "too_many_requests")
            assert int(response.headers["Retry-After"]) > 0
        assert (await vote(world, answer_id, name="bob"))[0] == 200


async def test_other_methods_are_refused_and_options_are_told() -> None:
    async with running() as world:
        for method, status in (("GET", 405), ("PUT", 405), ("OPTIONS", 204)):
            async with world.client.request(method, world.url + PATH) as response:
                assert (response.status, response.headers["Allow"]) == (status, "POST, OPTIONS")


async def test_key_that_another_replica_has_brought_in_is_looked_up() -> None:
    newer = {1: b"b" * 32}
    keys = KnownKeys(later=newer)
    async with Pod("a", models={MODEL}) as pod, running(pod, keys=KnownKeys(KeyRing(newer))) as other, running(pod, keys=keys) as world:
        assert (await vote(world, await answered(other)))[0] == 200
        assert keys.looked == 1
        assert counted(world) == (1, 0)
        # Ids of no revision that there is do not make it look.
        assert (await vote(world, "chatcmpl-" + "f" * 40))[0] == 404
        assert keys.looked == 1


async def test_without_a_key_answers_go_on_and_votes_wait() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, keys=KnownKeys(KeyRing())) as world:
        answer_id = await answered(world)
        async with world.post({"id": answer_id, "verdict": "good"}, path=PATH) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "feedback_unavailable")
            assert "Retry-After" in response.headers


async def test_feedback_that_is_turned_off_says_so() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, feedback_secret="") as world:
        status, error = await vote(world, await answered(world))
        assert (status, error["code"]) == (404, "not_found")
        assert "turned" in error["message"]


async def test_figures_of_a_revision_go_with_it() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        await vote(world, await answered(world))
        assert counted(world) == (1, 0)
        world.gateway.meter.forget_revision(("finance", "vendor"), "vendor-1")
        assert counted(world) == (0, 0)


async def test_response_has_its_id_from_the_body() -> None:
    """On this route alone vLLM takes it from there."""
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        async with world.post({"model": "finance/vendor", "input": "x", "request_id": "mine"}, path="/v1/responses") as response:
            assert response.status == 200
        (received,) = pod.received
        assert received.body["request_id"] == f"resp_{received.headers['x-request-id']}"
        assert (await vote(world, received.body["request_id"]))[0] == 200
        assert counted(world) == (1, 0)
