"""A client that sends what no HTTP library would: bytes, in any pieces, and as little patience as a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from yarl import URL

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
BODY = b'{"model":"finance/vendor","messages":[{"role":"user","content":"x"}]}'


@dataclass
class Raw:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self) -> "Answered":
        """One answer with a length."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).decode()
        lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        body = await asyncio.wait_for(self.reader.readexactly(int(headers.get("content-length", "0"))), 20)
        return Answered(int(lines[0].split()[1]), headers, body)

    async def closed(self) -> bytes:
        """What comes until the other side has closed the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), 20)
        except ConnectionResetError:
            return b""


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """An OpenAI-shaped error. Fails where it has another shape."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@asynccontextmanager
async def connected(url: str, *, receive_buffer: int | None = None) -> AsyncIterator[Raw]:
    """A connection to a server. `receive_buffer`: in bytes, for clients that don't take what they are sent."""
    address = URL(url)
    limit = {} if receive_buffer is None else {"limit": receive_buffer}
    reader, writer = await asyncio.open_connection(address.host, address.port, **limit)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(body: bytes = BODY, *headers: bytes, head: bytes = HEAD) -> bytes:
    """A request with a length, JSON unless the headers say otherwise."""
    lines = list(headers)
    if not any(line.lower().startswith(b"content-type") for line in lines):
        lines.append(b"Content-Type: application/json")
    lines.append(b"Content-Length: %d" % len(body))
    return head + b"\r\n".join(lines) + b"\r\n\r\n" + body
