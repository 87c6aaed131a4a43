"""Which replicas of the gateway count, and what each says."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskfleet.api.taskmodel import TrafficTarget
from taskfleet.controller.gateways import Gateways, replicas
from taskfleet.kube.errors import UnavailableError
from taskfleet.names import GATEWAY_ROUTES_PATH

TARGET = {"revision": "a-1", "uid": "u-1", "pool": "tiny", "weightPercent": 100}


def _endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def test_replicas_that_requests_may_come_through_count() -> None:
    slices: list[dict[str, Any]] = [
        {"endpoints": [_endpoint("10.0.0.3", ready=True), _endpoint("10.0.0.2", ready=False, serving=True, terminating=True)]},
        {"endpoints": [_endpoint("10.0.0.9", ready=False, serving=False), _endpoint("10.0.0.4"), _endpoint("10.0.0.3", ready=True)]},
        {"endpoints": None},
    ]
    assert replicas(slices) == ("10.0.0.2", "10.0.0.3", "10.0.0.4")


class _Tokens:
    away = False

    async def get(self, audience: str) -> str:
        if self.away:
            raise UnavailableError("away")
        return f"token-for-{audience}"


class _World:
    def __init__(self) -> None:
        self.answer: Any = {"traffic": [TARGET]}
        self.status = 200
        self.asked: list[web.Request] = []
        self.tokens = _Tokens()
        self.addresses = ["127.0.0.1"]
        self.gateways: Gateways

    async def routes(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def world() -> AsyncIterator[_World]:
    found = _World()
    application = web.Application()
    application.add_routes([web.get(GATEWAY_ROUTES_PATH, found.routes)])
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        found.gateways = Gateways(
            session,
            found.tokens,
            slices=lambda: [{"endpoints": [_endpoint(address, ready=True) for address in found.addresses]}],
            port=server.port or 0,
            audience="internal",
        )
        yield found


async def test_every_replica_is_asked_with_the_operators_token(world: _World) -> None:
    (view,) = await world.gateways.traffic_of("finance", "a")
    assert view.traffic == (TrafficTarget.model_validate(TARGET),)
    (request,) = world.asked
    assert dict(request.query) == {"namespace": "finance", "name": "a"}
    assert request.headers["Authorization"] == "Bearer token-for-internal"


async def test_a_replica_that_does_not_know_the_task_says_so(world: _World) -> None:
    world.answer = {"traffic": None}
    (view,) = await world.gateways.traffic_of("finance", "a")
    assert (view.traffic, view.error) == (None, "")


@pytest.mark.parametrize("answer", [["nonsense"], {"traffic": [{"revision": "a-1"}]}])
async def test_an_answer_that_makes_no_sense_is_no_traffic(world: _World, answer: Any) -> None:
    world.answer = answer
    (view,) = await world.gateways.traffic_of("finance", "a")
    assert view.traffic is None
    assert view.error


async def test_a_refusal_is_no_traffic(world: _World) -> None:
    world.status = 403
    (view,) = await world.gateways.traffic_of("finance", "a")
    assert (view.traffic, view.error) == (None, "answered 403")


async def test_one_replica_that_is_away_hides_no_other(world: _World) -> None:
    world.addresses = ["127.0.0.1", "127.0.0.254"]
    views = {view.name: view for view in await world.gateways.traffic_of("finance", "a")}
    assert views["127.0.0.1"].traffic
    assert views["127.0.0.254"].traffic is None


async def test_without_a_token_nobody_can_be_asked(world: _World) -> None:
    world.tokens.away = True
    (view,) = await world.gateways.traffic_of("finance", "a")
    assert view.traffic is None
    assert "away" in view.error


async def test_without_a_gateway_there_is_nobody_to_ask(world: _World) -> None:
    world.addresses = []
    assert await world.gateways.traffic_of("finance", "a") == ()


async def test_before_the_replicas_are_known_none_counts_as_following() -> None:
    async with aiohttp.ClientSession() as session:
        gateways = Gateways(session, _Tokens(), slices=lambda: None, port=1, audience="internal")
        (view,) = await gateways.traffic_of("finance", "a")
    assert view.traffic is None
    assert "not been listed" in view.error
