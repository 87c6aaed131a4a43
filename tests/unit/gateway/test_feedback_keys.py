"""The Secret with the keys: filled once, whoever comes first, and read again when an unknown key turns up."""

import asyncio
import base64
import logging
from typing import Any

import pytest

from taskfleet.gateway.answer_ids import KeyRing
from taskfleet.gateway.feedback_keys import KEY_BYTES, FeedbackKeys, keys_of
from taskfleet.kube.errors import ConflictError, ForbiddenError, KubeError
from taskfleet.kube.resources import SECRETS, Resource
from taskfleet.names import FEEDBACK_SECRET

NAMESPACE = "taskfleet-system"


class ApiServer:
    """One Secret, with the API server's word on who was first."""

    def __init__(self, data: dict[str, str] | None = None) -> None:
        self.version = 1
        self.data = data
        self.gets = 0
        self.managers: list[str] = []
        self.trouble: KubeError | None = None

    def _secret(self) -> dict[str, Any]:
        content = {} if self.data is None else {"data": dict(self.data)}
        return {"metadata": {"name": FEEDBACK_SECRET, "resourceVersion": str(self.version)}, "type": "Opaque", **content}

    async def get(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any] | None:
        assert (resource, name, namespace) == (SECRETS, FEEDBACK_SECRET, NAMESPACE)
        self.gets += 1
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble
        return self._secret()

    async def apply(self, resource: Resource, body: dict[str, Any], *, force: bool = True, field_manager: str = "") -> dict[str, Any]:
        assert (resource, body["metadata"]["namespace"], force) == (SECRETS, NAMESPACE, False)
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError("not the current one", status=409)
        self.managers.append(field_manager)
        self.version += 1
        self.data = (self.data or {}) | body["data"]
        return self._secret()


def key(letter: str, length: int = KEY_BYTES) -> str:
    return base64.b64encode(letter.encode() * length).decode()


def replica(server: ApiServer) -> tuple[FeedbackKeys, KeyRing]:
    keys = FeedbackKeys(server, namespace=NAMESPACE, secret=FEEDBACK_SECRET)
    return keys, keys.ring


async def test_replicas_that_start_together_agree_on_one_key() -> None:
    server = ApiServer()
    replicas = [replica(server) for _ in range(5)]
    running = [asyncio.create_task(keys.run()) for keys, _ in replicas]
    await asyncio.wait_for(asyncio.gather(*(keys.tried.wait() for keys, _ in replicas)), 10)
    for task in running:
        task.cancel()
    assert server.managers == ["taskfleet-gateway"]
    assert len({ring.newest for _, ring in replicas}) == 1
    assert replicas[0][1].numbers == [0]
    number, newest = replicas[0][1].newest or (None, b"")
    assert (number, len(newest)) == (0, KEY_BYTES)


async def test_key_that_is_there_is_kept() -> None:
    server = ApiServer({"key-0": key("a"), "key-1": key("b")})
    keys, ring = replica(server)
    await keys.reread()
    assert ring.newest == (1, b"b" * KEY_BYTES)
    assert server.managers == []


async def test_unknown_key_is_looked_for_once_in_a_while() -> None:
    server = ApiServer({"key-0": key("a")})
    keys, ring = replica(server)
    await asyncio.gather(*(keys.reread() for _ in range(20)))
    await keys.reread()
    assert server.gets == 1
    assert ring.numbers == [0]


async def test_api_server_that_is_away_takes_no_key_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="taskfleet")
    server = ApiServer({"key-0": key("a")})
    keys, ring = replica(server)
    server.trouble = ForbiddenError("may not", status=403)
    looking = asyncio.create_task(keys.run())
    await asyncio.wait_for(keys.tried.wait(), 10)
    assert ring.newest is None
    looking.cancel()
    assert [record.getMessage() for record in caplog.records] == ["feedback key can't be read"]


async def test_known_key_stays_while_the_api_server_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="taskfleet")
    server = ApiServer({"key-0": key("a")})
    keys, ring = replica(server)
    await keys.reread()
    server.trouble = ForbiddenError("may not", status=403)
    looking = asyncio.create_task(keys.run())
    await asyncio.wait_for(keys.tried.wait(), 10)
    looking.cancel()
    assert ring.numbers == [0]
    assert key("a") not in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"key-0": key("a", 31)},
        {"key-0": "not base64!"},
        {"key-128": key("a")},
        {"key-": key("a")},
        {"key--1": key("a")},
        {"tls.key": key("a")},
    ],
)
def test_what_is_no_key_is_let_be(data: dict[str, str] | None) -> None:
    assert keys_of({"data": data} if data is not None else {}) == {}
    assert keys_of({"data": (data or {}) | {"key-7": key("b")}}) == {7: b"b" * KEY_BYTES}
