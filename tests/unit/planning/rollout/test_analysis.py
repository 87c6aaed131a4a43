"""What live traffic comes to: tables of cases, a property, and how often chance alone would roll a good version back."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.api.measurements import latency_bucket
from taskfleet.api.taskmodel import Analysis
from taskfleet.planning.rollout.analysis import LEAST_CASES, Judgement, Outcome, judge
from taskfleet.planning.rollout.statistics import difference_lower_bound, latency_ratio, share_bounds
from taskfleet.planning.snapshot import Evidence, Window
from tests.unit.planning.builders import NOW

POLICY = Analysis()  # 2 % errors, 150 % latency, 20 requests, an hour


def window(requests: int, errors: int = 0, *, seconds: float = 0.1, **more: int) -> Window:
    answers = requests - errors
    bucket = latency_bucket(seconds)
    around = {bucket - 1: answers // 4, bucket: answers - 2 * (answers // 4), bucket + 1: answers // 4}
    return Window(requests=requests, errors=errors, latency={where: count for where, count in around.items() if count}, **more)


def judged(
    candidate: Window,
    stable: Window,
    *,
    policy: Analysis = POLICY,
    held: float = 60,
    shadow: Window | None = None,
    complete: bool = True,
    mirrored: bool = False,
) -> Judgement:
    evidence = Evidence(
        since=NOW - timedelta(seconds=held), candidate=candidate, stable=stable, shadow=shadow or Window(), complete=complete
    )
    return judge(evidence, policy, held_seconds=held, hold_seconds=60, shadow=mirrored)


@pytest.mark.parametrize(
    ("candidate", "stable", "more", "outcome"),
    [
        (window(100), window(900), {}, Outcome.PASS),
        (window(100), window(900), {"held": 59.0}, Outcome.WAIT),
        (window(100), window(900), {"complete": False}, Outcome.WAIT),
        (window(100, 40), window(900), {"complete": False}, Outcome.BREACH),
        (window(19), window(900), {}, Outcome.WAIT),
        (window(19), window(900), {"held": 3600.0}, Outcome.NO_TRAFFIC),
        (window(0), window(0), {"held": 3600.0}, Outcome.NO_TRAFFIC),
        # One error in twenty requests is no verdict, and two in twenty are none.
        (window(20, 1), window(900), {}, Outcome.WAIT),
        (window(20, 2), window(900), {}, Outcome.WAIT),
        (window(20, 1), window(900), {"held": 3600.0}, Outcome.INCONCLUSIVE),
        (window(20, 4), window(900), {}, Outcome.BREACH),
        (window(20, 4), window(900), {"held": 1.0}, Outcome.BREACH),
        (window(4, 3), window(900), {"held": 1.0}, Outcome.BREACH),
        # What fails both alike is no fault of the candidate, and no reason to give it more.
        (window(100, 30), window(900, 270), {}, Outcome.WAIT),
        (window(100, 31), window(900, 270), {}, Outcome.WAIT),
        (window(100, 90), window(900, 270), {}, Outcome.BREACH),
        (window(200, 3), window(900), {}, Outcome.PASS),
        (window(100, seconds=0.3), window(900), {}, Outcome.BREACH),
        (window(100, seconds=0.12), window(900), {}, Outcome.PASS),
        # Too few latencies to compare, and enough requests to go on with nothing against it.
        (window(9, seconds=3.0), window(900), {"policy": Analysis(min_requests=5)}, Outcome.PASS),
        (window(100, checked=100, invalid=20), window(900, checked=900), {}, Outcome.BREACH),
        (window(100, checked=100, invalid=20), window(900, checked=900, invalid=180), {}, Outcome.WAIT),
        (window(100, good=1, bad=9), window(900, good=90, bad=1), {}, Outcome.BREACH),
        (window(100, good=0, bad=2), window(900, good=90, bad=1), {}, Outcome.WAIT),
    ],
)
def test_verdict(candidate: Window, stable: Window, more: dict[str, Any], outcome: Outcome) -> None:
    found = judged(candidate, stable, **more)
    assert found.outcome is outcome, found


def test_requests_that_others_answered_for_it_say_nothing() -> None:
    """All its pods refuse: the stable revision answers, and nobody sees an error."""
    assert judged(Window(requests=500), window(900), held=3600).outcome is Outcome.NO_TRAFFIC


def test_nothing_measured_is_never_a_pass() -> None:
    for held in (1.0, 60.0, 3600.0, 1e7):
        assert judge(None, POLICY, held_seconds=held, hold_seconds=60, shadow=False).outcome in {Outcome.WAIT, Outcome.INCONCLUSIVE}


def test_mirrored_answers_are_judged_on_a_shadow_step() -> None:
    policy = Analysis(min_agreement_percent=80)
    agreeing = window(100, compared=100, agreed=95)
    assert judged(Window(), window(900), shadow=agreeing, mirrored=True, policy=policy).outcome is Outcome.PASS
    other = window(100, compared=100, agreed=40)
    found = judged(Window(), window(900), shadow=other, mirrored=True, policy=policy)
    assert found.outcome is Outcome.BREACH
    assert "60 of 100" in found.message
    assert judged(Window(), window(900), shadow=other, mirrored=True).outcome is Outcome.PASS, "nobody asked for agreement"


def test_message_has_the_figures_of_both() -> None:
    found = judged(window(50, 10), window(450, 1))
    assert found.message == "20.0 % of requests failed (10 of 50; of the stable revision's 1 of 450; 2 % is allowed)"


@given(
    requests=st.integers(1, 2000),
    errors=st.integers(0, 2000),
    more=st.integers(0, 50),
    stable=st.integers(0, 2000),
    stable_errors=st.integers(0, 2000),
)
def test_more_errors_never_turn_a_breach_into_something_better(
    requests: int, errors: int, more: int, stable: int, stable_errors: int
) -> None:
    errors, stable_errors = min(errors, requests), min(stable_errors, stable)
    worse = min(errors + more, requests)
    beside = window(stable, stable_errors)
    before, after = judged(window(requests, errors), beside), judged(window(requests, worse), beside)
    assert errors >= LEAST_CASES or "of requests failed" not in before.message or before.outcome is not Outcome.BREACH
    if before.outcome is Outcome.BREACH and "of requests failed" in before.message:
        assert after.outcome is Outcome.BREACH


def rolled_back(rng: random.Random, *, error_share: float, stable_share: float, requests: int = 400) -> bool:
    """Looked at after every request, as the operator does."""
    errors = stable_errors = 0
    for seen in range(1, requests + 1):
        errors += rng.random() < error_share
        stable_errors += rng.random() < stable_share
        if errors >= LEAST_CASES and judged(window(seen, errors), window(seen, stable_errors), held=1).outcome is Outcome.BREACH:
            return True
    return False


def test_chance_rolls_few_good_versions_back_and_bad_ones_are_found() -> None:
    rng = random.Random(11)  # noqa: S311  a simulation
    rounds = 150
    false_alarms = sum(rolled_back(rng, error_share=0.01, stable_share=0.01) for _ in range(rounds))
    found = sum(rolled_back(rng, error_share=0.15, stable_share=0.01) for _ in range(rounds))
    assert false_alarms <= rounds * 0.04, false_alarms
    assert found >= rounds * 0.99, found


def test_bounds_of_shares_are_those_of_the_formula() -> None:
    """10 of 100 by hand: centre 0.12489, spread 0.07886."""
    assert share_bounds(10, 100) == pytest.approx((0.0460, 0.2037), abs=1e-4)
    assert share_bounds(0, 0) == (0.0, 1.0)
    assert share_bounds(0, 20)[0] == 0.0


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 500), st.integers(1, 500))
def test_difference_bound_is_below_the_difference(hits: int, total: int, other_hits: int, other_total: int) -> None:
    hits, other_hits = min(hits, total), min(other_hits, other_total)
    bound = difference_lower_bound(hits, total, other_hits, other_total)
    assert -1 - 1e-9 <= bound <= hits / total - other_hits / other_total + 1e-9


def test_ratio_of_equal_latencies_is_one_and_its_bound_is_below() -> None:
    ratio, lower = latency_ratio(window(100).latency, window(100).latency)
    assert ratio == pytest.approx(1.0)
    assert 0.7 < lower < 1.0
    assert latency_ratio(window(100, seconds=0.2).latency, window(100).latency)[0] == pytest.approx(2.0, rel=0.15)
