"""Asks pods that start whether they can answer already, while requests wait for them.

Of a pod's readiness the cluster tells late: its kubelet asks, writes a status, a controller reads that and writes an EndpointSlice, and the gateway reads this. Somebody waits
meanwhile. So where a pool has no Ready pod and a request wants one, the gateway asks what the kubelet asks, of the very same door, which holds a probe until the answer is yes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from taskfleet.gateway.records import Endpoint, Key
from taskfleet.gateway.routes import RouteTable

# Between two questions to a pod, and between two looks for more pods.
PAUSE_SECONDS = 0.2
# Of one pool, at a time: the first of many will do.
MOST_PODS = 8


class Knocks:
    """`ask`: does the pod say that it is Ready?"""

    def __init__(self, *, table: RouteTable, ask: Callable[[Endpoint], Awaitable[bool]]) -> None:
        self._table = table
        self._ask = ask
        self._waiting: dict[Key, int] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    @contextlib.contextmanager
    def at(self, namespace: str, pools: set[str]) -> Iterator[None]:
        """The pods of these pools are asked for the time of the block, however many requests wait for them."""
        keys = [(namespace, pool) for pool in pools]
        for key in keys:
            self._waiting[key] = self._waiting.get(key, 0) + 1
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._pool(*key))
        try:
            yield
        finally:
            for key in keys:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]
                    self._tasks.pop(key).cancel()

    async def _pool(self, namespace: str, pool: str) -> None:
        async with asyncio.TaskGroup() as group:
            asked: dict[Endpoint, asyncio.Task[None]] = {}
            while True:
                for endpoint in self._table.starting(namespace, pool)[:MOST_PODS]:
                    if endpoint not in asked or asked[endpoint].done():
                        asked[endpoint] = group.create_task(self._pod(namespace, pool, endpoint))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _pod(self, namespace: str, pool: str, endpoint: Endpoint) -> None:
        if await self._ask(endpoint):
            self._table.answers(namespace, pool, endpoint)
