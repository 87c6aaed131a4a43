"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable

from .failures import ClusterError


def wait_until(
    condition: Callable[[], bool], what: str, *, seconds: float, check: Callable[[], None] | None = None, advice: str = ""
) -> None:
    """Returns as soon as `condition` holds. `check` may raise earlier, when waiting has become pointless. Raises ClusterError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if check is not None:
            check()
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s", advice=advice)
        time.sleep(0.1)
