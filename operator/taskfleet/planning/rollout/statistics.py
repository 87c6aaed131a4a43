"""Confidence bounds for shares and for latencies that were counted in buckets.

All bounds are one-sided, at 99.5 %. Shares: Wilson's score interval (E. B. Wilson, 1927), which also holds for few observations and for shares near 0, and for differences
Newcombe's hybrid of two of them (R. G. Newcombe, Statistics in Medicine 17, 1998, method 10). Latencies: the ratio of geometric means by Welch's formula on logarithms.
"""

import math
from collections.abc import Mapping

from taskfleet.api.measurements import LATENCY_BOUNDS_SECONDS

# The 99.5th percentile of the normal distribution: a step is judged again with every few requests, and at the 95th chance alone rolled one good version in seven back.
_Z = 2.5758
_BUCKET_WIDTH = math.log(LATENCY_BOUNDS_SECONDS[1] / LATENCY_BOUNDS_SECONDS[0])


def share_bounds(hits: int, total: int) -> tuple[float, float]:
    """Lower and upper bound of a share of which `hits` in `total` were seen; 0 and 1 where nothing was."""
    if total == 0:
        return 0.0, 1.0
    share, squared = hits / total, _Z * _Z
    centre = share + squared / (2 * total)
    spread = _Z * math.sqrt(share * (1 - share) / total + squared / (4 * total * total))
    scale = 1 + squared / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def difference_lower_bound(hits: int, total: int, other_hits: int, other_total: int) -> float:
    """Lower bound of the first share less the other one."""
    share, lower = _share(hits, total), share_bounds(hits, total)[0]
    other, upper = _share(other_hits, other_total), share_bounds(other_hits, other_total)[1]
    return share - other - math.hypot(share - lower, upper - other)


def latency_ratio(one: Mapping[int, int], other: Mapping[int, int]) -> tuple[float, float]:
    """The ratio of two geometric means, and its lower bound; both histograms (bucket → count) have two observations at least."""
    mean, variance = _moments(one)
    other_mean, other_variance = _moments(other)
    error = math.sqrt(variance / sum(one.values()) + other_variance / sum(other.values()))
    return math.exp(mean - other_mean), math.exp(mean - other_mean - _Z * error)


def _share(hits: int, total: int) -> float:
    return hits / total if total else 0.0


def _moments(histogram: Mapping[int, int]) -> tuple[float, float]:
    """Mean and variance of the logarithms. Where in its bucket an observation lies is not known: that adds the variance of a uniform distribution over its width."""
    count = sum(histogram.values())
    mean = sum(bucket * times for bucket, times in histogram.items()) / count
    spread = sum(times * (bucket - mean) ** 2 for bucket, times in histogram.items()) / (count - 1)
    return mean * _BUCKET_WIDTH, (spread + 1 / 12) * _BUCKET_WIDTH**2
