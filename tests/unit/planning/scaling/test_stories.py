"""A pool's replicas through a day's troubles, as readable transcripts in `golden/`. Times are minutes and seconds.

UPDATE_GOLDEN=1 writes them anew; the difference is for a reviewer to read.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskfleet.api.schedules import Schedule
from taskfleet.api.servingclass import Autoscaler, ScalingDefaults
from taskfleet.api.taskmodel import Scaling
from tests.unit.planning.scaling.scaling_world import ScalingWorld

GOLDEN = Path(__file__).parent / "golden"
CLASS = ScalingDefaults(min_replicas=0, max_replicas=10, target_concurrency=10, idle_seconds=60)


def world(**changes: Any) -> ScalingWorld:
    """One task, an answer takes two seconds, a pod has ten at a time and twenty seconds to start."""
    return ScalingWorld(**{"scaling": CLASS, **changes})


def busy(per_second: float, *, replicas: int, **changes: Any) -> ScalingWorld:
    """The same load for long."""
    story = world(replicas=replicas, ready=replicas, **changes)
    story.loads["total"].per_second = per_second
    story.run(300)
    story.transcript.clear()
    return story


def step() -> ScalingWorld:
    story = busy(3, replicas=1)
    story.says("requests come four times as often")
    story.loads["total"].per_second = 12
    story.run(180)
    return story


def burst() -> ScalingWorld:
    story = busy(3, replicas=1)
    story.says("sixty requests in one moment, and no more than that")
    story.burst("total", 60)
    story.run(400)
    return story


def slow_fall() -> ScalingWorld:
    story = busy(30, replicas=6)
    story.says("every two minutes some requests fewer")
    for per_second in (24, 18, 12, 6, 3):
        story.loads["total"].per_second = per_second
        story.run(120)
    story.says("nobody asks any more")
    story.loads["total"].per_second = 0
    story.run(400)
    return story


def sleep_and_wake() -> ScalingWorld:
    story = busy(1, replicas=1, tasks={"total": Scaling(), "vendor": Scaling(idle_seconds=200)})
    story.says("nobody asks any more; vendor was never asked")
    story.loads["total"].per_second = 0
    story.run(300)
    story.says("three requests for vendor")
    story.burst("vendor", 3)
    story.run(60)
    story.says("and no more")
    story.run(300)
    return story


def load_arrives_at_a_sleeping_pool() -> ScalingWorld:
    story = busy(0, replicas=1)
    story.says("asleep, and five requests a second arrive while the pod starts")
    story.loads["total"].per_second = 5
    story.run(240)
    return story


def client_gives_up_while_a_slow_start_goes_on() -> ScalingWorld:
    story = busy(0, replicas=1, tasks={"total": Scaling(idle_seconds=60)}, start_seconds=240)
    story.says("asleep; a client asks, and leaves after two minutes: the pod starts for four, and then has its idle time")
    story.burst("total", 1)
    story.run(120)
    story.give_up()
    story.run(240)
    story.says("the same where no node has a device: it gives up when a start has had all its time")
    story.devices = 0
    story.startup_seconds = 600
    story.burst("total", 1)
    story.run(120)
    story.give_up()
    story.run(600)
    return story


def gateway_lost() -> ScalingWorld:
    story = busy(12, replicas=3)
    story.says("a gateway is not heard any more, and with it most of the demand")
    story.complete = False
    story.loads["total"].per_second = 2
    story.run(300)
    story.says("more comes in through those that are heard than there are pods for")
    story.loads["total"].per_second = 25
    story.run(60)
    story.says("the gateway is back, and requests are few")
    story.hear_all_again()
    story.loads["total"].per_second = 2
    story.run(360)
    return story


def operator_restarted_while_busy() -> ScalingWorld:
    story = busy(12, replicas=3)
    story.says("the operator restarts")
    story.restart_operator()
    story.run(200)
    return story


def operator_restarted_while_idle() -> ScalingWorld:
    story = busy(1, replicas=1)
    story.says("nobody asks any more, and half a minute later the operator restarts")
    story.loads["total"].per_second = 0
    story.run(30)
    story.restart_operator()
    story.run(200)
    return story


def pods_stay_pending() -> ScalingWorld:
    story = busy(3, replicas=1, devices=1)
    story.says("requests come four times as often, and no node has a device")
    story.loads["total"].per_second = 12
    story.run(240)
    story.says("the devices are there")
    story.devices = 256
    story.run(240)
    return story


def at_the_maximum() -> ScalingWorld:
    story = busy(3, replicas=1, tasks={"total": Scaling(max_replicas=3)})
    story.says("far more than three pods can answer")
    story.loads["total"].per_second = 40
    story.run(120)
    story.says("as before")
    story.loads["total"].per_second = 3
    story.run(600)
    return story


def one_task_does_not_take_more_than_its_maximum() -> ScalingWorld:
    story = busy(3, replicas=1, tasks={"total": Scaling(max_replicas=2), "vendor": Scaling(max_replicas=6)})
    story.says("total is asked for five pods' worth, vendor for one")
    story.loads["total"].per_second = 25
    story.loads["vendor"].per_second = 5
    story.run(120)
    return story


def another_autoscaler() -> ScalingWorld:
    story = busy(12, replicas=3)
    story.says("the class is given to another autoscaler, and requests cease")
    story.scaling = CLASS.model_copy(update={"autoscaler": Autoscaler.EXTERNAL})
    story.loads["total"].per_second = 0
    story.run(600)
    story.says("and back to the operator")
    story.scaling = CLASS
    story.run(400)
    return story


def rollout_wakes_a_sleeping_pool() -> ScalingWorld:
    story = busy(0, replicas=1)
    story.says("a new version of total is applied")
    story.awake_because = "total-5a24cfe73b is a candidate"
    story.run(120)
    story.says("it is promoted")
    story.awake_because = ""
    story.run(120)
    return story


def suspended_task_keeps_the_pods() -> ScalingWorld:
    story = busy(12, replicas=3)
    story.says("total is suspended, and requests cease")
    story.tasks = {"total": None}
    story.loads["total"].per_second = 0
    story.run(400)
    story.says("it is no longer suspended")
    story.tasks = {"total": Scaling()}
    story.run(120)
    return story


def office_hours() -> ScalingWorld:
    """The story begins at noon in UTC, one o'clock in Berlin, and nobody asks for five minutes."""
    lunch = Schedule(name="lunch", time_zone="Europe/Berlin", start="7 13 * * *", end="15 13 * * *", min_replicas=2)
    story = busy(0, replicas=1, tasks={"total": Scaling(max_replicas=4, schedules=[lunch])})
    story.says("asleep, and the schedule begins at 13:07 in Berlin")
    story.run(180)
    story.says("more comes than two pods can answer")
    story.loads["total"].per_second = 12
    story.run(120)
    story.says("and ceases; the schedule ends at 13:15")
    story.loads["total"].per_second = 0
    story.run(480)
    return story


def a_spare_pod_takes_the_first_requests() -> ScalingWorld:
    story = busy(0, replicas=1)
    story.says("asleep, and the class is given a spare pod")
    story.scaling = CLASS.model_copy(update={"spare_replicas": 1})
    story.run(60)
    story.says("a request now and then: the spare pod answers")
    for _ in range(3):
        story.burst("total", 1)
        story.run(40)
    story.says("three requests a second, which is more than half a pod's work")
    story.loads["total"].per_second = 3
    story.run(180)
    story.says("far more than ten pods can answer: nothing is spare at the maximum")
    story.loads["total"].per_second = 80
    story.run(120)
    story.says("and nobody asks any more")
    story.loads["total"].per_second = 0
    story.run(600)
    return story


STORIES: tuple[Callable[[], ScalingWorld], ...] = (
    step,
    burst,
    slow_fall,
    sleep_and_wake,
    load_arrives_at_a_sleeping_pool,
    client_gives_up_while_a_slow_start_goes_on,
    gateway_lost,
    operator_restarted_while_busy,
    operator_restarted_while_idle,
    pods_stay_pending,
    at_the_maximum,
    one_task_does_not_take_more_than_its_maximum,
    another_autoscaler,
    rollout_wakes_a_sleeping_pool,
    suspended_task_keeps_the_pods,
    office_hours,
    a_spare_pod_takes_the_first_requests,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_story(story: Callable[[], ScalingWorld]) -> None:
    transcript = "\n".join(story().transcript) + "\n"
    path = GOLDEN / f"{story.__name__}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(transcript)
    assert transcript == path.read_text()


def test_every_golden_file_has_its_story() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {story.__name__ for story in STORIES}
