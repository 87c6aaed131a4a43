"""How often the agent looks, and how long it waits. All in seconds; tests shorten them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`look` is how old a listing of the engine's models may be: an adapter that vanishes has to be noticed within 30 s.

    `settle` is for how long an unreachable source keeps a starting pod from being Ready: long enough that a roll-out doesn't replace pods that hold their adapters by
    ones that can't fetch them, and not for ever.

    `version` is how often the source of each adapter is asked whether its version still stands for the same bytes; registries bound how often they are asked.
    """

    file: float = 1.0
    health: float = 0.5
    # The same until the engine has been healthy once: users wait for it, and to be refused by a port that nobody listens on costs nothing.
    start: float = 0.1
    look: float = 2.0
    drain: float = 0.1
    first_retry: float = 1.0
    last_retry: float = 60.0
    settle: float = 120.0
    version: float = 1800.0
    # How long a question for a digest waits for a download: below the operator's patience (`controller.agents.RESOLVE_SECONDS`).
    resolve: float = 60.0
    # How long a request waits for its adapter to be loaded, until it is sent elsewhere. A load takes milliseconds; this is for an engine that is stuck.
    load: float = 20.0

    def retry(self, attempt: int, jitter: float) -> float:
        """The wait after the `attempt`-th failure (from 1), doubled each time; `jitter` from 0 to 1 takes off up to half of it."""
        return min(self.last_retry, self.first_retry * 2.0 ** min(attempt - 1, 20)) * (1 - jitter / 2)
