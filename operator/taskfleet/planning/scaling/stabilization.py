"""Against going down too early and too fast: the greatest of what was needed lately, and the greatest number of pods of the last minute."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

# An autoscaler that did not look for so long has not seen what was needed.
LONGEST_GAP_SECONDS = 30.0
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Peak:
    """The greatest number within a sliding window. Only what can still become the greatest is kept: times rise, numbers fall."""

    entries: tuple[tuple[datetime, int], ...] = ()

    def seen(self, number: int, *, now: datetime, window: timedelta) -> Self:
        """With one more number, without those that are older than the window."""
        kept = tuple(entry for entry in self.entries if entry[0] > now - window and entry[1] > number)
        # The greatest keeps its last time: an equal number that is seen again replaces the earlier one.
        return replace(self, entries=(*kept, (now, number)))

    @property
    def greatest(self) -> int:
        return self.entries[0][1] if self.entries else 0

    def falls_in(self, *, now: datetime, window: timedelta) -> float:
        """Seconds until the greatest leaves the window."""
        return max(0.0, (self.entries[0][0] + window - now).total_seconds()) if self.entries else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was seen without a gap."""

    since: datetime | None = None
    last: datetime | None = None
    needed: Peak = Peak()  # pods, within the delay
    had: Peak = Peak()  # pods, within the last minute

    def looked(self, *, needed: int, had: int, delay_seconds: int, now: datetime) -> Self:
        """With one more look. After a gap, or where the clock went back, it begins anew."""
        before = self if self._goes_on(now) else replace(self, since=None, needed=Peak(), had=Peak())
        return replace(
            before,
            since=before.since or now,
            last=now,
            needed=before.needed.seen(needed, now=now, window=timedelta(seconds=delay_seconds)),
            had=before.had.seen(had, now=now, window=_MINUTE),
        )

    def is_first(self, now: datetime) -> bool:
        """Is nothing known from before this look?"""
        return self.since is None or self.since >= now

    def delay_left(self, *, below: int, delay_seconds: int, now: datetime) -> float:
        """Seconds until fewer than `below` pods have been enough throughout the delay, if nothing changes; at most the delay."""
        delay = timedelta(seconds=delay_seconds)
        unseen = (self.since + delay - now).total_seconds() if self.since is not None else float(delay_seconds)
        held = max((at + delay - now for at, number in self.needed.entries if number >= below), default=timedelta()).total_seconds()
        return max(0.0, unseen, held)

    def lowest(self, percent: int) -> int:
        """To how many pods the last minute's may be lowered: by the share, or by one where that is less."""
        return self.had.greatest - max(1, self.had.greatest * percent // 100)

    def _goes_on(self, now: datetime) -> bool:
        return self.last is not None and 0 <= (now - self.last).total_seconds() <= LONGEST_GAP_SECONDS
