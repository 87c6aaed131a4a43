"""A gateway in a test: the real server, proxy and route table on a loopback port; tokens for pools and callers come from here."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry

from taskfleet.gateway.answer_ids import KeyRing, Keys
from taskfleet.gateway.auth import Access, Caller, OpenAccess
from taskfleet.gateway.errors import UnauthenticatedError
from taskfleet.gateway.main import Gateway, assemble, public_server, start_tracing, upstream
from taskfleet.gateway.routes import RouteTable
from taskfleet.gateway.settings import GatewaySettings
from taskfleet.gateway.upstream import PoolTokens
from taskfleet.names import engine_name
from tests.unit.gateway.builders import DIGEST, at, pool, revision, task, traffic
from tests.unit.gateway.pods import Pod

MODEL = engine_name("finance", "vendor", DIGEST)
CHAT = "/v1/chat/completions"


class Tokens:
    """A token per pool, that tells which pool it is for."""

    async def get(self, audience: str) -> str:
        return f"token-for-{audience}"

    async def another(self, _audience: str, _refused: Collection[str]) -> str | None:
        return None


@dataclass
class Rights:
    """Callers by token, and what they may: (token, subresource, namespace, name), a name of "" for the namespace."""

    allowed: set[tuple[str, str, str, str]] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            raise UnauthenticatedError("A token is needed", presented=False)
        return Caller(identity=None, token_hash=token.encode(), expiry=0, namespace="finance")

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:
        self.asked.append((subresource, namespace, name))
        return (caller.token_hash.decode(), subresource, namespace, name) in self.allowed


@dataclass
class World:
    """A running gateway and a client of it."""

    gateway: Gateway
    registry: CollectorRegistry
    url: str
    client: aiohttp.ClientSession
    public: web.ServerRunner
    site: web.TCPSite

    @property
    def table(self) -> RouteTable:
        return self.gateway.table

    def supervise(self) -> None:
        """The operator watches, and the routes are fresh: candidates may be used."""
        self.gateway.supervision.routes_heard = time.monotonic
        self.gateway.supervision.told()

    def post(self, body: Any = None, *, path: str = CHAT, headers: Mapping[str, str] | None = None, **fields: Any) -> Any:
        content = {"model": "finance/vendor", "messages": [{"role": "user", "content": "x"}], **fields} if body is None else body
        return self.client.post(self.url + path, json=content, headers=headers)

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"taskfleet_gateway_{name}", labels) or 0.0


@dataclass
class KnownKeys:
    """Keys that are there from the start, and those that a further look finds beside them."""

    ring: KeyRing = field(default_factory=lambda: KeyRing({0: bytes(32)}))
    later: dict[int, bytes] = field(default_factory=dict)
    looked: int = 0

    async def reread(self) -> None:
        self.looked += 1
        self.ring.put({number: self.ring.key(number) for number in self.ring.numbers} | self.later)


def serve(table: RouteTable, *pods: Pod, to: list[dict[str, Any]] | None = None) -> None:
    """The usual story: TaskModel finance/vendor with one stable revision, served by these pods."""
    table.put_task(task(to=to or [traffic("vendor-1")]))
    table.put_revision(revision("vendor-1"))
    table.put_pool(pool())
    place(table, *pods)


def place(table: RouteTable, *pods: Pod) -> None:
    """These are the Ready pods now."""
    table.put_slice(at(*(pod.address for pod in pods)))


@asynccontextmanager
async def running(
    *pods: Pod,
    access: Access | None = None,
    tokens: PoolTokens | None = None,
    keys: Keys | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """A gateway that serves finance/vendor by `pods`."""
    chosen = GatewaySettings(namespace="taskfleet-system", host="127.0.0.1", **{"hold_seconds": 30.0, **settings})
    registry = CollectorRegistry()
    async with aiohttp.ClientSession() as client:
        sender = upstream(chosen, tokens or Tokens())
        tracing = start_tracing(chosen)
        gateway = assemble(
            chosen,
            access=access or OpenAccess(),
            sender=sender,
            registry=registry,
            keys=keys or KnownKeys(),
            tracing=tracing,
        )
        if pods:
            serve(gateway.table, *pods)
        public = web.ServerRunner(public_server(chosen, gateway), shutdown_timeout=0.1)
        await public.setup()
        site = web.TCPSite(public, "127.0.0.1", 0)
        await site.start()
        host, port = public.addresses[0][:2]
        try:
            yield World(gateway, registry, f"http://{host}:{port}", client, public, site)
        finally:
            await public.cleanup()
            sender.close()
            for _ in range(3):
                await asyncio.sleep(0)  # transports close their sockets in the loop's next turns
            if tracing is not None:
                await asyncio.to_thread(tracing.close)
