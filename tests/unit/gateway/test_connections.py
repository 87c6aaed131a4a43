"""Connections to agents notice by themselves that the other side is gone without a word."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from taskfleet.gateway.connections import LOST_AFTER_SECONDS, Connections
from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.wire import Connection


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    """One to a server that never answers; both sides are closed at the end."""
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        gone.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        taken = await Connections(connect_seconds=5).take(Endpoint(f"127.0.0.1:{port}", "uid"))
        yield taken
        taken.close()
        await gone.wait()


async def test_silence_of_a_lost_node_ends_the_connection_long_before_a_requests_time_is_over(connection: Connection) -> None:
    connected: socket.socket = connection._transport.get_extra_info("socket")
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    probing = [connected.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
    assert sum(probing) <= LOST_AFTER_SECONDS
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == LOST_AFTER_SECONDS * 1000
