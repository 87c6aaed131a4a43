"""Each key once, one worker per key, nothing lost that happened meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from taskfleet.controller import queue as module
from taskfleet.controller.queue import LONGEST_PAUSE_SECONDS, RetryError, WorkQueue, pause_seconds
from tests.unit.controller.waiting import until

Work = Callable[[str], Awaitable[float | None]]


@contextlib.asynccontextmanager
async def running(work: Work, *, workers: int = 4) -> AsyncIterator[WorkQueue[str]]:
    queue = WorkQueue(work, kind_of=lambda _: "pool", workers=workers, jitter=lambda: 0.5)
    queue.start()
    try:
        yield queue
    finally:
        await queue.stop(grace_seconds=1)


async def idle(queue: WorkQueue[str]) -> None:
    await until(lambda: queue.idle)


async def test_keys_that_wait_are_worked_on_once() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    async with running(work) as queue:
        for _ in range(50):
            queue.add("a")
            queue.add("b")
        await idle(queue)
    assert sorted(done) == ["a", "b"]


async def test_a_key_that_is_added_while_in_work_is_worked_on_once_more_and_never_twice_at_a_time() -> None:
    in_work: set[str] = set()
    done = 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        nonlocal done
        assert key not in in_work
        in_work.add(key)
        begun.set()
        await go_on.wait()
        in_work.remove(key)
        done += 1

    async with running(work) as queue:
        queue.add("a")
        await begun.wait()
        for _ in range(20):
            queue.add("a")
        await asyncio.sleep(0.01)
        assert done == 0
        go_on.set()
        await idle(queue)
    assert done == 2


async def test_a_slow_key_holds_up_no_other() -> None:
    done: list[str] = []
    stuck = asyncio.Event()

    async def work(key: str) -> None:
        if key == "slow":
            await stuck.wait()
        done.append(key)

    async with running(work, workers=2) as queue:
        queue.add("slow")
        for number in range(10):
            queue.add(f"quick-{number}")
        await until(lambda: len(done) >= 10)
        assert "slow" not in done
        stuck.set()


async def test_a_delayed_key_waits_and_a_sooner_one_wins() -> None:
    times: list[float] = []
    clock = asyncio.get_running_loop().time

    async def work(_: str) -> None:
        times.append(clock())

    async with running(work) as queue:
        began = clock()
        queue.add("a", after=60)
        queue.add("a", after=0.05)
        queue.add("a", after=30)
        await until(lambda: bool(times))
        assert times[0] - began >= 0.049
        assert queue.idle, "the later wishes were met by the sooner one"


async def test_work_that_asks_for_more_is_called_again() -> None:
    calls = 0

    async def work(_: str) -> float | None:
        nonlocal calls
        calls += 1
        return 0.001 if calls < 3 else None

    async with running(work) as queue:
        queue.add("a")
        await until(lambda: calls >= 3)
        await idle(queue)
    assert calls == 3


async def test_failures_are_tried_again_with_growing_pauses_and_a_success_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)
    outcomes: list[Exception | None] = [RetryError("conflict"), ValueError("a defect"), None]

    async def work(_: str) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    async with running(work) as queue:
        queue.add("a")
        await until(lambda: not outcomes)
        await idle(queue)
        assert not queue._entries, "a key that is done is forgotten"


async def test_a_failing_key_waits_at_least_as_long_as_the_server_wished() -> None:
    calls = 0

    async def work(_: str) -> None:
        nonlocal calls
        calls += 1
        raise RetryError("throttled", least_seconds=60)

    async with running(work) as queue:
        queue.add("a")
        await until(lambda: calls > 0)
        await asyncio.sleep(0.05)
        assert calls == 1
        queue.add("a")  # something happened to it
        await until(lambda: calls >= 2)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.25), (2, 0.5), (5, 4.0), (100, LONGEST_PAUSE_SECONDS)])
def test_pauses_double_up_to_a_bound(failures: int, seconds: float) -> None:
    assert pause_seconds(failures, spread=0.5) == pytest.approx(seconds)


def test_jitter_spreads_pauses_around_their_mean() -> None:
    assert pause_seconds(1, spread=0.0) == pytest.approx(0.1875)
    assert pause_seconds(1, spread=0.999) == pytest.approx(0.31, abs=0.01)


async def test_nothing_is_kept_before_the_start() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue(work, kind_of=lambda _: "pool")
    queue.add("stale")
    queue.start()
    queue.add("fresh")
    await idle(queue)
    await queue.stop(grace_seconds=1)
    assert done == ["fresh"]


async def test_stopping_lets_work_finish_and_takes_nothing_new() -> None:
    finished: list[str] = []
    begun = asyncio.Event()

    async def work(key: str) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        finished.append(key)

    async with running(work, workers=1) as queue:
        queue.add("a")
        queue.add("b")
        await begun.wait()
        await queue.stop(grace_seconds=5)
        queue.add("c")
        await asyncio.sleep(0.1)
    assert finished == ["a"]


async def test_stopping_cancels_what_does_not_end() -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def work(_: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(work) as queue:
        queue.add("a")
        await begun.wait()
        await queue.stop(grace_seconds=0.01)
    assert cancelled.is_set()


async def test_who_lost_the_lease_stops_in_mid_work() -> None:
    begun = asyncio.Event()
    written = False

    async def work(_: str) -> None:
        nonlocal written
        begun.set()
        await asyncio.sleep(0.05)
        written = True

    async with running(work) as queue:
        queue.add("a")
        await begun.wait()
        queue.halt()
        await asyncio.sleep(0.1)
        assert not written
        assert queue.dead_workers() == 0, "they were stopped, they did not die"


async def test_a_queue_that_stands_still_shows() -> None:
    now = 100.0
    begun = asyncio.Event()

    async def work(_: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    queue = WorkQueue(work, kind_of=lambda _: "pool", workers=1, clock=lambda: now)
    queue.start()
    queue.add("stuck")
    await begun.wait()
    queue.add("waiting")
    queue.add("later", after=1000)
    now += 130
    assert queue.longest_wait() == pytest.approx(130)
    assert queue.depths() == {"pool": 2}
    await queue.stop(grace_seconds=0)


async def test_a_tenant_with_five_hundred_keys_makes_another_one_wait_for_a_turn_only() -> None:
    """S-15."""
    done: list[str] = []
    go_on = asyncio.Event()

    async def work(key: str) -> None:
        await go_on.wait()
        done.append(key)

    queue = WorkQueue(work, kind_of=lambda _: "taskmodel", tenant_of=lambda key: key.split("/")[0], workers=4, jitter=lambda: 0.5)
    queue.start()
    for number in range(500):
        queue.add(f"broken/{number}")
    await asyncio.sleep(0)
    for number in range(3):
        queue.add(f"good/{number}")
    go_on.set()
    await idle(queue)
    await queue.stop(grace_seconds=1)
    assert len(done) == 503
    assert all(place < 12 for place, key in enumerate(done) if key.startswith("good/")), done[:20]


async def test_a_tenant_whose_keys_hang_leaves_workers_to_the_others() -> None:
    done: list[str] = []
    stuck = asyncio.Event()

    async def work(key: str) -> None:
        if key.startswith("stuck/"):
            await stuck.wait()
        done.append(key)

    queue = WorkQueue(work, kind_of=lambda _: "taskmodel", tenant_of=lambda key: key.split("/")[0], workers=4, jitter=lambda: 0.5)
    queue.start()
    for number in range(50):
        queue.add(f"stuck/{number}")
    await asyncio.sleep(0.01)
    queue.add("good/1")
    await until(lambda: done == ["good/1"])
    stuck.set()
    await idle(queue)
    await queue.stop(grace_seconds=1)
    assert len(done) == 51


async def test_what_many_wait_for_has_every_other_turn() -> None:
    done: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        begun.set()
        await go_on.wait()
        done.append(key)

    queue = WorkQueue(work, kind_of=lambda _: "taskmodel", is_shared=lambda key: key.startswith("pool"), workers=1, jitter=lambda: 0.5)
    queue.start()
    queue.add("first")
    await begun.wait()
    for key in ("task 1", "task 2", "pool 1", "task 3", "pool 2", "task 4"):
        queue.add(key)
    go_on.set()
    await idle(queue)
    await queue.stop(grace_seconds=1)
    assert done == ["first", "pool 1", "task 1", "pool 2", "task 2", "task 3", "task 4"]
