"""One vote for each answer, and not too many by one caller. Both are remembered by this replica alone and in bounded room. No I/O, no clock."""

import math
from collections import OrderedDict
from enum import StrEnum

from taskfleet.gateway.errors import AlreadyVotedError, TooManyRequestsError

# Callers whose votes of the last minute are known at once.
_CALLERS = 10_000
_MINUTE = 60.0


class Verdict(StrEnum):
    """What a user thinks of an answer."""

    GOOD = "good"
    BAD = "bad"


class Votes:
    """The last `size` votes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._cast: OrderedDict[bytes, Verdict] = OrderedDict()

    def cast(self, answer: bytes, verdict: Verdict) -> bool:
        """Whether it is a new vote; False where it repeats the one that is there. Raises AlreadyVotedError where it contradicts it."""
        before = self._cast.get(answer)
        if before is not None:
            if before is not verdict:
                raise AlreadyVotedError(f"This answer was judged before, as {before.value}; a verdict can't be changed")
            return False
        self._cast[answer] = verdict
        if len(self._cast) > self._size:
            self._cast.popitem(last=False)
        return True


class VoteRate:
    """So many votes a minute for each caller, all at once or one after another (the generic cell rate algorithm, ITU-T I.371)."""

    def __init__(self, per_minute: int) -> None:
        self._interval = _MINUTE / per_minute
        self._due: OrderedDict[str, float] = OrderedDict()  # when all that a caller has sent would have come at an even pace

    def take(self, caller: str, now: float) -> None:
        """One more of this caller, tried or cast. `now` is monotonic. Raises TooManyRequestsError."""
        due = max(self._due.get(caller, now), now)
        ahead = due + self._interval - now - _MINUTE
        if ahead > 1e-9:
            raise TooManyRequestsError("Too many verdicts in a minute", retry_after=math.ceil(ahead))
        self._due[caller] = due + self._interval
        self._due.move_to_end(caller)
        if len(self._due) > _CALLERS:
            self._due.popitem(last=False)
