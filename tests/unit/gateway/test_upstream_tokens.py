"""Pods learn of a rotated issuer's key at the kubelet's pace: some still want the token that was signed before, others want one that is signed anew."""

from collections.abc import Collection

from aiohttp import web

from tests.unit.gateway.pods import Pod, refusing
from tests.unit.gateway.world import MODEL, running


class _Tokens:
    """`new`, and for who refuses it `old`."""

    async def get(self, _audience: str) -> str:
        return "new"

    async def another(self, _audience: str, refused: Collection[str]) -> str | None:
        return None if "old" in refused else "old"


class _Choosy(Pod):
    """Takes some tokens."""

    takes: str = ""
    presented: tuple[str, ...] = ()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.presented += (token,)
        if token != self.takes:
            return await refusing(401, "unauthorized")(self, request, {})
        return await super()._handle(request)


async def test_a_pod_that_refuses_the_new_token_is_shown_the_old_one() -> None:
    pod = _Choosy("a", models={MODEL}, any_token=True)
    pod.takes = "old"
    async with pod, running(pod, tokens=_Tokens()) as world:
        for _ in range(2):
            async with world.post() as response:
                assert response.status == 200
        assert pod.presented == ("new", "old") * 2
        assert world.figure("elsewhere_total", reason="unauthorized") == 0


async def test_a_pod_that_refuses_all_tokens_is_shown_each_once() -> None:
    pod = _Choosy("a", models={MODEL}, any_token=True)
    async with pod, running(pod, tokens=_Tokens(), hold_seconds=0.0) as world, world.post() as response:
        assert response.status == 503
        assert pod.presented == ("new", "old")
