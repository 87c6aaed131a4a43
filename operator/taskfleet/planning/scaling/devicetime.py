"""Which tasks the devices of a pool work for, as a share of the time that its pods hold them."""

from collections.abc import Mapping

from taskfleet.planning.snapshot import PodView


def holds_device(pod: PodView) -> bool:
    """From the scheduler's decision until all containers have ended; one that is being deleted still does."""
    return pod.unschedulable is None and pod.phase not in {"Succeeded", "Failed"}


def shared(seconds: float, busy: Mapping[str, float]) -> Mapping[str, float]:
    """The seconds of devices by task, in proportion to the requests that each had under way. Time in which nobody had any is everybody's alike."""
    worked = sum(busy.values())
    return {task: seconds * (own / worked if worked > 0 else 1 / len(busy)) for task, own in busy.items()}
