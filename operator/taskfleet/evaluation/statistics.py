"""How sure the difference between two revisions is, from their scores on the same examples.

The interval is the expanded percentile bootstrap of the mean difference over pairs: resampling keeps pairs together, asks nothing of the scores but that they are bounded, and
gives [0, 0] where every pair ties; a candidate that is nowhere worse has no lower bound below 0. The plain percentile interval is too narrow for small samples; taking its
quantiles further out, as far as Student's t lies beyond the normal distribution, makes up for that. Source: T. Hesterberg, "What Teachers Should Know About the Bootstrap",
The American Statistician 69 (2015), section 4.3.1 and 5.2.

Above BOOTSTRAP_PAIRS the mean is as good as normally distributed, and Student's interval comes to the same for less work.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

CONFIDENCE = 0.95
RESAMPLES = 2000
BOOTSTRAP_PAIRS = 2000
# The same report twice has the same bounds.
_SEED = 20240229


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the differences, and the bounds of its confidence interval. Scores of 0 to 1 make differences of -1 to 1."""

    mean: float
    lower: float
    upper: float


def paired_difference(candidate: Sequence[float], stable: Sequence[float], *, resamples: int = RESAMPLES) -> Difference:
    """Of the candidate's scores less the stable one's, example by example. One pair alone that doesn't tie says nothing: the interval is [-1, 1].

    Raises ValueError for no pairs, or scores that don't pair.
    """
    differences = [one - other for one, other in zip(candidate, stable, strict=True)]
    if not differences:
        raise ValueError("no pairs")
    mean = fmean(differences)
    if all(difference == differences[0] == 0 for difference in differences):
        return Difference(0.0, 0.0, 0.0)
    if len(differences) == 1:
        return Difference(mean, -1.0, 1.0)
    lower, upper = _student(differences) if len(differences) > BOOTSTRAP_PAIRS else _bootstrap(differences, resamples)
    # A quantile of resamples lies beside the mean where hardly any of them differ from it.
    return Difference(mean, max(-1.0, min(lower, mean)), min(1.0, max(upper, mean)))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them don't exceed (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def _student(differences: Sequence[float]) -> tuple[float, float]:
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    reach = student_t(len(differences) - 1) * error
    return mean - reach, mean + reach


def _bootstrap(differences: Sequence[float], resamples: int) -> tuple[float, float]:
    count = len(differences)
    draw = random.Random(_SEED)  # noqa: S311  (statistics, not secrets)
    means = sorted(fmean(draw.choices(differences, k=count)) for _ in range(resamples))
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * student_t(count - 1))
    cut = min(math.floor(resamples * tail), resamples - 1)
    return means[cut], means[-1 - cut]


def student_t(freedom: int) -> float:
    """The quantile of Student's t that leaves half of 1 - CONFIDENCE above it: the expansion about the normal quantile, good to 1 % from 3 degrees of freedom on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    # Each is to be divided by one more power of the degrees of freedom.
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / math.pow(freedom, power) for power, term in enumerate(terms, start=1))
