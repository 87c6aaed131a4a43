"""The time of a pod's start, as its agent takes it."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.agent.startup import Startup
from taskfleet.api.agent import BaseReport, EngineReport, StartReport

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


class _Residents:
    def __init__(self) -> None:
        self.are_settled = False

    def settled(self) -> bool:
        return self.are_settled


def ticking() -> Iterator[datetime]:
    """A second later each time that it is asked."""
    second = 0
    while True:
        yield at(second)
        second += 1


async def reached(board: Board, startup: asyncio.Task[None]) -> None:
    """Lets the start take notice of what the board says."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert board.start is None
    assert not startup.done()


async def test_each_step_is_timed_in_its_order_and_all_are_told_at_the_end() -> None:
    board, residents, clock = Board("pod", Flights()), _Residents(), ticking()
    found: Any = residents
    startup = asyncio.create_task(Startup(board=board, residents=found, now=lambda: next(clock)).run())
    await reached(board, startup)
    board.report_base(BaseReport(staged=True, reason="Valid"))
    await reached(board, startup)
    board.report_engine(EngineReport(healthy=True, starts=1))
    await reached(board, startup)
    version = board.version
    residents.are_settled = True
    await asyncio.wait_for(startup, 20)
    assert board.state().start == StartReport(agent_at=at(0), base_at=at(1), engine_at=at(2), adapters_at=at(3))
    assert board.version > version, "whoever waits for news gets it"


async def test_a_pod_without_adapters_has_come_up_with_its_engine() -> None:
    board, residents = Board("pod", Flights()), _Residents()
    residents.are_settled = True
    found: Any = residents
    startup = asyncio.create_task(Startup(board=board, residents=found).run())
    await reached(board, startup)
    board.report_base(BaseReport(staged=True, reason="Valid"))
    await reached(board, startup)
    board.report_engine(EngineReport(healthy=True, starts=1))
    await asyncio.wait_for(startup, 20)
    report = board.state().start
    assert report is not None
    assert report.agent_at <= report.base_at <= report.engine_at <= report.adapters_at
    assert StartReport.model_validate_json(report.model_dump_json(by_alias=True)) == report


async def test_pod_that_ends_before_it_has_come_up_ends() -> None:
    """A loop that asks a closed board again and again would let nothing else run, not its own end either."""
    board, residents = Board("pod", Flights()), _Residents()
    found: Any = residents
    startup = asyncio.create_task(Startup(board=board, residents=found).run())
    await reached(board, startup)
    board.close()
    await startup
    assert board.start is None
