"""What the traffic of a task is now: what its status says, or what it must have said before it was lost."""

from collections.abc import Iterable, Mapping

from taskfleet.api.revision import TaskModelRevision
from taskfleet.api.taskmodel import TaskModelStatus, TrafficTarget
from taskfleet.planning.placement import Placement
from taskfleet.planning.revisions import Phase


def present_traffic(
    status: TaskModelStatus, living: Mapping[str, TaskModelRevision], places: Iterable[Placement]
) -> tuple[TrafficTarget, ...]:
    """The routes in force. An emptied status never replaces a known route: the revision that is recorded as stable gets its traffic back.

    A revision that was deleted by hand and made again has another UID and the same content; its route follows.
    """
    if status.traffic:
        return tuple(_followed(target, living) for target in status.traffic)
    stable = [place for place in places if place.revision.status.phase == Phase.STABLE]
    if not stable:
        return ()
    place = max(stable, key=lambda place: (place.revision.metadata.creation_timestamp, place.revision.metadata.name))
    metadata = place.revision.metadata
    return (TrafficTarget(revision=metadata.name, uid=metadata.uid, pool=place.pool.metadata.name, weight_percent=100),)


def _followed(target: TrafficTarget, living: Mapping[str, TaskModelRevision]) -> TrafficTarget:
    revision = living.get(target.revision)
    if revision is None or revision.metadata.uid == target.uid:
        return target
    return target.model_copy(update={"uid": revision.metadata.uid})
