"""The issuer's keys reach the agents when they change, and only then."""

import asyncio
from typing import Any

from taskfleet.controller.trust import TrustSource
from taskfleet.kube.errors import UnavailableError
from tests.unit.controller.waiting import until


class _Issuer:
    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.keys = [{"kid": "b", "n": "1"}, {"kid": "a", "n": "2"}]

    async def get_json(self, path: str) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise UnavailableError("away")
        return {"issuer": "https://issuer.example"} if "configuration" in path else {"keys": list(self.keys)}


def source(issuer: _Issuer, changes: list[int]) -> TrustSource:
    kube: Any = issuer
    return TrustSource(
        kube, operator_subject="op", gateway_subject="gw", refresh_seconds=0.01, on_change=lambda: changes.append(issuer.asked)
    )


async def test_keys_stand_in_one_order_whatever_the_server_does() -> None:
    issuer, changes = _Issuer(), list[int]()
    trust = source(issuer, changes)
    await trust.first()
    assert [key["kid"] for key in trust.current.jwks["keys"]] == ["a", "b"]
    issuer.keys.reverse()
    await trust._look()
    assert len(changes) == 1


async def test_a_rotated_key_is_noticed_and_an_outage_keeps_the_last() -> None:
    issuer, changes = _Issuer(), list[int]()
    trust = source(issuer, changes)
    await trust.first()
    issuer.away = True
    await trust._look()
    assert trust.current.issuer == "https://issuer.example"
    issuer.away = False
    issuer.keys.append({"kid": "c", "n": "3"})
    await trust._look()
    assert [key["kid"] for key in trust.current.jwks["keys"]] == ["a", "b", "c"]
    assert len(changes) == 2


async def test_it_looks_again_and_again() -> None:
    issuer = _Issuer()
    trust = source(issuer, [])
    await trust.first()
    running = asyncio.create_task(trust.run())
    await until(lambda: issuer.asked >= 8)
    running.cancel()
