"""Choices of revision and pod: shares, stability, little movement, bounded loads."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.pick import FLOOR, pick_pod, pick_revision
from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.routes import Target
from tests.unit.gateway.builders import revision

CONVERSATIONS = [f"conversation {number}" for number in range(2000)]


def target(name: str, weight: int) -> Target:
    return Target(revision=revision(name), pool="p", weight=weight, model=name)


def shares(*targets: Target) -> Counter[str]:
    picks = (pick_revision(targets, conversation) for conversation in CONVERSATIONS)
    return Counter(pick.model if pick else "" for pick in picks)


def pods(count: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"10.0.0.{number}:8080", "uid") for number in range(count))


@pytest.mark.parametrize("weight", [1, 10, 50, 90])
def test_share_of_a_candidate_is_its_weight(weight: int) -> None:
    for name in ("candidate", "another", "third"):
        counts = shares(target("stable", 100 - weight), target(name, weight))
        assert abs(counts[name] / len(CONVERSATIONS) - weight / 100) < 0.02


def test_three_targets_have_their_shares() -> None:
    counts = shares(target("stable", 60), target("second", 30), target("third", 10))
    for name, weight in (("stable", 0.6), ("second", 0.3), ("third", 0.1)):
        assert abs(counts[name] / len(CONVERSATIONS) - weight) < 0.04


def test_target_without_weight_is_never_picked() -> None:
    assert shares(target("stable", 100), target("candidate", 0)) == Counter(stable=len(CONVERSATIONS))
    assert shares(target("stable", 0), target("candidate", 100)) == Counter(candidate=len(CONVERSATIONS))
    assert pick_revision((target("stable", 0),), "x") is None


def test_growing_weight_keeps_who_was_with_the_candidate() -> None:
    members: set[str] = set()
    for weight in (1, 10, 50, 90, 100):
        targets = (target("stable", 100 - weight), target("candidate", weight))
        now = {one for one in CONVERSATIONS if (picked := pick_revision(targets, one)) and picked.model == "candidate"}
        assert members < now
        members = now


def test_next_candidate_draws_other_conversations_first() -> None:
    drawn = []
    for name in ("candidate", "next"):
        targets = (target("stable", 90), target(name, 10))
        drawn.append({one for one in CONVERSATIONS if (picked := pick_revision(targets, one)) and picked.model == name})
    assert len(drawn[0] & drawn[1]) < 0.25 * len(drawn[0])


def test_adapter_stays_on_one_pod_at_small_loads() -> None:
    picked = {pick_pod("adapter", pods(8), {}, ()) for _ in range(20)}
    assert len(picked) == 1


def test_adapters_spread_over_pods() -> None:
    picked = Counter(pick_pod(f"adapter-{number}", pods(4), {}, ()) for number in range(400))
    assert len(picked) == 4
    assert min(picked.values()) > 60


def test_busy_pod_hands_over_to_the_next() -> None:
    first = pick_pod("adapter", pods(4), {}, ())
    assert first is not None
    second = pick_pod("adapter", pods(4), {first.address: FLOOR + 10}, ())
    assert second is not None
    assert second != first


def test_pod_that_goes_moves_only_its_own_adapters() -> None:
    for number in range(300):
        before, after = pick_pod(f"adapter-{number}", pods(5), {}, ()), pick_pod(f"adapter-{number}", pods(4), {}, ())
        assert before is not None
        if before in pods(4):
            assert after == before


def test_nothing_is_picked_where_all_are_excluded() -> None:
    assert pick_pod("adapter", pods(2), {}, {endpoint.address for endpoint in pods(2)}) is None
    assert pick_pod("adapter", pods(1), {}, {pods(1)[0].address}) is None
    assert pick_pod("adapter", (), {}, ()) is None


@given(st.integers(1, 8), st.lists(st.integers(0, 50), min_size=8, max_size=8), st.sets(st.integers(0, 7)), st.text(max_size=5))
def test_pick_is_never_excluded_and_never_above_the_bound(count: int, load: list[int], gone: set[int], model: str) -> None:
    endpoints = pods(count)
    in_flight = {endpoint.address: load[number] for number, endpoint in enumerate(endpoints)}
    excluded = {endpoint.address for number, endpoint in enumerate(endpoints) if number in gone}
    picked = pick_pod(model, endpoints, in_flight, excluded)
    left = [endpoint for endpoint in endpoints if endpoint.address not in excluded]
    assert (picked is None) == (not left)
    if picked is not None and len(left) > 1:
        mean = sum(in_flight[endpoint.address] for endpoint in left) / len(left)
        assert in_flight[picked.address] <= max(FLOOR, 1.25 * mean + 2.5)
