"""Conditions: from findings to the list in a status, and the summary that kstatus and Argo CD read.

After settling exactly one of Ready=True, Reconciling=True, Stalled=True holds. Ready is always in the list; the abnormal-true conditions are there only while they are True.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from taskfleet.api.conditions import STALLING, Condition, ConditionType, Reason
from taskfleet.planning.plans import Event

_ORDER = {kind: place for place, kind in enumerate(ConditionType)}
_MAX_MESSAGE = 4096

# Work under way that somebody should know of.
WARNING = frozenset({Reason.SOURCE_UNAVAILABLE, Reason.NO_READY_PODS, Reason.NO_TRAFFIC})


@dataclass(frozen=True, slots=True)
class Finding:
    """What is true of one aspect; becomes a condition. `status` None is Unknown."""

    type: ConditionType
    status: bool | None
    reason: Reason
    message: str


class Outlook(Enum):
    """The summary."""

    READY = "Ready"
    RECONCILING = "Reconciling"  # work is under way
    STALLED = "Stalled"  # nothing happens before somebody acts


@dataclass(frozen=True, slots=True)
class Summary:
    """The one sentence about the whole object."""

    outlook: Outlook
    reason: Reason
    message: str

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Ready, and the abnormal-true condition that explains why not."""
        ready = Finding(ConditionType.READY, self.outlook is Outlook.READY, self.reason, self.message)
        if self.outlook is Outlook.READY:
            return (ready,)
        kind = ConditionType.RECONCILING if self.outlook is Outlook.RECONCILING else ConditionType.STALLED
        return (ready, Finding(kind, True, self.reason, self.message))


def summary_of(reason: Reason, message: str) -> Summary:
    """The summary of something that is not as it should be."""
    return Summary(Outlook.STALLED if reason in STALLING else Outlook.RECONCILING, reason, message)


def known(reason: str, otherwise: Reason) -> Reason:
    """The reason that an agent of another version reported; `otherwise` where this one doesn't know it."""
    return Reason(reason) if reason in set(Reason) else otherwise


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def shortened(text: str, length: int = _MAX_MESSAGE) -> str:
    """At most `length` characters; the end of a longer text is cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def merged(previous: Sequence[Condition], findings: Iterable[Finding], *, generation: int, now: datetime) -> list[Condition]:
    """The conditions that say what `findings` say, one of each type, in a fixed order.

    The time of the last transition is kept where the status is the same, so that an unchanged state gives an equal list. Conditions that are not found again go.
    """
    before = {condition.type: condition for condition in previous}
    words = {None: "Unknown", True: "True", False: "False"}
    conditions = []
    for finding in sorted(findings, key=lambda finding: _ORDER[finding.type]):
        status = words[finding.status]
        old = before.get(finding.type)
        conditions.append(
            Condition.model_validate(
                {
                    "type": finding.type.value,
                    "status": status,
                    "reason": finding.reason.value,
                    "message": shortened(finding.message),
                    "observedGeneration": generation,
                    "lastTransitionTime": old.last_transition_time if old and old.status == status else timestamp(now),
                }
            )
        )
    return conditions


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The condition of that type."""
    return next((condition for condition in conditions if condition.type == kind.value), None)


def holds(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    """Is the condition there and True?"""
    condition = find(conditions, kind)
    return condition is not None and condition.status == "True"


def outlook_of(conditions: Sequence[Condition]) -> Outlook | None:
    """The summary that a list of conditions says; None before the first one was written."""
    for outlook in Outlook:
        if holds(conditions, ConditionType(outlook.value)):
            return outlook
    return None


def events_between(previous: Sequence[Condition], current: Sequence[Condition]) -> tuple[Event, ...]:
    """The event of a changed summary, or none. A change of words alone is no transition, and neither is the next step of work that goes well.

    Stalled is a Warning; so is Reconciling for a reason of `WARNING`.
    """
    outlook = outlook_of(current)
    ready = find(current, ConditionType.READY)
    if outlook is None or ready is None:
        return ()
    before = find(previous, ConditionType.READY)
    bad = outlook is Outlook.STALLED or ready.reason in WARNING
    same_outlook = before is not None and outlook_of(previous) is outlook
    if same_outlook and (not bad or (before is not None and before.reason == ready.reason)):
        return ()
    return (Event(type="Warning" if bad else "Normal", reason=ready.reason, message=shortened(ready.message, 1024)),)
