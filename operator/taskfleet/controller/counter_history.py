"""A counter over a bounded past, dense where it is recent: from it come means over windows.

A counter that never falls can be read between two samples along a straight line: what is lost by thinning is when something happened within a gap, never how much.
"""

from bisect import bisect_right
from operator import itemgetter

Levels = tuple[tuple[float, float], ...]  # (least seconds between two samples, how many seconds they reach back), the finest first
Sample = tuple[float, float]  # time in seconds, the counter

_time = itemgetter(0)


class CounterHistory:
    """Of one counter. `first` is the first sample that is known; `rate` is what the counter is taken to have grown by in each second before it, down to 0."""

    __slots__ = ("_first", "_levels", "_rate", "_samples")

    def __init__(self, levels: Levels, first: Sample, *, rate: float = 0.0) -> None:
        self._levels = levels
        self._first = first
        self._rate = rate
        self._samples: list[list[Sample]] = [[first] for _ in levels]

    @property
    def last(self) -> Sample:
        """The newest sample."""
        return self._samples[0][-1]

    def add(self, time: float, count: float) -> None:
        """Takes in a newer sample."""
        for samples, (spacing, reach) in zip(self._samples, self._levels, strict=True):
            # The newest sample always stays; it takes the place of one that is too near to its own predecessor.
            if len(samples) > 1 and samples[-1][0] - samples[-2][0] < spacing:
                samples[-1] = (time, count)
            else:
                samples.append((time, count))
            _forget(samples, time - reach)

    def forget(self, before: float) -> None:
        """Drops what no window needs that begins at that time or later."""
        for samples in self._samples:
            _forget(samples, before)

    def at(self, time: float) -> float:
        """The counter at that time; after the newest sample what it said."""
        if time >= self.last[0]:
            return self.last[1]
        for samples in self._samples:
            if samples[0][0] <= time:
                return _between(samples, time)
        oldest = self._samples[-1][0]
        return max(0.0, oldest[1] - self._rate * (oldest[0] - time)) if oldest == self._first else oldest[1]


def _forget(samples: list[Sample], before: float) -> None:
    """Keeps one sample at or before that time: the line from there leads through it."""
    older = bisect_right(samples, before, key=_time) - 1
    if older > 0:
        del samples[:older]


def _between(samples: list[Sample], time: float) -> float:
    place = bisect_right(samples, time, key=_time)
    (begin, low), (end, high) = samples[place - 1], samples[place]
    return low + (high - low) * (time - begin) / (end - begin)
