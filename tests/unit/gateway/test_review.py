"""Answers of the API server: how long they are good for, and what an outage changes."""

import asyncio
from dataclasses import dataclass, field

import pytest

from taskfleet.gateway.review import ReviewCache, ReviewUnavailableError

FOREVER = 10.0**12


@dataclass
class Server:
    """Answers with `answer`; None refuses, an error is raised. `gate` holds answers back while it is cleared."""

    answer: str | Exception | None = "yes"
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def ask(self) -> str | None:
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class World:
    server: Server = field(default_factory=Server)
    now: float = 1000.0
    size: int = 100

    def __post_init__(self) -> None:
        self.cache: ReviewCache[str] = ReviewCache(lambda: self.now, size=self.size)

    async def get(self, key: str = "k", expiry: float = FOREVER) -> str | None:
        return await self.cache.get(key, expiry, self.server.ask)

    async def background(self) -> None:
        """Lets renewals in the background finish."""
        for _ in range(5):
            await asyncio.sleep(0)


async def test_allowing_answer_is_used_for_a_minute() -> None:
    world = World()
    assert [await world.get(), await world.get()] == ["yes", "yes"]
    assert world.server.asked == 1
    world.now += 61
    world.server.answer = None
    assert await world.get() is None


async def test_refusing_answer_is_used_for_five_seconds() -> None:
    world = World(Server(None))
    assert [await world.get(), await world.get()] == [None, None]
    assert world.server.asked == 1
    world.server.answer = "yes"
    world.now += 4.9
    assert await world.get() is None
    world.now += 0.2
    assert await world.get() == "yes"


async def test_answer_is_renewed_in_the_background_before_it_ends() -> None:
    world = World()
    await world.get()
    world.now += 50
    world.server.gate.clear()
    assert await asyncio.wait_for(world.get(), 5) == "yes"
    assert world.cache.known("k") is None
    await world.background()
    assert world.server.asked == 2
    world.server.gate.set()
    await world.background()
    world.now += 40
    assert await world.get() == "yes"
    assert world.server.asked == 2


async def test_revoked_right_is_noticed_by_the_renewal() -> None:
    world = World()
    await world.get()
    world.now += 50
    world.server.answer = None
    await world.get()
    await world.background()
    assert await world.get() is None


async def test_callers_of_one_key_share_one_question() -> None:
    world = World()
    world.server.gate.clear()
    callers = [asyncio.create_task(world.get()) for _ in range(20)]
    await world.background()
    world.server.gate.set()
    assert await asyncio.gather(*callers) == ["yes"] * 20
    assert world.server.asked == 1


async def test_caller_who_leaves_fails_nobody_else() -> None:
    world = World()
    world.server.gate.clear()
    leaving, staying = asyncio.create_task(world.get()), asyncio.create_task(world.get())
    await world.background()
    leaving.cancel()
    world.server.gate.set()
    assert await staying == "yes"
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_outage_changes_nothing_for_whom_was_allowed() -> None:
    world = World()
    await world.get()
    world.server.answer = ReviewUnavailableError("away")
    for _ in range(11):
        world.now += 300
        assert await world.get() == "yes"
    world.now += 301
    with pytest.raises(ReviewUnavailableError):
        await world.get()


async def test_outage_lets_nobody_new_in() -> None:
    world = World(Server(ReviewUnavailableError("away")))
    with pytest.raises(ReviewUnavailableError):
        await world.get()


async def test_outage_prolongs_no_token() -> None:
    world = World()
    await world.get(expiry=world.now + 100)
    world.server.answer = ReviewUnavailableError("away")
    world.now += 99
    assert await world.get(expiry=1100) == "yes"
    world.now += 2
    with pytest.raises(ReviewUnavailableError):
        await world.get(expiry=1100)


async def test_outage_prolongs_no_refusal() -> None:
    world = World()
    await world.get()
    world.now += 61
    world.server.answer = None
    assert await world.get() is None
    world.server.answer = ReviewUnavailableError("away")
    world.now += 6
    with pytest.raises(ReviewUnavailableError):
        await world.get()


async def test_not_every_request_of_an_outage_waits_for_the_api_server() -> None:
    world = World()
    await world.get()
    world.server.answer = ReviewUnavailableError("away")
    world.now += 61
    for _ in range(100):
        assert await world.get() == "yes"
    assert world.server.asked == 2


async def test_busy_client_waits_for_no_api_server_that_does_not_answer() -> None:
    world = World()
    await world.get()
    world.server.answer = ReviewUnavailableError("away")
    world.now += 61
    await world.get()
    world.server.gate.clear()
    world.now += 6
    assert await asyncio.wait_for(world.get(), 5) == "yes"
    await world.background()
    assert world.server.asked == 3, "it is asked again, in the background"
    world.server.gate.set()
    await world.background()
    world.server.gate.clear()
    world.now += 6
    assert await asyncio.wait_for(world.get(), 5) == "yes"


async def test_right_that_was_revoked_in_an_outage_ends_seconds_after_it() -> None:
    world = World()
    await world.get()
    world.server.answer = ReviewUnavailableError("away")
    world.now += 61
    await world.get()
    world.server.answer = None
    world.now += 11
    assert await world.get() is None


async def test_answer_never_outlives_its_token() -> None:
    world = World()
    await world.get(expiry=world.now + 10)
    world.now += 11
    world.server.answer = None
    assert await world.get(expiry=1010) is None


async def test_flood_of_bad_tokens_pushes_out_no_good_one() -> None:
    world = World(size=10)
    await world.get("good")
    world.server.answer = None
    for number in range(1000):
        await world.get(f"bad {number}")
    asked = world.server.asked
    assert await world.get("good") == "yes"
    assert world.server.asked == asked


async def test_memory_is_bounded() -> None:
    world = World(size=10)
    for number in range(100):
        await world.get(f"good {number}")
    assert await world.get("good 99") == "yes"
    assert world.server.asked == 100
    await world.get("good 0")
    assert world.server.asked == 101
