"""`python -m simulator --model FOLDER --port 8000 …`: a process that looks like vLLM from outside."""

import asyncio
import signal
import sys

from aiohttp import web

from .core import Core
from .options import Options, parse
from .server import Server


async def serve(options: Options) -> None:
    """Listen until a signal comes. Like vLLM, whose clients then find their connections closed: nothing is waited for."""
    core = Core(options)
    await core.start()
    await asyncio.sleep(options.startup_seconds)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # As vLLM does, a request ends with its client.
    runner = web.AppRunner(Server(core).application(), access_log=None, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port).start()
    print(f"simulating vLLM on http://{options.host}:{options.port}", file=sys.stderr, flush=True)
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    asyncio.run(serve(parse(sys.argv[1:])))


if __name__ == "__main__":
    main()
