"""Connections to agents that wait for their next request."""

import asyncio
import socket
from collections import deque

from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.wire import Connection, NotConnectedError

# Well below the 75 s after which aiohttp, the agent's server, closes an idle connection.
IDLE_SECONDS = 15.0
# A node that is lost says nothing more, not even that its connections have ended: without these, a request to a pod there would wait for its whole time limit, instead of
# being repeated elsewhere. The other side's kernel answers, so a busy engine is not taken for a lost one. In whole seconds.
PROBE_AFTER_SECONDS = 10
PROBE_EVERY_SECONDS = 5
LOST_AFTER_SECONDS = 20


class Connections:
    """Idle connections by endpoint: another pool's pod at the same address gets one of its own."""

    def __init__(self, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[Endpoint, deque[tuple[float, Connection]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def take(self, endpoint: Endpoint) -> Connection:
        """A connection that nobody else uses. Raises NotConnectedError."""
        idle = self._idle.get(endpoint)
        while idle:
            # The youngest: the others grow old and are closed.
            since, connection = idle.pop()
            if connection.reusable and asyncio.get_running_loop().time() - since < IDLE_SECONDS:
                return connection
            connection.close()
        host, _, port = endpoint.address.rpartition(":")
        try:
            async with asyncio.timeout(self._connect_seconds):
                transport, connection = await asyncio.get_running_loop().create_connection(Connection, host.strip("[]"), int(port))
        except (OSError, TimeoutError) as error:
            raise NotConnectedError(f"{endpoint.address}: {error or 'no connection in time'}") from error
        _notice_loss(transport.get_extra_info("socket"))
        return connection

    def give_back(self, endpoint: Endpoint, connection: Connection) -> None:
        """After an answer; one that is not fit for another is closed."""
        if not connection.reusable:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.setdefault(endpoint, deque()).append((loop.time(), connection))
        if self._sweeping is None:
            self._sweeping = loop.call_later(IDLE_SECONDS, self._sweep)

    def close(self) -> None:
        """Closes those that wait."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for idle in self._idle.values():
            for _, connection in idle:
                connection.close()
        self._idle.clear()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for endpoint, idle in list(self._idle.items()):
            while idle and (loop.time() - idle[0][0] >= IDLE_SECONDS or not idle[0][1].reusable):
                idle.popleft()[1].close()
            if not idle:
                del self._idle[endpoint]
        self._sweeping = loop.call_later(IDLE_SECONDS, self._sweep) if self._idle else None


def _notice_loss(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_SECONDS)
    # Of what was sent and is not acknowledged, probes included.
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_SECONDS * 1000)
