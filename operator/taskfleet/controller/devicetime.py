"""How long the pods of pools hold devices, and for which tasks: what a task costs, without its price.

Time is accounted for when a pool is looked at, which is when its pods change, and when somebody asks for the figures. They begin with the leader's first look, as counters do.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from taskfleet.controller.keys import PoolKey, TaskKey
from taskfleet.planning.scaling.devicetime import shared


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSeconds:
    """Of one task on one pool, since the figures began."""

    namespace: str
    pool: str
    task_model: str
    seconds: float


@dataclass(slots=True)
class _Account:
    """One pool. `busy`: what its tasks' counters said at the last look."""

    uid: str
    looked_at: float
    devices: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class DeviceTime:
    """`busy` tells for how many seconds requests of a task were under way so far, each counted for itself. `clock`: monotonic seconds."""

    def __init__(self, *, busy: Callable[[TaskKey], float], clock: Callable[[], float]) -> None:
        self._busy = busy
        self._clock = clock
        self._accounts: dict[PoolKey, _Account] = {}

    def look(self, pool: PoolKey, uid: str, *, devices: int, tasks: Collection[str]) -> None:
        """From now on the pool's pods hold so many devices, for these tasks. A task that is no member any more has no figure."""
        account = self._accounts.get(pool)
        if account is None or account.uid != uid:
            account = self._accounts[pool] = _Account(uid, self._clock())
        self._settle(pool, account)
        account.devices = devices
        account.busy = {task: account.busy.get(task, self._busy(TaskKey(pool.namespace, task))) for task in tasks}
        account.seconds = {task: account.seconds.get(task, 0.0) for task in tasks}

    def forget(self, pool: PoolKey) -> None:
        """The pool is gone."""
        self._accounts.pop(pool, None)

    def figures(self) -> Iterator[DeviceSeconds]:
        """Of all tasks, up to now."""
        for pool, account in self._accounts.items():
            self._settle(pool, account)
            for task, seconds in account.seconds.items():
                yield DeviceSeconds(namespace=pool.namespace, pool=pool.name, task_model=task, seconds=seconds)

    def _settle(self, pool: PoolKey, account: _Account) -> None:
        """Accounts for the time since the last look."""
        now = self._clock()
        held, account.looked_at = account.devices * (now - account.looked_at), now
        busy = {task: self._busy(TaskKey(pool.namespace, task)) for task in account.busy}
        # What is heard of a task gets less when a replica of the gateway has ended.
        worked = {task: max(0.0, seconds - account.busy[task]) for task, seconds in busy.items()}
        account.busy = busy
        for task, seconds in shared(held, worked).items():
            account.seconds[task] += seconds
