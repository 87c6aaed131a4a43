"""The interval holds the true difference as often as it says, and ties are no doubt."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.evaluation.statistics import BOOTSTRAP_PAIRS, Difference, paired_difference, percentile, student_t

SCORES = st.floats(0, 1)


def drawing(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  (statistics, not secrets)


@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("pairs", [1, 2, 50, BOOTSTRAP_PAIRS + 1])
def test_ties_leave_no_doubt(score: float, pairs: int) -> None:
    assert paired_difference([score] * pairs, [score] * pairs) == Difference(0, 0, 0)


def test_one_pair_says_nothing() -> None:
    assert paired_difference([1.0], [0.0]) == Difference(1, -1, 1)


def test_nowhere_worse_has_no_doubt_below_nought() -> None:
    found = paired_difference([1.0] * 50, [0.0, *[1.0] * 49])
    assert found.mean == pytest.approx(0.02)
    assert found.lower == 0


def test_no_pairs_and_unpaired_scores_are_refused() -> None:
    cases: tuple[tuple[list[float], list[float]], ...] = (([], []), ([1.0], []))
    for candidate, stable in cases:
        with pytest.raises(ValueError, match=r"no pairs|zip"):
            paired_difference(candidate, stable)


def test_the_same_scores_have_the_same_bounds() -> None:
    draw = drawing(1)
    one, other = [draw.random() for _ in range(60)], [draw.random() for _ in range(60)]
    assert paired_difference(one, other) == paired_difference(one, other)


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=30))
def test_bounds_hold_the_mean_and_turn_with_the_sides(pairs: list[tuple[float, float]]) -> None:
    one, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = paired_difference(one, other, resamples=50)
    assert -1 <= found.lower <= found.mean <= found.upper <= 1
    assert paired_difference(other, one, resamples=50).mean == pytest.approx(-found.mean)


Pair = Callable[[random.Random], tuple[float, float]]


def right_or_wrong(draw: random.Random) -> tuple[float, float]:
    """Right in 85 % and 80 %, mostly of the same examples: a true difference of 0.05."""
    chance = draw.random()
    both, only_one, only_other = 0.7, 0.15, 0.1
    return (
        float(chance < both + only_one),
        float(chance < both or both + only_one <= chance < both + only_one + only_other),
    )


def shares(draw: random.Random) -> tuple[float, float]:
    """Skewed shares, as FieldF1 gives them, of 3/4 and 2/3 in the mean."""
    return draw.betavariate(3, 1), draw.betavariate(2, 1)


@pytest.mark.parametrize(("pair", "true"), [(right_or_wrong, 0.05), (shares, 3 / 4 - 2 / 3)])
@pytest.mark.parametrize("pairs", [20, 60])
def test_interval_covers_the_true_difference_as_often_as_it_says(pair: Pair, true: float, pairs: int) -> None:
    draw = drawing(7)
    rounds, held = 400, 0
    for _ in range(rounds):
        drawn = [pair(draw) for _ in range(pairs)]
        found = paired_difference([one for one, _ in drawn], [other for _, other in drawn], resamples=200)
        held += found.lower <= true <= found.upper
    # 95 %, less two standard errors of a share of 400 rounds and what so few resamples cost.
    assert held / rounds >= 0.92


def test_large_samples_have_students_interval() -> None:
    draw = drawing(3)
    drawn = [right_or_wrong(draw) for _ in range(BOOTSTRAP_PAIRS)]
    one, other = [pair[0] for pair in drawn], [pair[1] for pair in drawn]
    below, above = paired_difference(one, other), paired_difference([*one, *one[:1]], [*other, *other[:1]])
    assert below.lower == pytest.approx(above.lower, abs=0.002)
    assert below.upper == pytest.approx(above.upper, abs=0.002)


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_quantiles_of_student_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (95, 4), (1, 1)])
def test_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == value
    assert percentile([], percent) == 0
