"""The drain of an idle pod: accepted or refused in one step, held for a time, and apart from the drain at the pod's own end."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from taskfleet.agent.board import Board
from taskfleet.agent.drain import Drain
from taskfleet.agent.flights import Flights
from taskfleet.agent.idle_drain import IdleDrain
from taskfleet.agent.pace import Pace
from taskfleet.api.agent import DrainReply, DrainRequest


class _Pod:
    """What decides whether a request is let in, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.flights = Flights(lambda: self.now)
        self.idle_drain = IdleDrain(self.flights, lambda: self.now)
        self.board = Board("pod", self.flights)
        unused: Any = None
        self.drain = Drain(
            folder=Path("/nowhere"), flights=self.flights, idle=self.idle_drain, board=self.board, watch=unused, pace=Pace(), seconds=1
        )

    def ask(self, idle: float, hold: float = 30.0) -> DrainReply:
        return self.idle_drain.ask(DrainRequest(idle_seconds=idle, hold_seconds=hold))


def test_idle_pod_lets_nothing_in_until_the_time_is_over() -> None:
    pod = _Pod()
    pod.now += 60
    assert pod.ask(60, hold=30) == DrainReply(accepted=True, in_flight=0, idle_seconds=60)
    assert pod.drain.on
    pod.now += 29.9
    assert pod.drain.on
    pod.now += 0.1
    assert not pod.drain.on


def test_asking_again_holds_on_for_as_long_anew() -> None:
    pod = _Pod()
    assert pod.ask(0, hold=30).accepted
    pod.now += 20
    assert pod.ask(0, hold=30).accepted
    pod.now += 20
    assert pod.drain.on


def test_pod_in_use_refuses_and_says_how_much() -> None:
    pod = _Pod()
    pod.now += 60
    with pod.flights.flight("a"):
        assert pod.ask(0) == DrainReply(accepted=False, in_flight=1, idle_seconds=0)
    pod.now += 4
    assert pod.ask(5) == DrainReply(accepted=False, in_flight=0, idle_seconds=4)
    assert not pod.drain.on
    assert pod.ask(4).accepted


def test_pod_that_has_just_started_does_not_claim_to_have_been_idle() -> None:
    pod = _Pod()
    assert not pod.ask(10).accepted
    assert pod.ask(0).accepted


def test_end_lets_requests_in_at_once() -> None:
    pod = _Pod()
    assert pod.ask(0).accepted
    pod.idle_drain.end()
    assert not pod.drain.on
    pod.idle_drain.end()
    assert not pod.drain.on


def test_neither_drain_ends_the_other() -> None:
    pod = _Pod()
    pod.board.report_draining(draining=True)
    assert pod.ask(0, hold=30).accepted
    pod.idle_drain.end()
    assert pod.drain.on, "the pod is at its end, whatever the operator changes its mind about"
    assert pod.ask(0, hold=30).accepted
    pod.board.report_draining(draining=False)
    assert pod.drain.on, "a new engine in the pod does not end what the operator was promised"
    pod.now += 30
    assert not pod.drain.on


def test_drain_of_an_idle_pod_is_no_news_and_leaves_it_ready() -> None:
    pod = _Pod()
    version = pod.board.version
    assert pod.ask(0).accepted
    assert pod.board.version == version
    assert not pod.board.state().draining


def test_state_says_how_long_the_pod_has_been_idle() -> None:
    pod = _Pod()
    pod.now += 12.5
    assert pod.board.state().idle_seconds == 12.5
    with pod.flights.flight("a"):
        assert pod.board.state().idle_seconds == 0


@pytest.mark.parametrize("wrong", [{"idleSeconds": -1}, {"idleSeconds": float("nan")}, {"idleSeconds": 1, "holdSeconds": 0}, {}])
def test_absurd_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DrainRequest.model_validate(wrong)


@given(st.lists(st.sampled_from(["comes", "goes", "drain", "end", "wait"]), max_size=60))
def test_nothing_is_in_flight_that_came_after_an_accepted_drain(steps: list[str]) -> None:
    """Whatever the order: a request is let in or refused, and while the drain is on nothing is in flight."""
    pod = _Pod()
    running: list[Any] = []
    for step in steps:
        if step == "comes" and not pod.drain.on:
            running.append(pod.flights.flight("a"))
            running[-1].__enter__()
        elif step == "goes" and running:
            running.pop().__exit__(None, None, None)
        elif step == "drain":
            assert pod.ask(0, hold=2).accepted is not bool(running)
        elif step == "end":
            pod.idle_drain.end()
        elif step == "wait":
            pod.now += 1
        assert not (pod.drain.on and pod.flights.total)
