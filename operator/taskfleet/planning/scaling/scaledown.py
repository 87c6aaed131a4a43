"""Which pods of a pool go when it gets smaller, and what has to be done before fewer replicas are written.

Kubernetes chooses the pods that go: of each ReplicaSet first those that have no node, are Pending or are not Ready, then those with the lowest deletion cost. So the choice is
made here in the same order, and the costs say the rest of it. A pod that goes while others stay is drained by its own end (preStop). Where none stays, a request would find no
other pod, so all agents are asked beforehand whether they are idle, and let nothing in from then on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from taskfleet.planning.snapshot import PodView

# Written by us; 0 is what a pod without the annotation has. Any other value is somebody else's, and is respected.
GOES = -1
STAYS = 0
_OURS = frozenset({GOES, STAYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLoad:
    """A pod and what it is working on; `in_flight` is None where its agent can't be asked."""

    pod: PodView
    in_flight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDownPlan:
    """What is to be done before fewer replicas are written."""

    leaving: tuple[str, ...] = ()  # names of pods, the first to go first
    costs: Mapping[str, int] = field(default_factory=dict)  # deletion costs that have to change, by name of the pod
    ask: tuple[str, ...] = ()  # pods whose agents are asked to drain; whoever refuses keeps all
    # Those of them that can have requests; of the others silence is no refusal: a pod whose node is gone would keep its pool for ever.
    must_answer: frozenset[str] = frozenset()


def plan(loads: Iterable[PodLoad], *, current: int, wanted: int) -> ScaleDownPlan:
    """From `current` replicas to `wanted`; nothing is to be done where that is no less. A pure function."""
    if wanted >= current:
        return ScaleDownPlan()
    # Pods that are going, or have ended, are no replicas any more.
    present = sorted((load for load in loads if not load.pod.deleting and load.pod.phase not in {"Succeeded", "Failed"}), key=_order)
    if wanted <= 0:
        names = tuple(load.pod.name for load in present)
        ask = tuple(load.pod.name for load in present if load.pod.reachable or load.pod.serving)
        return ScaleDownPlan(leaving=names, ask=ask, must_answer=frozenset(load.pod.name for load in present if load.pod.serving))
    excess = max(0, len(present) - wanted)
    leaving, staying = present[:excess], present[excess:]
    return ScaleDownPlan(
        leaving=tuple(load.pod.name for load in leaving),
        costs={**_changed(leaving, GOES), **_changed(staying, STAYS)},
    )


def _order(load: PodLoad) -> tuple[bool, bool, bool, int, float, float, str]:
    """The first to go first: not Ready ones, then the emptiest, then the youngest. An agent that can't be asked may have more than any other."""
    pod = load.pod
    preference = 0 if pod.deletion_cost in _OURS else pod.deletion_cost
    in_flight = float("inf") if load.in_flight is None else load.in_flight
    age = -pod.created_at.timestamp() if pod.created_at is not None else 0.0
    return pod.ready, pod.phase != "Pending", pod.unschedulable is None, preference, in_flight, age, pod.name


def _changed(loads: Iterable[PodLoad], cost: int) -> dict[str, int]:
    return {load.pod.name: cost for load in loads if load.pod.deletion_cost in _OURS and load.pod.deletion_cost != cost}
