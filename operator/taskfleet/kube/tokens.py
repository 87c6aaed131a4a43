"""Tokens of this process's own ServiceAccount, one per audience.

A token for a pool has the pool's UID as audience, so whoever captures it in a pod can do nothing with it elsewhere.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from taskfleet.kube.client import Token
from taskfleet.kube.errors import KubeError

SECONDS = 600
RENEW_AT = 0.8  # of a token's life
# After a failed renewal the old token is used so long before the next attempt, in seconds.
RETRY_SECONDS = 5.0
# A token with less left than this could end on its way.
MARGIN_SECONDS = 5.0
# Because somebody refuses a token, another one is asked for so seldom: who refuses them all would have one minted for each of its answers.
REFUSED_RETRY_SECONDS = 30.0


class TokenSource(Protocol):
    """`Kube` has it."""

    async def request_token(self, *, namespace: str, service_account: str, audience: str, seconds: int = SECONDS) -> Token: ...


@dataclass(slots=True)
class _Held:
    token: Token
    asked_at: float
    renew_at: float
    before: Token | None = None  # the one that it took the place of


class PoolTokens:
    """Cached by audience, renewed in the background at 80 % of their life, one request at a time for each audience. `clock` is Unix time.

    Only who has no living token waits for the API server: one that is frozen, and refuses nothing, must not hold up the requests that it has no part in.
    """

    def __init__(self, source: TokenSource, *, namespace: str, service_account: str, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._namespace = namespace
        self._service_account = service_account
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._asking: dict[str, asyncio.Task[Token]] = {}

    async def get(self, audience: str) -> str:
        """A token that is good for `audience`. Raises KubeError where none can be had; while an old one lives, a failed renewal is no error."""
        held = self._held.get(audience)
        now = self._clock()
        if held is not None and now < held.renew_at:
            return held.token.value
        task = self._renewal(audience)
        if held is not None and now < held.token.expires_at - MARGIN_SECONDS:
            return held.token.value
        # Shielded: one caller's cancellation must not fail the others.
        return (await asyncio.shield(task)).value

    async def another(self, audience: str, refused: Collection[str]) -> str | None:
        """A living token that was not refused yet; None where there is none. Raises KubeError.

        When the issuer's key is rotated without an overlap, pods learn of the new one at the kubelet's pace: for two minutes some want the token that was signed before,
        and others one that is signed anew.
        """
        held, now = self._held.get(audience), self._clock()
        for token in (held.token, held.before) if held is not None else ():
            if token is not None and token.value not in refused and now < token.expires_at - MARGIN_SECONDS:
                return token.value
        if held is not None and now < held.asked_at + REFUSED_RETRY_SECONDS:
            return None
        renewed = await asyncio.shield(self._renewal(audience))
        return renewed.value if renewed.value not in refused else None

    def forget(self, audience: str) -> None:
        """The pool is gone."""
        self._held.pop(audience, None)

    def _renewal(self, audience: str) -> asyncio.Task[Token]:
        """The one that is under way, or a new one."""
        task = self._asking.get(audience)
        if task is None or task.done():
            task = asyncio.create_task(self._renew(audience))
            self._asking[audience] = task
            task.add_done_callback(lambda done: self._asked(audience, done))
        return task

    async def _renew(self, audience: str) -> Token:
        held = self._held.get(audience)
        now = self._clock()
        try:
            token = await self._source.request_token(
                namespace=self._namespace, service_account=self._service_account, audience=audience, seconds=SECONDS
            )
        except KubeError:
            if held is None or now >= held.token.expires_at:
                raise
            held.asked_at, held.renew_at = now, min(now + RETRY_SECONDS, held.token.expires_at)
            return held.token
        self._forget_expired(now)
        before = held.token if held is not None and now < held.token.expires_at else None
        self._held[audience] = _Held(token, now, now + (token.expires_at - now) * RENEW_AT, before)
        return token

    def _forget_expired(self, now: float) -> None:
        for audience in [audience for audience, held in self._held.items() if now >= held.token.expires_at]:
            del self._held[audience]

    def _asked(self, audience: str, task: asyncio.Task[Token]) -> None:
        if self._asking.get(audience) is task:
            del self._asking[audience]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; without this, a cancelled waiter's task would be reported as never retrieved
