"""Places for requests that wait: bounds, who gives way to whom, and what wakes them."""

import asyncio
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.errors import QueueFullError
from taskfleet.gateway.hold import Held, Hold
from taskfleet.gateway.records import Key

A, B, C = ("finance", "a"), ("finance", "b"), ("finance", "c")
ELSEWHERE, THIRD = ("legal", "a"), ("sales", "a")


async def is_displaced(held: Held) -> bool:
    try:
        await held.wait(0.001)
    except QueueFullError as error:
        return bool(error.retry_after)
    return False


def fill(stack: ExitStack, hold: Hold, task: Key, number: int) -> list[Held]:
    return [stack.enter_context(hold.place(task)) for _ in range(number)]


def test_one_task_cannot_take_all_places() -> None:
    hold = Hold(total=3, per_namespace=100, per_task=2)
    with hold.place(A), hold.place(A):
        with pytest.raises(QueueFullError) as full, hold.place(A):
            pass
        assert full.value.retry_after
        with hold.place(B):
            assert hold.count == 3
            with pytest.raises(QueueFullError), hold.place(B):
                pass
    assert hold.count == 0


def test_no_place_is_taken_where_none_is_allowed() -> None:
    for hold in (
        Hold(total=0, per_namespace=1, per_task=1),
        Hold(total=1, per_namespace=0, per_task=1),
        Hold(total=1, per_namespace=1, per_task=0),
    ):
        with pytest.raises(QueueFullError), hold.place(A):
            pass


def test_place_is_free_again_after_an_error() -> None:
    hold = Hold(total=1, per_namespace=100, per_task=1)
    with pytest.raises(RuntimeError), hold.place(A):
        raise RuntimeError
    with hold.place(A):
        assert hold.count == 1


async def test_namespaces_that_fill_the_replica_keep_no_other_out() -> None:
    hold = Hold(total=4, per_namespace=2, per_task=2)
    with ExitStack() as stack:
        first = fill(stack, hold, A, 2) + fill(stack, hold, ELSEWHERE, 2)
        with hold.place(THIRD) as newcomer:
            assert hold.count == 4
            assert [await is_displaced(held) for held in first] == [False, True, False, False]
            assert not await is_displaced(newcomer)
        assert hold.count == 3
    assert hold.count == 0


async def test_task_that_fills_its_namespace_keeps_no_other_task_out() -> None:
    hold = Hold(total=100, per_namespace=4, per_task=4)
    with ExitStack() as stack:
        first = fill(stack, hold, A, 4)
        fill(stack, hold, B, 2)
        assert [await is_displaced(held) for held in first] == [False, False, True, True]
        with pytest.raises(QueueFullError), hold.place(B):
            pass
        assert (hold.of_task(A), hold.of_task(B)) == (2, 2)


async def test_namespace_of_many_small_tasks_gives_way_too() -> None:
    hold = Hold(total=3, per_namespace=3, per_task=3)
    with ExitStack() as stack:
        for task in (A, B, C):
            fill(stack, hold, task, 1)
        fill(stack, hold, ELSEWHERE, 1)
        with pytest.raises(QueueFullError), hold.place(ELSEWHERE):
            pass
        assert hold.of_task(ELSEWHERE) == 1


TASKS = st.sampled_from([A, B, C, ELSEWHERE, THIRD])


@given(st.lists(st.tuples(TASKS, st.booleans()), max_size=80), st.integers(1, 8), st.integers(1, 6), st.integers(1, 4))
def test_bounds_hold_and_nobody_with_a_smaller_share_is_refused(
    steps: list[tuple[Key, bool]], total: int, per_namespace: int, per_task: int
) -> None:
    hold = Hold(total=total, per_namespace=per_namespace, per_task=per_task)
    tasks = (A, B, C, ELSEWHERE, THIRD)
    with ExitStack() as everything:
        places: dict[Key, list[ExitStack]] = {task: [] for task in tasks}
        for task, comes in steps:
            if not comes:
                if places[task]:
                    places[task].pop().close()
                continue
            before = {one: hold.of_task(one) for one in tasks}
            own = everything.enter_context(ExitStack())
            try:
                own.enter_context(hold.place(task))
            except QueueFullError:
                in_namespace = {one: number for one, number in before.items() if one[0] == task[0]}
                assert before[task] == per_task or max(in_namespace.values()) <= before[task] + 1
            else:
                places[task].append(own)
            now = {one: hold.of_task(one) for one in tasks}
            assert sum(now.values()) == hold.count <= total
            assert max(now.values()) <= per_task
            assert now[A] + now[B] + now[C] <= per_namespace
    assert hold.count == 0


async def test_change_wakes_everybody_who_waits_in_the_namespace_and_nobody_else() -> None:
    hold = Hold(total=100, per_namespace=100, per_task=100)
    with ExitStack() as stack:
        waiting = [asyncio.create_task(held.wait(60)) for held in fill(stack, hold, A, 3) + fill(stack, hold, B, 2)]
        other = asyncio.create_task(fill(stack, hold, ELSEWHERE, 1)[0].wait(60))
        await asyncio.sleep(0)
        hold.wake("finance")
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert not other.done()
        other.cancel()
        with suppress(asyncio.CancelledError):
            await other


async def test_earlier_change_wakes_nobody() -> None:
    hold = Hold(total=1, per_namespace=1, per_task=1)
    with hold.place(A) as held:
        hold.wake("finance")
        waiting = asyncio.create_task(held.wait(60))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        waiting.cancel()


async def test_wait_ends_without_a_change() -> None:
    with Hold(total=1, per_namespace=1, per_task=1).place(A) as held:
        await asyncio.wait_for(held.wait(0.01), 5)
