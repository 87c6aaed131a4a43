"""Which traffic the gateway's replicas act on. Asked only while a switch is not known to all of them."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from pydantic import TypeAdapter, ValidationError

from taskfleet.api.fields import Model
from taskfleet.api.taskmodel import TrafficTarget
from taskfleet.kube.errors import KubeError
from taskfleet.names import GATEWAY_ROUTES_PATH
from taskfleet.planning.snapshot import GatewayView

CALL_SECONDS = 3.0

Slices = Callable[[], list[dict[str, Any]] | None]


class Tokens(Protocol):
    """`kube.tokens.PoolTokens` has it."""

    async def get(self, audience: str) -> str: ...


class _Answer(Model):
    traffic: tuple[TrafficTarget, ...] | None = None


_ANSWER = TypeAdapter(_Answer)


class Gateways:
    """`slices` gives the EndpointSlices of the gateway's Service as they are now; None while they are not known."""

    def __init__(self, session: aiohttp.ClientSession, tokens: Tokens, *, slices: Slices, port: int, audience: str) -> None:
        self._session = session
        self._tokens = tokens
        self._slices = slices
        self._port = port
        self._audience = audience

    async def traffic_of(self, namespace: str, name: str) -> tuple[GatewayView, ...]:
        """What every replica does for one TaskModel. One that can't be asked is a view without traffic, and says why."""
        slices = self._slices()
        if slices is None:
            # Not the same as a gateway without replicas, which nobody has to wait for.
            return (GatewayView(name="", traffic=None, error="the gateway's replicas have not been listed yet"),)
        return tuple(await asyncio.gather(*(self._ask(address, namespace, name) for address in replicas(slices))))

    async def _ask(self, address: str, namespace: str, name: str) -> GatewayView:
        try:
            token = await self._tokens.get(self._audience)
            async with self._session.get(
                f"http://{host_of(address)}:{self._port}{GATEWAY_ROUTES_PATH}",
                params={"namespace": namespace, "name": name},
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                if response.status != 200:
                    return GatewayView(name=address, traffic=None, error=f"answered {response.status}")
            return GatewayView(name=address, traffic=_ANSWER.validate_json(content).traffic)
        except (KubeError, aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            return GatewayView(name=address, traffic=None, error=f"{type(error).__name__}: {error}")


def host_of(address: str) -> str:
    """The address as a URL has it."""
    return f"[{address}]" if ":" in address else address


def replicas(slices: list[dict[str, Any]]) -> tuple[str, ...]:
    """Addresses of the replicas that requests may come through: Ready ones, and those that are ending and still answer."""
    found: set[str] = set()
    for one in slices:
        for endpoint in one.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            # An unset `ready` is to be read as true (API documentation of EndpointConditions).
            if conditions.get("ready") is not False or conditions.get("serving"):
                found.update(endpoint.get("addresses") or ())
    return tuple(sorted(found))
