"""What the operator reads by long-poll."""

import asyncio

from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.api.agent import AdapterPhase, AdapterReport, EngineReport
from tests.unit.agent.builders import document

REPORT = AdapterReport(engine_name="a", revision="a-1", phase=AdapterPhase.PROVEN, reason="Proven")


async def test_change_answers_a_waiting_poll_at_once() -> None:
    board = Board("pod", Flights())
    polling = asyncio.create_task(board.newer_than(board.version, seconds=60))
    await asyncio.sleep(0)
    board.report_loaded("a", loaded=True)
    board.report_adapter(REPORT)
    state = await asyncio.wait_for(polling, 5)
    assert state.adapters == (REPORT,)
    assert state.version == board.version


def test_adapters_that_come_and_go_with_requests_are_told_and_are_no_news() -> None:
    board = Board("pod", Flights())
    board.report_adapter(REPORT)
    version = board.version
    told = []
    for loaded in (True, False):
        board.report_loaded("a", loaded=loaded)
        told.append(board.state().adapters[0].cold)
    assert told == [False, True]
    assert board.version == version


async def test_document_of_the_same_generation_with_other_limits_is_news() -> None:
    board = Board("pod", Flights())
    for fingerprint in ("wide", "narrow"):
        version = board.version
        board.report_document(document(3).model_copy(update={"fingerprint": fingerprint}))
        assert board.version > version
        assert (board.state().generation, board.state().fingerprint) == (3, fingerprint)
    board.report_document(document(3).model_copy(update={"fingerprint": "narrow"}))
    assert board.version == version + 1


async def test_poll_without_news_is_answered_after_its_time() -> None:
    board = Board("pod", Flights())
    assert (await board.newer_than(board.version, seconds=0.01)).version == board.version


async def test_repeated_report_and_counts_are_no_news() -> None:
    flights = Flights()
    board = Board("pod", flights)
    board.report_adapter(REPORT)
    board.report_engine(EngineReport(healthy=True, starts=1))
    version = board.version
    board.report_adapter(REPORT)
    board.report_engine(EngineReport(healthy=True, starts=1))
    board.drop_adapter("unknown")
    with flights.flight("a"):
        state = board.state()
        assert (state.in_flight, state.adapters[0].in_flight) == (1, 1)
    assert board.version == version


async def test_closed_board_lets_nobody_wait() -> None:
    board = Board("pod", Flights())
    polling = asyncio.create_task(board.newer_than(board.version, seconds=60))
    await asyncio.sleep(0)
    board.close()
    await asyncio.wait_for(polling, 5)
