"""One look at a pool: the record over which the rules decide, and of which the words are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from taskfleet.api.servingclass import ScalingDefaults
from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.floor import Floor
from taskfleet.planning.scaling.idleness import Uptime
from taskfleet.planning.scaling.need import Need, pods_above
from taskfleet.planning.scaling.replicas import Bounds, TaskScaling
from taskfleet.planning.scaling.stabilization import History
from taskfleet.planning.scaling.warmup import Warmup

# How far above what the present pods aim at the fast window must be to be a step, where the tolerance is not wider: a mean of seconds always swings a little.
STEP_PERCENT = 25
# How many pods a queue may bring, as a share of those that there must be without it: enough to catch up, and few that are idle once they have.
QUEUE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a pool, with what follows from it."""

    present: int  # replicas now
    serving_class: str
    scaling: ScalingDefaults
    demand: PoolDemand | None
    awake_because: str
    wishes: Mapping[str, TaskScaling]
    bounds: Bounds
    load: Need  # what the requests need
    need: Need  # and with what is kept spare
    resting: int  # pods that are kept where nobody asks
    warmup: Warmup
    uptime: Uptime
    startup_seconds: int  # the most that an engine's start may take
    history: History
    lower: int  # pods that are enough by all that is known; `present` until enough is
    is_known: bool  # from all gateways, and throughout the stable window
    is_first: bool  # nothing is known from before this look
    now: datetime
    floor: tuple[str, Floor] | None = None  # what raises the fewest pods above all minimums, and for which task

    @property
    def fewest(self) -> int:
        """What must be there without any request."""
        return max(self.bounds.fewest, 1 if self.awake_because else 0, self.resting)

    @property
    def tolerance(self) -> float:
        return self.scaling.tolerance_percent / 100

    @property
    def step_share(self) -> float:
        """How far above what is there the last seconds alone raise."""
        return max(self.tolerance, STEP_PERCENT / 100)

    @property
    def is_warming(self) -> bool:
        return self.warmup.until is not None

    @property
    def seen(self) -> int:
        """Pods that are enough by what was seen so far, however little that is."""
        return max(pods_above(self.need.fast), pods_above(self.need.stable))

    @property
    def enough(self) -> float:
        """The most pods that a queue can justify: half as many again as what arrives needs, or, where none is on its way, as there are."""
        arriving = self.need.arriving + QUEUE_SHARE * self.load.arriving
        return arriving if self.is_warming else max(arriving, (1 + QUEUE_SHARE) * self.present)
