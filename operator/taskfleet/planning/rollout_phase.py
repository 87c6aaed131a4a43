"""Where a rollout can stand (`TaskModel.status.rollout.phase`)."""

from enum import StrEnum


class RolloutPhase(StrEnum):
    """In the order of a rollout that goes well."""

    RESOLVING = "Resolving"  # the digest is not known yet
    PROVING = "Proving"  # being fetched, verified, loaded and proven
    DRAINING = "Draining"  # the traffic is written; some gateway may still send to the revision before
    DONE = "Done"  # every gateway acts on it
    FAILED = "Failed"  # can't be served; what served before goes on
