"""Which adapters give up their places in the engine when more are loaded than there may be. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An adapter that the engine has. `last_used` is when a request for it last began or ended (monotonic clock); minus infinity: never."""

    name: str
    last_used: float
    busy: bool


def surplus(loaded: Iterable[Loaded], limit: int) -> tuple[str, ...]:
    """Names of those to be unloaded: the least recently used first, and none that is busy.

    Where too few are idle, too many stay loaded: engines can have more than they were made for, and a request that waits for another's end would wait without limit.
    """
    everything = tuple(loaded)
    idle = sorted((adapter for adapter in everything if not adapter.busy), key=lambda adapter: (adapter.last_used, adapter.name))
    return tuple(adapter.name for adapter in idle[: max(0, len(everything) - limit)])
