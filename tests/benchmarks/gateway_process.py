"""A gateway for measurements: the real server, routing, authentication cache, shaping and metering, with one upstream and an API server that allows everything.

python -m tests.benchmarks.gateway_process --port 9001 --upstream 127.0.0.1:9000
"""

import argparse
import asyncio
import gc
import time
from collections.abc import Collection

from aiohttp import web
from prometheus_client import CollectorRegistry

from taskfleet.gateway.auth import KubernetesAccess
from taskfleet.gateway.main import assemble, public_server, upstream
from taskfleet.gateway.settings import GatewaySettings
from taskfleet.kube.identity import Identity
from taskfleet.names import GATEWAY_AUDIENCE
from tests.unit.gateway.builders import DIGEST, at, pool, revision, task, traffic
from tests.unit.gateway.world import KnownKeys


class Allowing:
    """Answers of an API server that allows everything; cached by the gateway like any other's."""

    async def review_token(self, *_: object, **__: object) -> Identity | None:
        return Identity(username="system:serviceaccount:finance:client", audiences=(GATEWAY_AUDIENCE,))

    async def review_access(self, *_: object, **__: object) -> bool:
        return True


class FixedTokens:
    """One token for the one pool."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get(self, audience: str) -> str:  # noqa: ARG002  there is one pool
        return self._token

    async def another(self, _audience: str, _refused: Collection[str]) -> str | None:
        return None


async def serve(port: int, address: str, *, token: str, digest: str) -> None:
    settings = GatewaySettings(namespace="taskfleet-system")
    access = KubernetesAccess(Allowing(), audience=GATEWAY_AUDIENCE, timeout=3, clock=time.time)
    sender = upstream(settings, FixedTokens(token))
    gateway = assemble(settings, access=access, sender=sender, registry=CollectorRegistry(), keys=KnownKeys())
    for number in range(1000):
        gateway.table.put_task(task(f"task-{number}", uid=f"u-{number}", to=[traffic(f"task-{number}-1")]))
        gateway.table.put_revision(revision(f"task-{number}-1", of=f"task-{number}", owner=f"u-{number}"))
    gateway.table.put_pool(pool())
    gateway.table.put_task(task(to=[traffic("vendor-1")]))
    gateway.table.put_revision(revision("vendor-1", digest=digest, settings={"defaults": {"maxTokens": 64, "temperature": 0}}))
    gateway.table.put_slice(at(address))
    # As the gateway does it.
    gc.collect()
    gc.freeze()
    runner = web.ServerRunner(public_server(settings, gateway))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="host:port")
    parser.add_argument("--token", default="none", help="for the upstream")
    parser.add_argument("--digest", default=DIGEST, help="of the adapter")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.upstream, token=given.token, digest=given.digest))


if __name__ == "__main__":
    main()
