"""What live traffic says of a candidate, against the stable revision in the same window.

A breach is said only of what chance does not explain: the confidence bound of the candidate's figure lies beyond the limit, it is worse than the stable revision's beyond its
own bound, and shares rest on three cases at least. What fails both alike (engines, pods, the network) is no fault of the candidate, and no reason to give it more: a figure
beyond its limit that is no breach keeps the candidate where it is. Evidence accumulates until there is a verdict, or until `maxHoldSeconds` are over. A breach needs no
complete evidence: what stops may act on what it sees, what promotes may not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from taskfleet.api.taskmodel import Analysis
from taskfleet.planning.rollout.statistics import difference_lower_bound, latency_ratio, share_bounds
from taskfleet.planning.snapshot import Evidence, Window

# So many errors, invalid answers or bad votes at least: one or two say nothing at any share.
LEAST_CASES = 3
# So many answers of each revision at least before latencies are compared.
LEAST_LATENCIES = 10
# New counts bring a task back by themselves; this is for the time that passes without any.
LOOK_AGAIN_SECONDS = 5.0


class Outcome(StrEnum):
    """What follows for the step."""

    PASS = "Pass"  # noqa: S105  held long enough, seen enough, nothing against it
    BREACH = "Breach"  # worse than allowed, and not by chance
    WAIT = "Wait"  # not held long enough, or not enough to go by yet
    NO_TRAFFIC = "NoTraffic"  # too few requests in all the time that evidence may take
    INCONCLUSIVE = "Inconclusive"  # a figure beyond its limit, in all that time not proven


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`message` has the figures of both revisions; `retry_seconds`: when time alone may have changed it."""

    outcome: Outcome
    message: str
    retry_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Objection:
    """A figure beyond its limit. `proven`: not by chance, and worse than the stable revision's."""

    proven: bool
    message: str


def judge(evidence: Evidence | None, policy: Analysis, *, held_seconds: float, hold_seconds: int, shadow: bool) -> Judgement:
    """The verdict on the present step, which began `held_seconds` ago. `shadow`: the candidate has mirrored requests only."""
    out_of_time = held_seconds >= max(hold_seconds, policy.max_hold_seconds)
    if evidence is None:
        return _undecided(Outcome.INCONCLUSIVE, "its traffic has not been measured", out_of_time=out_of_time)
    candidate = evidence.shadow if shadow else evidence.candidate
    found = [objection for check in CHECKS if (objection := check(candidate, evidence, policy)) is not None]
    proven = next((objection for objection in found if objection.proven), None)
    if proven is not None:
        return Judgement(outcome=Outcome.BREACH, message=proven.message)
    if (doubt := _doubt(candidate, evidence, policy, found)) is not None:
        return _undecided(doubt[0], doubt[1], out_of_time=out_of_time)
    if held_seconds < hold_seconds:
        return Judgement(outcome=Outcome.WAIT, message="nothing against it so far", retry_seconds=hold_seconds - held_seconds)
    return Judgement(outcome=Outcome.PASS, message=f"{candidate.requests} requests, {candidate.errors} errors, nothing against it")


def _doubt(candidate: Window, evidence: Evidence, policy: Analysis, found: Sequence[_Objection]) -> tuple[Outcome, str] | None:
    """Why there is no verdict yet, and what that comes to in the end."""
    # Requests that somebody else answered, because the candidate's pods refused them, say nothing about it.
    answered = candidate.errors + sum(candidate.latency.values())
    if answered < policy.min_requests:
        return Outcome.NO_TRAFFIC, f"it answered {answered} of the {policy.min_requests} requests that a step needs"
    if found:
        return Outcome.INCONCLUSIVE, found[0].message
    if not evidence.complete:
        return Outcome.INCONCLUSIVE, "not every gateway is heard"
    return None


def _undecided(at_last: Outcome, message: str, *, out_of_time: bool) -> Judgement:
    return Judgement(outcome=at_last if out_of_time else Outcome.WAIT, message=message, retry_seconds=LOOK_AGAIN_SECONDS)


@dataclass(frozen=True, slots=True)
class _Cases:
    """So many in so many."""

    hits: int
    total: int

    @property
    def share(self) -> float:
        return self.hits / self.total if self.total else 0.0


Check = Callable[[Window, Evidence, Analysis], _Objection | None]


def errors(candidate: Window, evidence: Evidence, policy: Analysis) -> _Objection | None:
    seen, stable = _Cases(candidate.errors, candidate.requests), _Cases(evidence.stable.errors, evidence.stable.requests)
    return _share("of requests failed", policy.max_error_percent, seen, stable)


def invalid_answers(candidate: Window, evidence: Evidence, policy: Analysis) -> _Objection | None:
    seen, stable = _Cases(candidate.invalid, candidate.checked), _Cases(evidence.stable.invalid, evidence.stable.checked)
    return _share("of answers don't follow outputSchema", policy.max_invalid_percent, seen, stable)


def bad_votes(candidate: Window, evidence: Evidence, policy: Analysis) -> _Objection | None:
    stable = evidence.stable
    seen = _Cases(candidate.bad, candidate.good + candidate.bad)
    return _share("of votes are bad", policy.max_bad_feedback_percent, seen, _Cases(stable.bad, stable.good + stable.bad))


def disagreement(_candidate: Window, evidence: Evidence, policy: Analysis) -> _Objection | None:
    """Of mirrored answers; the stable revision agrees with itself."""
    if policy.min_agreement_percent == 0:
        return None
    seen = _Cases(evidence.shadow.compared - evidence.shadow.agreed, evidence.shadow.compared)
    return _share("of mirrored answers disagree with the stable revision's", 100 - policy.min_agreement_percent, seen, _Cases(0, 0))


def latency(candidate: Window, evidence: Evidence, policy: Analysis) -> _Objection | None:
    count, stable_count = sum(candidate.latency.values()), sum(evidence.stable.latency.values())
    if min(count, stable_count) < LEAST_LATENCIES:
        return None
    ratio, lower = latency_ratio(candidate.latency, evidence.stable.latency)
    limit = policy.max_latency_ratio_percent / 100
    if ratio <= limit:
        return None
    allowed = f"at least {lower:.2f}; {limit:.2f} is allowed"
    message = f"its answers take {ratio:.2f} times as long as the stable revision's ({allowed}), over {count} and {stable_count} answers"
    return _Objection(lower > limit, message)


CHECKS: tuple[Check, ...] = (errors, invalid_answers, latency, bad_votes, disagreement)


def _share(what: str, limit_percent: float, seen: _Cases, stable: _Cases) -> _Objection | None:
    limit = limit_percent / 100
    if seen.share <= limit:
        return None
    proven = (
        seen.hits >= LEAST_CASES
        and share_bounds(seen.hits, seen.total)[0] > limit
        and (stable.total == 0 or difference_lower_bound(seen.hits, seen.total, stable.hits, stable.total) > 0)
    )
    beside = f"; of the stable revision's {stable.hits} of {stable.total}" if stable.total else ""
    return _Objection(proven, f"{100 * seen.share:.1f} % {what} ({seen.hits} of {seen.total}{beside}; {limit_percent:g} % is allowed)")
