"""How many pods a pool gets. Without autoscaling: what its most demanding task asks for, and never none."""

from collections.abc import Iterable

from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.api.taskmodel import Scaling

MAX_REPLICAS = 256


def of_task(scaling: Scaling, defaults: ScalingDefaults) -> int:
    """What one task asks for: its minimum, or the class's; at least 1; at most its maximum.

    The class's maximum is a default too: a task that asks for more and says no maximum gets what it asks for.
    """
    fewest = defaults.min_replicas if scaling.min_replicas is None else scaling.min_replicas
    most = max(defaults.max_replicas, scaling.min_replicas or 0) if scaling.max_replicas is None else scaling.max_replicas
    return max(1, min(fewest, most, MAX_REPLICAS))


def of_pool(wishes: Iterable[int]) -> int:
    """The greatest wish."""
    return max((1, *wishes))
