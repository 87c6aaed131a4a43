"""A rollout by its events alone: what `kubectl describe` shows, told once."""

from collections.abc import Callable

import pytest

from tests.unit.planning.fleet import Fleet
from tests.unit.planning.rollout import test_stories as stories

WORK = {"WaitingForPool", "Serving"}  # of the summary, whatever is rolled


def told(story: Fleet, name: str = "total") -> list[str]:
    """Type and reason of each event about the task."""
    words = [line.split() for line in story.transcript if line.startswith(f"   event tm {name}: ")]
    return [f"{kind} {reason.rstrip(':')}" for _, _, _, kind, reason, *_ in words if reason.rstrip(":") not in WORK]


BEGUN = ["Normal RolloutStarted"]
STEPS = [*BEGUN, "Normal GatePassed", "Normal StepReached", "Normal StepReached"]


@pytest.mark.parametrize(
    ("story", "events"),
    [
        (stories.first_version_passes_its_gate, [*BEGUN, "Normal GatePassed", "Normal Promoted"]),
        (stories.good_version, [*STEPS, "Normal Promoted"]),
        (stories.errors_at_half_of_the_traffic, [*STEPS, "Warning RolledBack"]),
        (stories.undone, [*STEPS, "Normal Promoted", "Warning RolledBack", "Normal TrafficSwitched"]),
        (stories.back_within_the_window, [*BEGUN, "Normal Promoted"]),
        (stories.superseded, [*STEPS, *STEPS, "Normal Promoted"]),
        (stories.back_to_the_stable_version, [*STEPS, "Normal TrafficSwitched"]),
        (stories.gate_fails, [*BEGUN, "Warning GateFailed", *STEPS, "Normal Promoted"]),
        (
            stories.aborted_and_retried,
            [*STEPS[:3], "Warning RolledBack", *STEPS, "Normal Promoted"],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_fact_of_a_rollout_is_told_once(story: Callable[[], Fleet], events: list[str]) -> None:
    assert told(story()) == events


def test_rollback_is_told_with_its_figures() -> None:
    (line,) = [line for line in stories.errors_at_half_of_the_traffic().transcript if "Warning RolledBack" in line]
    assert "was rolled back at step 2 of 2: 20.0 % of requests failed (11 of 55; of the stable revision's 0 of 55; 2 % is allowed)" in line
