"""Callers and their rights, as the API server's two reviews tell them."""

import asyncio
import base64
import json
from dataclasses import dataclass, field

import pytest

from taskfleet.gateway.auth import Caller, KubernetesAccess, OpenAccess
from taskfleet.gateway.errors import UnauthenticatedError, UnavailableError
from taskfleet.kube.errors import KubeError
from taskfleet.kube.errors import UnavailableError as ServerUnavailableError
from taskfleet.kube.identity import Identity

WORKER = Identity(
    username="system:serviceaccount:finance:worker", uid="u", groups=("system:authenticated",), audiences=("taskfleet-gateway",)
)


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


@dataclass
class Reviewer:
    """An API server: identities by token, and rights."""

    identities: dict[str, Identity] = field(default_factory=dict)
    rights: set[tuple[str, str, str, str]] = field(default_factory=set)
    trouble: KubeError | None = None
    frozen: bool = False
    tokens_asked: int = 0
    rights_asked: list[tuple[str, str, str, str, str, str]] = field(default_factory=list)

    async def review_token(self, token: str, audiences: tuple[str, ...]) -> Identity | None:
        self.tokens_asked += 1
        assert audiences == ("taskfleet-gateway",)
        await self._answer()
        return self.identities.get(token)

    async def review_access(
        self, identity: Identity, *, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str = ""
    ) -> bool:
        self.rights_asked.append((verb, group, resource, subresource, namespace, name))
        await self._answer()
        return (identity.username, subresource, namespace, name) in self.rights

    async def _answer(self) -> None:
        if self.frozen:
            await asyncio.Event().wait()
        if self.trouble:
            raise self.trouble


@dataclass
class World:
    reviewer: Reviewer = field(default_factory=Reviewer)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.access = KubernetesAccess(self.reviewer, audience="taskfleet-gateway", timeout=0.05, clock=lambda: self.now)

    async def caller(self, token: str | None) -> Caller:
        return await self.access.caller({} if token is None else {"Authorization": f"Bearer {token}"})


async def test_service_account_is_known_and_has_a_namespace() -> None:
    world = World(Reviewer({"good": WORKER}))
    caller = await world.caller("good")
    assert (caller.identity, caller.namespace) == (WORKER, "finance")
    await world.caller("good")
    assert world.reviewer.tokens_asked == 1


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer " + "x" * 20_000, "Bearer t\u00f6ken"]
)
async def test_header_that_carries_no_token_is_refused_without_asking(header: str | None) -> None:
    world = World()
    with pytest.raises(UnauthenticatedError):
        await world.access.caller({} if header is None else {"Authorization": header})
    assert world.reviewer.tokens_asked == 0


async def test_missing_token_and_refused_token_are_told_apart() -> None:
    world = World()
    with pytest.raises(UnauthenticatedError) as missing:
        await world.caller(None)
    with pytest.raises(UnauthenticatedError) as refused:
        await world.caller("bad")
    assert "error" not in missing.value.headers()["WWW-Authenticate"]
    assert 'error="invalid_token"' in refused.value.headers()["WWW-Authenticate"]


async def test_token_without_our_audience_is_refused_whatever_the_review_says() -> None:
    for audiences in ((), ("https://kubernetes.default.svc",)):
        identity = Identity(username="jane", audiences=audiences)
        with pytest.raises(UnauthenticatedError):
            await World(Reviewer({"api": identity})).caller("api")


async def test_right_is_asked_for_as_the_roles_grant_it() -> None:
    world = World(Reviewer({"good": WORKER}, {(WORKER.username, "invoke", "finance", "total")}))
    caller = await world.caller("good")
    assert await world.access.may(caller, "invoke", "finance", "total")
    assert await world.access.may(caller, "invoke", "finance", "total")
    assert not await world.access.may(caller, "preview", "finance", "total")
    assert not await world.access.may(caller, "invoke", "legal", "total")
    assert not await world.access.may(caller, "invoke", "finance")
    assert world.reviewer.rights_asked == [
        ("create", "taskfleet.dev", "taskmodels", subresource, namespace, name)
        for subresource, namespace, name in (
            ("invoke", "finance", "total"),
            ("preview", "finance", "total"),
            ("invoke", "legal", "total"),
            ("invoke", "finance", ""),
        )
    ]


async def test_rights_of_one_token_are_not_those_of_another() -> None:
    other = Identity(username="jane", audiences=("taskfleet-gateway",))
    world = World(Reviewer({"good": WORKER, "jane": other}, {(WORKER.username, "invoke", "finance", "total")}))
    assert await world.access.may(await world.caller("good"), "invoke", "finance", "total")
    assert not await world.access.may(await world.caller("jane"), "invoke", "finance", "total")


async def test_expired_token_is_asked_about_again() -> None:
    token = jwt(exp=1010)
    world = World(Reviewer({token: WORKER}))
    await world.caller(token)
    world.now = 1011
    del world.reviewer.identities[token]
    with pytest.raises(UnauthenticatedError):
        await world.caller(token)


@pytest.mark.parametrize("payload", ["", "!!!", "W10", "bnVsbA", "eyJleHAiOiJ4In0", "WwWw"])
async def test_token_whose_expiry_cannot_be_read_is_judged_by_the_api_server(payload: str) -> None:
    token = f"a.{payload}.c"
    assert (await World(Reviewer({token: WORKER})).caller(token)).identity == WORKER


@pytest.mark.parametrize("trouble", [ServerUnavailableError("connection refused"), None])
async def test_api_server_out_of_reach_is_503_for_strangers_and_nothing_for_the_known(trouble: KubeError | None) -> None:
    token = jwt(exp=100_000)
    world = World(Reviewer({token: WORKER}, {(WORKER.username, "invoke", "finance", "total")}))
    known = await world.caller(token)
    assert await world.access.may(known, "invoke", "finance", "total")
    world.reviewer.trouble, world.reviewer.frozen = trouble, trouble is None
    world.now += 600
    known = await world.caller(token)
    assert await world.access.may(known, "invoke", "finance", "total")
    for question in (world.caller("stranger"), world.access.may(known, "invoke", "finance", "other")):
        with pytest.raises(UnavailableError) as refused:
            await question
        assert (refused.value.reason, refused.value.retry_after) == ("auth_unavailable", 5)


async def test_without_authentication_everybody_may_do_everything() -> None:
    access = OpenAccess()
    assert await access.may(await access.caller({}), "invoke", "finance", "total")


@pytest.mark.parametrize("subresource", ["invoke", "preview"])
async def test_evaluator_may_call_every_revision_of_its_own_namespace_without_a_role(subresource: str) -> None:
    evaluator = Identity(username="system:serviceaccount:finance:taskfleet-evaluator", audiences=("taskfleet-gateway",))
    world = World(Reviewer({"e": evaluator}))
    caller = await world.caller("e")
    assert await world.access.may(caller, subresource, "finance", "vendor")
    assert await world.access.may(caller, subresource, "finance")
    assert world.reviewer.rights_asked == []


@pytest.mark.parametrize(
    ("username", "subresource", "namespace"),
    [
        ("system:serviceaccount:finance:taskfleet-evaluator", "invoke", "legal"),
        ("system:serviceaccount:finance:taskfleet-evaluator", "preview", "legal"),
        ("system:serviceaccount:finance:taskfleet-evaluator", "approve", "finance"),
        ("system:serviceaccount:finance:taskfleet-evaluator-2", "invoke", "finance"),
        ("taskfleet-evaluator", "invoke", "finance"),
        ("finance:taskfleet-evaluator", "invoke", "finance"),
    ],
)
async def test_evaluator_has_no_other_right_and_nobody_else_has_its(username: str, subresource: str, namespace: str) -> None:
    world = World(Reviewer({"e": Identity(username=username, audiences=("taskfleet-gateway",))}))
    assert not await world.access.may(await world.caller("e"), subresource, namespace, "vendor")
    assert len(world.reviewer.rights_asked) == 1
