"""`python -m tests.cluster.local.forwarder`: passes TCP connections on 127.0.0.1 on to an address of the cluster, until it is ended.

Not a proxy: bytes go both ways as they come, and a closed half stays a closed half, which streams depend on.
"""

import argparse
import asyncio
import contextlib
from pathlib import Path

CHUNK_BYTES = 1 << 16


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        # One end is gone: closing the other tells it the same.
        writer.close()


async def forward(port: int, target: str, target_port: int, announcement: Path) -> None:
    """Serves for ever. `announcement` receives the port that is listened on; `port` 0 lets the kernel choose."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(target, target_port)
        except OSError as error:
            print(f"no connection to {target}:{target_port}: {error}", flush=True)
            writer.transport.abort()
            return
        try:
            await asyncio.gather(pass_on(reader, upstream_writer), pass_on(upstream_reader, writer))
        finally:
            for end in (upstream_writer, writer):
                end.close()
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    draft = announcement.with_suffix(".draft")
    draft.write_text(str(server.sockets[0].getsockname()[1]))
    draft.rename(announcement)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.local.forwarder", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--target", required=True, help="HOST:PORT")
    parser.add_argument("--announcement", required=True, type=Path, help="file that receives the port")
    chosen = parser.parse_args()
    host, _, port = chosen.target.rpartition(":")
    asyncio.run(forward(chosen.port, host, int(port), chosen.announcement))


if __name__ == "__main__":
    main()
