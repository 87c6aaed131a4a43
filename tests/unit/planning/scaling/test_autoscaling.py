"""How many pods a pool gets, and why, for one look or a few. The words are in `test_words`, whole days in `test_stories`."""

from typing import Any

import pytest

from taskfleet.api.modelpool import FloorSource, ScalingFloor, ScalingReason
from taskfleet.api.schedules import Schedule
from taskfleet.api.servingclass import Autoscaler
from taskfleet.api.taskmodel import Scaling
from taskfleet.planning.scaling.autoscaling import ScalingMemory, decide
from taskfleet.planning.scaling.demand import PoolDemand, TaskDemandView
from tests.unit.planning.builders import NOW, later
from tests.unit.planning.scaling.looks import CLASS, after, asked, at_once, demand, settled, snapshot


class TestUp:
    @pytest.mark.parametrize(
        ("view", "present", "replicas", "reason"),
        [
            (asked(35, stable=4), 1, 4, ScalingReason.STEP),
            (asked(0.5, held=50), 1, 5, ScalingReason.STEP),  # those that wait now count at once
            (asked(12, stable=4), 1, 1, ScalingReason.STEADY),  # seconds swing a little
            (asked(12), 1, 2, ScalingReason.RAISED),  # and a whole window does not
            (asked(11), 1, 1, ScalingReason.STEADY),  # within the tolerance
            (asked(44), 4, 4, ScalingReason.STEADY),
            (asked(45), 4, 5, ScalingReason.RAISED),
            (asked(4, stable=45), 4, 4, ScalingReason.STEADY),  # a peak that is over
            (asked(1000, stable=4), 1, 10, ScalingReason.STEP),
        ],
    )
    def test_replicas_follow_what_is_asked(self, view: TaskDemandView, present: int, replicas: int, reason: ScalingReason) -> None:
        assert at_once(demand(view), present=present) == (replicas, reason)

    def test_tasks_add_up_each_by_its_own_target(self) -> None:
        tasks = {"total": Scaling(), "vendor": Scaling(target_concurrency=2)}
        assert at_once(demand(asked(20), asked(6, task="vendor")), tasks=tasks) == (5, ScalingReason.STEP)

    def test_task_gets_no_more_than_its_maximum_beside_others(self) -> None:
        tasks = {"total": Scaling(max_replicas=2), "vendor": Scaling(max_replicas=8)}
        assert at_once(demand(asked(100), asked(10, task="vendor")), tasks=tasks) == (3, ScalingReason.STEP)
        assert at_once(demand(asked(100), asked(10, task="vendor")), tasks=tasks, present=3) == (3, ScalingReason.AT_MAXIMUM)

    def test_demand_of_a_task_that_is_no_member_counts_nothing(self) -> None:
        assert at_once(demand(asked(100, task="other"))) == (1, ScalingReason.NOT_IDLE)


class TestStartingPods:
    def test_queue_brings_half_as_many_pods_again_as_what_arrives_and_no_more(self) -> None:
        """Two and a half pods answer what arrives, and its queue within a window; 90 requests wait, which would be nine pods."""
        view = asked(90, stable=20, arrivals_per_second=3)
        assert at_once(demand(view), present=3, ready_replicas=1, pending_replicas=2) == (4, ScalingReason.STEP)
        assert at_once(demand(view), present=4, ready_replicas=1, pending_replicas=3) == (4, ScalingReason.STARTING)

    def test_more_arrivals_do(self) -> None:
        view = asked(90, stable=20, arrivals_per_second=6)
        assert at_once(demand(view), present=4, ready_replicas=1, pending_replicas=3) == (6, ScalingReason.STEP)

    def test_queue_counts_as_far_as_it_would_take_longer_than_a_window(self) -> None:
        view = asked(300, stable=20, arrivals_per_second=3)
        assert at_once(demand(view), present=4, ready_replicas=1, pending_replicas=3) == (7, ScalingReason.STEP)

    def test_stable_window_that_holds_a_queue_brings_no_more_either(self) -> None:
        view = asked(44, stable=90, arrivals_per_second=3)
        assert at_once(demand(view), present=4, ready_replicas=4, pending_replicas=0) == (4, ScalingReason.STEADY)
        assert at_once(demand(asked(90, arrivals_per_second=3)), present=8, ready_replicas=8) == (9, ScalingReason.RAISED)

    def test_queue_brings_nothing_for_spare_pods(self) -> None:
        view, scaling = asked(90, stable=20, arrivals_per_second=3), CLASS.model_copy(update={"spare_replicas": 2})
        assert at_once(demand(view), present=6, ready_replicas=1, pending_replicas=5, scaling=scaling) == (6, ScalingReason.STARTING)

    def test_queue_without_a_pod_on_its_way_brings_half_as_many_again_as_there_are(self) -> None:
        """However little arrives: answers may have become slow."""
        view = asked(90, stable=20, arrivals_per_second=0.5)
        assert at_once(demand(view), present=4) == (6, ScalingReason.STEP)

    def test_how_long_an_answer_takes_is_learned_while_nobody_waits(self) -> None:
        memory = after(60, demand(asked(6, arrivals_per_second=3))).memory
        assert memory.warmup.known == {"total": pytest.approx(2.0)}
        view = asked(90, stable=20, arrivals_per_second=12)
        waiting = snapshot(demand(view), present=3, ready_replicas=1, pending_replicas=2)
        assert decide(waiting, memory, now=later(1)).replicas == 4, (
            "12 a second for 2 s each are 24 at a time, and half as many empty the queue"
        )

    def test_nothing_is_learned_from_a_queue(self) -> None:
        queue = demand(asked(90, arrivals_per_second=3))
        memory = after(60, queue, present=3, ready_replicas=1, pending_replicas=2).memory
        assert memory.warmup.known == {}

    def test_pool_that_does_not_catch_up_gets_half_as_many_pods_again(self) -> None:
        view = demand(asked(90, arrivals_per_second=3))
        memory = decide(snapshot(view, present=3, ready_replicas=1, pending_replicas=2), ScalingMemory(), now=NOW).memory
        for seconds in range(5, 65, 5):
            decision = decide(snapshot(view, present=3), memory, now=later(seconds))
            memory = decision.memory
        assert (decision.replicas, decision.reason) == (5, ScalingReason.STEP)


class TestDown:
    def test_less_is_needed_but_not_for_long(self) -> None:
        assert at_once(demand(asked(10)), present=8) == (8, ScalingReason.DOWN_DELAYED)
        decision = after(115, demand(asked(10)), present=8)
        assert (decision.replicas, decision.reason) == (8, ScalingReason.DOWN_DELAYED)

    def test_lowered_after_the_delay_by_the_share_of_a_minute(self) -> None:
        assert settled(demand(asked(10)), present=8) == (4, ScalingReason.LOWERED)

    def test_eight_pods_that_share_one_pods_work_go_down_to_one(self) -> None:
        """A-15: sums, never averages."""
        memory, present = ScalingMemory(), 8
        for seconds in range(0, 600, 5):
            decision = decide(snapshot(demand(asked(10)), present=present), memory, now=later(seconds))
            memory, present = decision.memory, decision.replicas
        assert (present, decision.reason) == (1, ScalingReason.STEADY)

    def test_one_pod_at_least_may_go(self) -> None:
        assert settled(demand(asked(10)), present=2) == (1, ScalingReason.LOWERED)

    def test_peak_within_the_delay_holds(self) -> None:
        memory = after(180, demand(asked(10)), present=8).memory
        peak = decide(snapshot(demand(asked(79, stable=10)), present=8), memory, now=later(5))
        calm = decide(snapshot(demand(asked(10)), present=8), peak.memory, now=later(10))
        assert (calm.replicas, calm.reason) == (8, ScalingReason.DOWN_DELAYED)

    def test_autoscaler_that_did_not_look_for_long_begins_anew(self) -> None:
        memory = after(115, demand(asked(10)), present=8).memory
        decision = decide(snapshot(demand(asked(10)), present=8), memory, now=later(60))
        assert (decision.replicas, decision.reason) == (8, ScalingReason.DOWN_DELAYED)

    def test_clock_that_goes_back_takes_nothing_away(self) -> None:
        memory = after(180, demand(asked(10)), present=8).memory
        assert decide(snapshot(demand(asked(10)), present=8), memory, now=later(-3)).replicas == 8

    def test_nothing_goes_before_demand_was_heard_for_the_stable_window(self) -> None:
        assert settled(demand(asked(10), since=-30), present=8) == (8, ScalingReason.DOWN_DELAYED)

    def test_whole_share_and_no_delay_go_at_the_second_look(self) -> None:
        hasty = CLASS.model_copy(update={"scale_down_delay_seconds": 0, "max_scale_down_percent": 100})
        assert at_once(demand(asked(10)), present=8, scaling=hasty) == (8, ScalingReason.DOWN_DELAYED)
        decision = after(5, demand(asked(10)), present=8, scaling=hasty)
        assert (decision.replicas, decision.reason) == (1, ScalingReason.LOWERED)


class TestBounds:
    @pytest.mark.parametrize(
        ("tasks", "present", "expected"),
        [
            ({"total": Scaling(min_replicas=2)}, 1, (2, ScalingReason.AT_MINIMUM)),
            ({"total": Scaling(min_replicas=2)}, 0, (2, ScalingReason.AT_MINIMUM)),
            ({"total": Scaling(min_replicas=2)}, 2, (2, ScalingReason.AT_MINIMUM)),
            ({"total": Scaling(max_replicas=3)}, 8, (3, ScalingReason.AT_MAXIMUM)),
            ({"total": Scaling(), "vendor": Scaling(min_replicas=4)}, 1, (4, ScalingReason.AT_MINIMUM)),
            ({"total": Scaling(min_replicas=20)}, 1, (20, ScalingReason.AT_MINIMUM)),  # the class's maximum is a default
            ({"total": Scaling(), "vendor": None}, 3, (3, ScalingReason.FROZEN)),
            ({"total": None}, 0, (0, ScalingReason.AT_ZERO)),
        ],
    )
    def test_bounds_hold_without_any_demand(
        self, tasks: dict[str, Scaling | None], present: int, expected: tuple[int, ScalingReason]
    ) -> None:
        assert at_once(demand(), tasks=tasks, present=present) == expected

    def test_maximum_that_was_lowered_is_kept_to_though_demand_is_not_known(self) -> None:
        assert at_once(None, tasks={"total": Scaling(max_replicas=3)}, present=8) == (3, ScalingReason.AT_MAXIMUM)

    def test_frozen_task_that_is_asked_for_wakes_its_pool(self) -> None:
        assert at_once(demand(asked(0, held=1)), tasks={"total": None}, present=0) == (1, ScalingReason.WOKEN)


def hours(start: int, end: int, replicas: int, *, name: str = "hours") -> Schedule:
    """On each day, in UTC; NOW is noon."""
    return Schedule(name=name, start=f"0 {start} * * *", end=f"0 {end} * * *", min_replicas=replicas)


class TestSchedules:
    ACTIVE, OVER = hours(8, 18, 3), hours(8, 11, 3)

    @pytest.mark.parametrize(
        ("tasks", "present", "expected"),
        [
            ({"total": Scaling(schedules=[ACTIVE])}, 1, (3, ScalingReason.SCHEDULED)),
            ({"total": Scaling(schedules=[ACTIVE])}, 0, (3, ScalingReason.SCHEDULED)),
            ({"total": Scaling(schedules=[ACTIVE])}, 3, (3, ScalingReason.SCHEDULED)),
            ({"total": Scaling(schedules=[OVER])}, 0, (0, ScalingReason.AT_ZERO)),
            ({"total": Scaling(schedules=[ACTIVE, hours(11, 13, 5, name="lunch")])}, 1, (5, ScalingReason.SCHEDULED)),
            ({"total": Scaling(schedules=[ACTIVE]), "vendor": Scaling(schedules=[hours(9, 17, 4)])}, 1, (4, ScalingReason.SCHEDULED)),
            ({"total": Scaling(min_replicas=4, schedules=[ACTIVE])}, 1, (4, ScalingReason.AT_MINIMUM)),
            ({"total": Scaling(schedules=[ACTIVE]), "vendor": Scaling(min_replicas=3)}, 1, (3, ScalingReason.AT_MINIMUM)),
            ({"total": Scaling(max_replicas=2, schedules=[ACTIVE])}, 1, (2, ScalingReason.SCHEDULED)),  # refused on admission
            ({"total": Scaling(schedules=[hours(8, 18, 20)])}, 1, (20, ScalingReason.SCHEDULED)),  # the class's maximum is a default
            ({"total": None}, 0, (0, ScalingReason.AT_ZERO)),
            ({"total": Scaling(schedules=[ACTIVE]), "vendor": None}, 5, (5, ScalingReason.FROZEN)),
        ],
    )
    def test_greater_of_minimum_and_schedule_holds(
        self, tasks: dict[str, Scaling | None], present: int, expected: tuple[int, ScalingReason]
    ) -> None:
        assert at_once(demand(), tasks=tasks, present=present) == expected

    def test_more_is_had_where_more_is_needed_and_the_floor_is_told_all_the_same(self) -> None:
        decision = decide(snapshot(demand(asked(45)), tasks={"total": Scaling(schedules=[self.ACTIVE])}), ScalingMemory(), now=NOW)
        assert (decision.replicas, decision.reason) == (5, ScalingReason.STEP)
        assert decision.floor == ScalingFloor(
            replicas=3, source=FloorSource.SCHEDULE, task_model="total", schedule="hours", until="2026-01-01T18:00:00Z"
        )

    def test_message_names_schedule_task_and_end(self) -> None:
        tasks: dict[str, Scaling | None] = {"total": Scaling(schedules=[self.ACTIVE])}
        said = "schedule hours of total keeps 3 until 18:00 Etc/UTC"
        woken = decide(snapshot(demand(), tasks=tasks, present=0), ScalingMemory(), now=NOW)
        assert woken.message == f"woken from zero to 3: {said}; no request in the last 60 s"
        decision = decide(snapshot(demand(asked(4)), tasks=tasks, present=3), ScalingMemory(), now=NOW)
        assert decision.message == f"{said}; 4.0 requests at a time over the last 60 s need 0.40 pods at targetConcurrency 10"

    def test_it_is_to_be_looked_at_again_at_the_next_edge_of_any_task(self) -> None:
        tasks = {"total": Scaling(schedules=[self.ACTIVE, hours(20, 22, 1)]), "vendor": Scaling(schedules=[hours(17, 19, 1)])}
        assert decide(snapshot(demand(), tasks=tasks), ScalingMemory(), now=NOW).edge == later(5 * 3600)
        assert decide(snapshot(demand()), ScalingMemory(), now=NOW).edge is None

    def test_what_was_worked_out_holds_until_the_edge_or_another_schedule(self) -> None:
        first = decide(snapshot(demand(), tasks={"total": Scaling(schedules=[self.ACTIVE])}), ScalingMemory(), now=NOW)
        again = decide(snapshot(demand(), tasks={"total": Scaling(schedules=[self.ACTIVE])}), first.memory, now=later(3600))
        assert again.memory.timetables["total"] is first.memory.timetables["total"]
        changed = decide(snapshot(demand(), tasks={"total": Scaling(schedules=[hours(8, 18, 4)])}), first.memory, now=later(3600))
        assert changed.replicas == 4
        over = decide(snapshot(demand(), present=3, tasks={"total": Scaling(schedules=[self.ACTIVE])}), first.memory, now=later(6 * 3600))
        assert over.floor is None

    def test_nothing_is_asked_of_another_autoscaler(self) -> None:
        external = CLASS.model_copy(update={"autoscaler": Autoscaler.EXTERNAL})
        tasks: dict[str, Scaling | None] = {"total": Scaling(schedules=[self.ACTIVE])}
        assert at_once(demand(), tasks=tasks, scaling=external) == (1, ScalingReason.EXTERNAL)


class TestDemandUnknown:
    def test_nothing_is_taken_away(self) -> None:
        assert settled(demand(asked(10), complete=False), present=8) == (8, ScalingReason.DEMAND_UNKNOWN)
        assert settled(None, present=8) == (8, ScalingReason.DEMAND_UNKNOWN)

    def test_last_pod_stays(self) -> None:
        assert settled(demand(asked(0, last=-3000), complete=False)) == (1, ScalingReason.DEMAND_UNKNOWN)

    def test_what_is_known_raises(self) -> None:
        assert at_once(demand(asked(35), complete=False)) == (4, ScalingReason.STEP)
        assert at_once(demand(asked(0, held=3), complete=False), present=0) == (1, ScalingReason.WOKEN)

    def test_delay_begins_when_all_are_heard_again(self) -> None:
        memory = after(180, demand(asked(10), complete=False), present=8).memory
        decision = decide(snapshot(demand(asked(10)), present=8), memory, now=later(5))
        assert (decision.replicas, decision.reason) == (8, ScalingReason.DOWN_DELAYED)


class TestZero:
    def test_every_task_idle_for_its_seconds_puts_the_pool_to_sleep(self) -> None:
        assert settled(demand(asked(0, last=-61))) == (0, ScalingReason.AT_ZERO)

    @pytest.mark.parametrize(
        ("found", "fields"),
        [
            (demand(asked(0, last=-59)), {}),
            (demand(asked(0, last=-61), asked(0, last=-59, task="vendor")), {"tasks": {"total": Scaling(), "vendor": Scaling()}}),
            (demand(asked(0, last=-61)), {"tasks": {"total": Scaling(idle_seconds=600)}}),
            (demand(asked(0, last=-3000), since=-59), {}),  # nobody can say what was before
            (demand(since=-59), {}),
            (demand(asked(0, last=-61), at_pods=1), {}),  # somebody is answered of whom no gateway knows
            (demand(asked(0.01, stable=0, last=-61)), {}),
        ],
    )
    def test_last_pod_stays_while_something_speaks_for_it(self, found: PoolDemand, fields: dict[str, Any]) -> None:
        assert settled(found, **fields)[0] == 1

    def test_task_that_was_never_asked_for_is_idle_since_demand_is_known(self) -> None:
        assert settled(demand(since=-61)) == (0, ScalingReason.AT_ZERO)

    def test_rollout_keeps_awake_and_wakes(self) -> None:
        assert settled(demand(), awake_because="total-2 is a candidate") == (1, ScalingReason.KEPT_AWAKE)
        assert at_once(demand(), awake_because="total-2 is a candidate", present=0) == (1, ScalingReason.KEPT_AWAKE)
        assert at_once(None, awake_because="total-2 is a candidate", present=0) == (1, ScalingReason.KEPT_AWAKE)

    def test_rollout_holds_no_second_pod(self) -> None:
        assert settled(demand(asked(0, last=-300)), awake_because="total-2 is a candidate", present=2) == (1, ScalingReason.LOWERED)

    def test_minimum_lets_nobody_sleep(self) -> None:
        assert settled(demand(), tasks={"total": Scaling(), "vendor": Scaling(min_replicas=1)}) == (1, ScalingReason.AT_MINIMUM)

    def test_pods_go_one_minute_after_the_other_before_the_last(self) -> None:
        memory, present, way = ScalingMemory(), 4, []
        for seconds in range(0, 600, 5):
            decision = decide(snapshot(demand(), present=present), memory, now=later(seconds))
            if decision.replicas != present:
                way.append((seconds, decision.replicas))
            memory, present = decision.memory, decision.replicas
        assert way == [(120, 2), (180, 1), (240, 0)]

    @pytest.mark.parametrize(("held", "replicas"), [(1, 1), (11, 1), (12, 2), (50, 5), (5000, 10)])
    def test_waking_asks_for_as_many_as_wait(self, held: int, replicas: int) -> None:
        assert at_once(demand(asked(0, held=held)), present=0) == (replicas, ScalingReason.WOKEN)

    def test_nobody_waits_and_the_pool_sleeps_on(self) -> None:
        assert at_once(demand(asked(0, stable=0.4, last=-20)), present=0) == (0, ScalingReason.AT_ZERO)
        assert at_once(None, present=0) == (0, ScalingReason.AT_ZERO)


class TestExternal:
    EXTERNAL = CLASS.model_copy(update={"autoscaler": Autoscaler.EXTERNAL})

    @pytest.mark.parametrize("present", [0, 3, 50])
    def test_present_replicas_stay_whatever_is_asked(self, present: int) -> None:
        assert settled(demand(asked(500, held=9)), scaling=self.EXTERNAL, present=present) == (present, ScalingReason.EXTERNAL)

    def test_what_was_seen_before_is_forgotten(self) -> None:
        memory = after(180, demand(asked(10)), present=8).memory
        external = decide(snapshot(demand(asked(10)), present=8, scaling=self.EXTERNAL), memory, now=later(1))
        assert external.memory == ScalingMemory()


class TestSpare:
    SPARE = CLASS.model_copy(update={"spare_replicas": 2})

    @pytest.mark.parametrize(
        ("view", "present", "replicas", "reason"),
        [
            (asked(0), 0, 2, ScalingReason.SPARE),  # a sleeping pool gets its spare ones
            (asked(0), 1, 2, ScalingReason.SPARE),  # and so does one that is new: no step of anybody's requests
            (asked(0), 2, 2, ScalingReason.SPARE),  # and keeps them
            (asked(0), 4, 4, ScalingReason.DOWN_DELAYED),
            (asked(2), 2, 2, ScalingReason.SPARE),  # within the tolerance
            (asked(5), 2, 3, ScalingReason.RAISED),  # half a pod's work, and two more
            (asked(6), 2, 3, ScalingReason.STEP),
            (asked(30), 5, 5, ScalingReason.SPARE),
            (asked(95), 9, 10, ScalingReason.RAISED),
            (asked(95), 10, 10, ScalingReason.STEADY),  # as many as there may be, and all needed
            (asked(85), 10, 10, ScalingReason.SPARE),  # one of them is not
            (asked(0, held=3), 0, 3, ScalingReason.WOKEN),
        ],
    )
    def test_is_beyond_what_is_asked(self, view: TaskDemandView, present: int, replicas: int, reason: ScalingReason) -> None:
        assert at_once(demand(view), present=present, scaling=self.SPARE) == (replicas, reason)

    def test_is_what_a_pool_comes_down_to(self) -> None:
        assert settled(demand(asked(0, last=-3600)), present=3, scaling=self.SPARE) == (2, ScalingReason.LOWERED)

    def test_counts_to_the_minimum(self) -> None:
        found = at_once(demand(asked(0)), present=3, scaling=self.SPARE, tasks={"total": Scaling(min_replicas=3)})
        assert found == (3, ScalingReason.AT_MINIMUM)

    @pytest.mark.parametrize("most", [1, 2])
    def test_is_not_beyond_the_maximum(self, most: int) -> None:
        tasks = {"total": Scaling(max_replicas=most)}
        assert at_once(demand(asked(0)), present=1, scaling=self.SPARE, tasks=tasks)[0] == most

    def test_is_kept_while_a_gateway_is_not_heard(self) -> None:
        assert at_once(demand(asked(0), complete=False), present=2, scaling=self.SPARE) == (2, ScalingReason.DEMAND_UNKNOWN)

    def test_is_nothing_of_a_suspended_task(self) -> None:
        assert at_once(demand(asked(0)), present=0, scaling=self.SPARE, tasks={"total": None})[0] == 0
