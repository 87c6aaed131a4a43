"""Two choices per request, both pure: which revision, and which pod.

A revision by a point between 0 and 1 that a conversation has for a candidate: below the candidate's share it is the candidate's. A conversation keeps its revision, a growing
share only adds, and the next candidate draws other conversations first. Pods by rendezvous order with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
2016): an adapter works on the first pods of its own order, so each pod sees few adapters at a time, and moves on only when they are busier than the rest.
"""

import math
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.routes import Target

# A pod may have this many times the mean load before an adapter goes on to the next one.
SPREAD = 1.25
# Below this many requests in flight a pod is never too busy: at small loads staying together is worth more than being even.
FLOOR = 4


def pick_revision(targets: Sequence[Target], conversation: str) -> Target | None:
    """The target of a conversation; None where no target has weight. The stable one comes first in `targets`, as in the status."""
    total = sum(target.weight for target in targets)
    for target in reversed(targets):
        if target.weight and _unit(conversation, target.revision.uid) * total < target.weight:
            return target
        total -= target.weight
    return None


def pick_pod(model: str, endpoints: tuple[Endpoint, ...], load: Mapping[str, int], excluded: Container[str]) -> Endpoint | None:
    """The pod for an engine's model; `load`: requests in flight by address, `excluded`: addresses not to use. None where none is left."""
    if len(endpoints) == 1:
        return None if endpoints[0].address in excluded else endpoints[0]
    order = [endpoint for endpoint in _order(model, endpoints) if endpoint.address not in excluded]
    if not order:
        return None
    total = sum(load.get(endpoint.address, 0) for endpoint in order)
    bound = max(FLOOR, math.ceil(SPREAD * (total + 1) / len(order)))
    for endpoint in order:
        if load.get(endpoint.address, 0) < bound:
            return endpoint
    return order[0]


@lru_cache(maxsize=8192)
def _order(model: str, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda endpoint: _unit(model, endpoint.address)))


def _unit(*parts: str) -> float:
    """A number in (0, 1), the same for the same parts everywhere: replicas must agree."""
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # 52 bits and a half: never rounded up to 1, which would be nobody's.
    return ((int.from_bytes(digest) >> 12) + 0.5) / 2**52
