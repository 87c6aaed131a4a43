"""Tokens for pools: one at a time, renewed in time, good while the API server is away."""

import asyncio

import pytest

from taskfleet.kube.client import Token
from taskfleet.kube.errors import KubeError, UnavailableError
from taskfleet.kube.tokens import PoolTokens


class _ApiServer:
    """Gives tokens of 600 s and counts them."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.away = False
        self.asked: list[tuple[str, str, str]] = []
        self.answer = asyncio.Event()
        self.answer.set()

    async def request_token(self, *, namespace: str, service_account: str, audience: str, seconds: int = 600) -> Token:
        self.asked.append((namespace, service_account, audience))
        await self.answer.wait()
        if self.away:
            raise UnavailableError("away")
        return Token(f"{audience}-{len(self.asked)}", self.now + seconds)


@pytest.fixture
def server() -> _ApiServer:
    return _ApiServer()


@pytest.fixture
def tokens(server: _ApiServer) -> PoolTokens:
    return PoolTokens(server, namespace="system", service_account="taskfleet-gateway", clock=lambda: server.now)


async def test_a_token_is_asked_for_once_and_for_its_pool_only(server: _ApiServer, tokens: PoolTokens) -> None:
    assert await tokens.get("uid-a") == await tokens.get("uid-a") == "uid-a-1"
    assert await tokens.get("uid-b") == "uid-b-2"
    assert server.asked == [("system", "taskfleet-gateway", "uid-a"), ("system", "taskfleet-gateway", "uid-b")]


async def test_a_token_is_renewed_at_four_fifths_of_its_life(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    server.now += 479
    assert await tokens.get("uid") == "uid-1"
    server.now += 2
    await tokens.get("uid")
    await asyncio.sleep(0)
    assert await tokens.get("uid") == "uid-2"


async def test_a_renewal_that_hangs_delays_nobody_while_the_old_token_lives(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    server.answer.clear()
    server.now += 500
    assert await asyncio.wait_for(tokens.get("uid"), 5) == "uid-1"
    await asyncio.sleep(0)
    assert await asyncio.wait_for(tokens.get("uid"), 5) == "uid-1"
    assert len(server.asked) == 2
    server.answer.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await tokens.get("uid") == "uid-2"


async def test_a_token_that_is_about_to_end_is_not_handed_out(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    server.now += 599
    assert await tokens.get("uid") == "uid-2"


async def test_many_callers_share_one_question(server: _ApiServer, tokens: PoolTokens) -> None:
    server.answer.clear()
    waiting = [asyncio.create_task(tokens.get("uid")) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one caller's end is not the others'
    server.answer.set()
    answers = await asyncio.gather(*waiting[1:])
    assert set(answers) == {"uid-1"}
    assert len(server.asked) == 1


async def test_a_failed_renewal_keeps_the_old_token_until_it_ends(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    server.away = True
    server.now += 500
    for _ in range(3):
        assert await tokens.get("uid") == "uid-1"
        await asyncio.sleep(0)
    assert len(server.asked) == 2, "an outage is not hammered"
    server.now += 101
    with pytest.raises(KubeError):
        await tokens.get("uid")
    server.away = False
    assert await tokens.get("uid") == "uid-4"


async def test_a_pool_that_is_gone_is_forgotten(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    tokens.forget("uid")
    assert await tokens.get("uid") == "uid-2"


async def renewed(server: _ApiServer, tokens: PoolTokens) -> None:
    """`uid-1` is 490 s old, and `uid-2` has just taken its place."""
    await tokens.get("uid")
    server.now += 490
    await tokens.get("uid")
    await asyncio.sleep(0)
    assert await tokens.get("uid") == "uid-2"


async def test_who_refuses_the_new_token_gets_the_old_one_as_long_as_it_lives(server: _ApiServer, tokens: PoolTokens) -> None:
    await renewed(server, tokens)
    assert await tokens.another("uid", {"uid-2"}) == "uid-1"
    server.now += 120
    assert await tokens.another("uid", {"uid-2"}) == "uid-3"
    assert len(server.asked) == 3


async def test_who_refuses_the_old_token_gets_one_that_is_signed_anew(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    server.now += 60
    assert await tokens.another("uid", {"uid-1"}) == "uid-2"
    assert await tokens.get("uid") == "uid-2"
    assert await tokens.another("uid", {"uid-2"}) == "uid-1", "pods that have the old key only still take it"


async def test_who_refuses_every_token_has_few_minted(server: _ApiServer, tokens: PoolTokens) -> None:
    await renewed(server, tokens)
    for _ in range(10):
        assert await tokens.another("uid", {"uid-1", "uid-2"}) is None
        server.now += 2
    assert len(server.asked) == 2
    server.away = True
    for _ in range(10):
        server.now += 11
        assert await tokens.another("uid", {"uid-1", "uid-2"}) is None
    assert len(server.asked) <= 7, "an outage is not hammered"


async def test_others_use_what_one_has_renewed(server: _ApiServer, tokens: PoolTokens) -> None:
    await tokens.get("uid")
    server.now += 60
    answers = await asyncio.gather(*(tokens.another("uid", {"uid-1"}) for _ in range(20)))
    assert set(answers) == {"uid-2"}
    assert len(server.asked) == 2
