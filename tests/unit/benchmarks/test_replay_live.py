"""What is seen of a cluster comes out as the figures that a simulation has."""

import pytest

from tests.benchmarks.replay.engine import Timings
from tests.benchmarks.replay.figures import figures
from tests.benchmarks.replay.live import Life, Watched, difference, outcome, over_time, paced
from tests.benchmarks.replay.scenarios import SHORT_STEP_SECONDS, SHORT_STEPS, SHORT_TASKS, Scenario, short
from tests.benchmarks.replay.trace import COMMITTED, Request, is_ordered, read
from tests.cluster.api import Object
from tests.cluster.load import Outcome as Answer
from tests.engine.simulator.generation import read_chat

# A token takes a second, and a request's way half a one.
ENGINE = Timings(token_seconds=((1, 1.0), (2, 1.0)), prompt_token_seconds=0.5, slots=2, cold_start_seconds=10.0)


def pod(uid: str, *, ready: bool = False, leaving: bool = False) -> Object:
    metadata = {"uid": uid} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {})
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}}


def answer(number: int, *, started: float, seconds: float, error: str = "") -> Answer:
    return Answer(number, "finance/vendor", started, seconds, 200, "", error, f"load-{number}")


def test_pods_count_from_their_creation_until_they_are_gone() -> None:
    watched = Watched()
    watched.look(0.0, replicas=1, pods=[pod("a", ready=True)])
    watched.look(10.0, replicas=2, pods=[pod("a", ready=True), pod("b")])
    watched.look(25.0, replicas=2, pods=[pod("a", ready=True), pod("b", ready=True)])
    watched.look(40.0, replicas=1, pods=[pod("a", ready=True), pod("b", leaving=True)])
    watched.look(43.0, replicas=1, pods=[pod("a", ready=True)])
    watched.look(130.0, replicas=0, pods=[])
    assert watched.lives == {"a": Life(0.0, ready=0.0, gone=130.0), "b": Life(10.0, ready=25.0, leaving=40.0, gone=43.0)}
    assert watched.scales == [(0.0, 1), (10.0, 2), (40.0, 1), (130.0, 0)]
    assert watched.replica_seconds(100.0) == 100.0 + 33.0
    # The first one was there before.
    assert (watched.starts(), watched.ends()) == ([15.0], [3.0])


def test_what_an_answer_takes_beyond_its_work_is_its_wait() -> None:
    scenario = Scenario("small", "by hand", 1, 100.0, tuple(Request(at, 0, 1, 4) for at in (0.0, 5.0, 6.0, 7.0)))
    answers = [
        answer(1, started=1005.0, seconds=4.5),
        answer(0, started=1000.0, seconds=7.5),
        answer(3, started=1007.0, seconds=1.0, error="HTTP 503"),
        # Sent a second late, and a little faster than the work was thought to be.
        answer(2, started=1007.0, seconds=4.4),
    ]
    found = outcome(scenario, answers, Watched(), ENGINE, began=1000.0)
    waits = {flight.request.at: flight.wait for flight in found.flights}
    assert waits == {0.0: pytest.approx(3.0), 5.0: pytest.approx(0.0), 6.0: pytest.approx(0.9)}
    assert figures(found).long_waits == 1


def test_replicas_over_time_and_how_far_two_runs_are_apart() -> None:
    one, other = [(5.0, 2), (15.0, 4)], [(7.0, 2), (15.0, 3)]
    assert over_time(one, begin_with=1, seconds=30.0, every=10.0) == [2, 4, 4]
    # By one from 5 to 7 s, and from 15 s on.
    assert difference(one, other, begin_with=1, seconds=20.0) == pytest.approx((2.0 + 5.0) / 20)
    assert difference(one, one, begin_with=1, seconds=20.0) == 0.0


def test_simulator_takes_as_long_for_a_paced_answer_as_it_is_told() -> None:
    body = {"model": "one", "messages": [{"role": "user", "content": "a line"}], **paced(1.8, tokens=10)}
    assert read_chat(body, tool_parser=False).faults.token_seconds * (10 - 1) == pytest.approx(1.8)


def test_short_scenario_has_its_steps_and_a_silence() -> None:
    scenario = short(read(COMMITTED), pod_rate=2.0)
    assert is_ordered(scenario.requests)
    assert {request.task for request in scenario.requests} == set(range(SHORT_TASKS))
    counts = [0] * len(SHORT_STEPS)
    for request in scenario.requests:
        counts[int(request.at // SHORT_STEP_SECONDS)] += 1
    assert counts == [pytest.approx(2.0 * pods * SHORT_STEP_SECONDS, abs=8) for pods in SHORT_STEPS]
