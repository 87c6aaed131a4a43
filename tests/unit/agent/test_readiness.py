"""Readiness, as the kubelet's probes hear of it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from taskfleet.agent import readiness
from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.agent.readiness import Readiness
from taskfleet.api.agent import EngineReport


@dataclass
class Pod:
    """What readiness looks at, set by hand; as it is right before the engine comes up."""

    board: Board = field(default_factory=lambda: Board("pod", Flights()))
    shapes: object = "some"
    healthy: bool = False
    starts: int = 0
    are_settled: bool = True

    def settled(self) -> bool:
        return self.are_settled

    def readiness(self) -> Readiness:
        parts: Any = self
        return Readiness(base=parts, watch=parts, residents=parts, board=self.board)

    def comes_up(self) -> None:
        self.healthy, self.starts = True, self.starts + 1
        self.board.report_engine(EngineReport(healthy=True, starts=self.starts))


@pytest.fixture
def pod() -> Pod:
    return Pod()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that would wait for ever, so that an answer is one at once."""
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 3600.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.01)


async def waits(probe: asyncio.Task[Any]) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert not probe.done()


@pytest.mark.usefixtures("patient")
async def test_probes_of_a_starting_pod_are_answered_in_the_moment_that_it_has_come_up(pod: Pod) -> None:
    found = pod.readiness()
    engine, ready = asyncio.create_task(found.engine_answers()), asyncio.create_task(found.objection_to_probe())
    await waits(engine)
    await waits(ready)
    pod.comes_up()
    assert await engine is True
    assert await ready is None


@pytest.mark.usefixtures("patient")
async def test_probe_waits_for_adapters_too_though_the_board_does_not_tell_of_them(pod: Pod) -> None:
    pod.are_settled = False
    ready = asyncio.create_task(pod.readiness().objection_to_probe())
    pod.comes_up()
    await waits(ready)
    pod.are_settled = True
    assert await ready is None


@pytest.mark.usefixtures("impatient")
async def test_probe_is_answered_with_no_before_the_kubelet_gives_it_up(pod: Pod) -> None:
    assert await pod.readiness().engine_answers() is False
    assert await pod.readiness().objection_to_probe() == "the engine is not healthy"


@pytest.mark.usefixtures("patient")
async def test_pod_that_was_ready_says_at_once_that_it_no_longer_is(pod: Pod) -> None:
    found = pod.readiness()
    pod.comes_up()
    assert await found.objection_to_probe() is None
    pod.healthy = False
    assert await found.engine_answers() is False
    assert await found.objection_to_probe() == "the engine is not healthy"


@pytest.mark.usefixtures("patient")
async def test_pod_that_drains_says_so_at_once(pod: Pod) -> None:
    pod.board.report_draining(draining=True)
    assert await pod.readiness().objection_to_probe() == "draining"


@pytest.mark.usefixtures("patient")
async def test_pod_that_ends_before_it_has_come_up_keeps_no_probe(pod: Pod) -> None:
    found = pod.readiness()
    probes = [asyncio.create_task(found.engine_answers()), asyncio.create_task(found.objection_to_probe())]
    await waits(probes[0])
    pod.board.close()
    assert await asyncio.gather(*probes) == [False, "the engine is not healthy"]
