"""Where a rollout can stand (`TaskModel.status.rollout.phase`)."""

from enum import StrEnum

from taskfleet.api.conditions import Reason


class RolloutPhase(StrEnum):
    """In the order of a rollout that goes well."""

    RESOLVING = "Resolving"  # the digest is not known yet
    PROVING = "Proving"  # being fetched, verified, loaded and proven
    EVALUATING = "Evaluating"  # measured for its gate
    STEPPING = "Stepping"  # a share of the traffic is its own, or mirrored to it
    DRAINING = "Draining"  # the traffic is written; some gateway may still send to the revision before
    DONE = "Done"  # every gateway acts on it
    FAILED = "Failed"  # can't be served; what served before goes on
    REJECTED = "Rejected"  # by its gate, by the analysis of its traffic or by a person; what served before goes on


# What holds a candidate on a step that has had all the time it may take.
UNDECIDED = frozenset({Reason.NO_TRAFFIC, Reason.INCONCLUSIVE})
