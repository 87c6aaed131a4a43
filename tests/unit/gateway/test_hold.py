"""Places for requests that wait."""

import asyncio

import pytest

from taskfleet.gateway.errors import UnavailableError
from taskfleet.gateway.hold import Changes, Hold

A, B = ("finance", "a"), ("finance", "b")


def test_one_task_cannot_take_all_places() -> None:
    hold = Hold(total=3, per_namespace=100, per_task=2)
    with hold.place(A), hold.place(A):
        with pytest.raises(UnavailableError) as full, hold.place(A):
            pass
        assert full.value.retry_after
        with hold.place(B):
            assert hold.count == 3
            with pytest.raises(UnavailableError), hold.place(B):
                pass
    assert hold.count == 0


def test_place_is_free_again_after_an_error() -> None:
    hold = Hold(total=1, per_namespace=100, per_task=1)
    with pytest.raises(RuntimeError), hold.place(A):
        raise RuntimeError
    with hold.place(A):
        assert hold.count == 1


async def test_change_wakes_everybody_who_waits() -> None:
    changes = Changes()
    waiting = [asyncio.create_task(changes.wait(60)) for _ in range(5)]
    await asyncio.sleep(0)
    changes.announce()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_earlier_change_wakes_nobody() -> None:
    changes = Changes()
    changes.announce()
    waiting = asyncio.create_task(changes.wait(60))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    waiting.cancel()


async def test_wait_ends_without_a_change() -> None:
    await asyncio.wait_for(Changes().wait(0.01), 5)
