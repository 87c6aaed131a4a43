"""Who is calling, and what may they call? Kubernetes answers both: TokenReview with the gateway's own audience, then SubjectAccessReview on taskmodels.

A token that is good for the API server is not good here, and the other way round: a client hands its credential to the gateway alone.
"""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from taskfleet.gateway.errors import UnauthenticatedError, UnavailableError
from taskfleet.gateway.model_name import own_namespace
from taskfleet.gateway.review import OUTAGE_SECONDS, ReviewCache, ReviewUnavailableError
from taskfleet.kube.errors import KubeError
from taskfleet.kube.identity import Identity
from taskfleet.names import EVALUATOR_ACCOUNT, GROUP, account_subject

MAX_TOKEN_LENGTH = 16_384
VERB = "create"
RESOURCE = "taskmodels"
INVOKE = "invoke"
PREVIEW = "preview"

Answer = TypeVar("Answer")


class Reviewer(Protocol):
    """The API server's two reviews; `kube.Kube` has them. Both raise KubeError."""

    async def review_token(self, token: str, audiences: tuple[str, ...]) -> Identity | None: ...

    async def review_access(
        self, identity: Identity, *, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str = ""
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may ask. `identity` is None where clients are not authenticated at all."""

    identity: Identity | None
    token_hash: bytes
    expiry: float  # Unix time at which the token ends, as it says itself
    namespace: str | None  # where bare model names are looked for

    @property
    def username(self) -> str:
        """As Kubernetes tells it; "" where clients are not authenticated."""
        return self.identity.username if self.identity else ""


ANYBODY = Caller(identity=None, token_hash=b"", expiry=float("inf"), namespace=None)


class Access(Protocol):
    """What the servers ask."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who is calling. Raises UnauthenticatedError, UnavailableError."""
        ...

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:
        """May the caller use a TaskModel, or with no name all of a namespace? Raises UnavailableError."""
        ...


class OpenAccess:
    """`auth.mode: None`: everybody may do everything."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:  # noqa: ARG002  whatever they send
        return ANYBODY

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:  # noqa: ARG002
        return True


class KubernetesAccess:
    """Kubernetes' answers, cached."""

    def __init__(self, reviewer: Reviewer, *, audience: str, timeout: float, clock: Callable[[], float]) -> None:
        self._reviewer = reviewer
        self._audience = audience
        self._timeout = timeout
        self._clock = clock
        self._callers: ReviewCache[Caller] = ReviewCache(clock)
        self._rights: ReviewCache[bool] = ReviewCache(clock, size=100_000)

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """The caller of a request. Raises UnauthenticatedError; UnavailableError where the API server can't be asked and no earlier answer stands in."""
        token = _bearer(headers)
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        caller = self._callers.known(key)
        if caller is None:
            expiry = _expiry(token, self._clock())
            try:
                caller = await self._callers.get(key, expiry, lambda: self._review(token, key, expiry))
            except ReviewUnavailableError:
                raise UnavailableError(
                    "Who you are can't be checked now: the API server is out of reach", code="auth_unavailable", retry_after=5
                ) from None
        if caller is None:
            raise UnauthenticatedError(f"The token was refused; it must be valid and have the audience {self._audience!r}", presented=True)
        return caller

    async def may(self, caller: Caller, subresource: str, namespace: str, name: str = "") -> bool:
        """Whether the caller has the right. Raises UnavailableError."""
        if evaluates(caller, namespace) and subresource in (INVOKE, PREVIEW):
            return True
        key = (caller.token_hash, subresource, namespace, name)
        if self._rights.known(key):
            return True
        try:
            return bool(await self._rights.get(key, caller.expiry, lambda: self._review_right(caller, subresource, namespace, name)))
        except ReviewUnavailableError:
            raise UnavailableError(
                "Your rights can't be checked now: the API server is out of reach", code="auth_unavailable", retry_after=5
            ) from None

    async def _review(self, token: str, key: bytes, expiry: float) -> Caller | None:
        identity = await self._bounded(self._reviewer.review_token(token, (self._audience,)))
        # An authenticator that knows no audiences answers for none; such a token is not for us.
        if identity is None or self._audience not in identity.audiences:
            return None
        return Caller(identity=identity, token_hash=key, expiry=expiry, namespace=own_namespace(identity.username))

    async def _review_right(self, caller: Caller, subresource: str, namespace: str, name: str) -> bool | None:
        if caller.identity is None:
            return None
        allowed = await self._bounded(
            self._reviewer.review_access(
                caller.identity, verb=VERB, group=GROUP, resource=RESOURCE, subresource=subresource, namespace=namespace, name=name
            )
        )
        return allowed or None

    async def _bounded(self, review: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                return await review
        except (KubeError, TimeoutError) as error:
            raise ReviewUnavailableError(str(error)) from error


def evaluates(caller: Caller, namespace: str) -> bool:
    """Is it the account of the namespace's evaluations? It may call every revision there, without a Role that somebody would have to write (docs/decisions/0021)."""
    return caller.identity is not None and caller.identity.username == account_subject(namespace, EVALUATOR_ACCOUNT)


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if not token:
        raise UnauthenticatedError("A token is needed: Authorization: Bearer <token>", presented=False)
    if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_LENGTH or not token.isascii() or " " in token:
        raise UnauthenticatedError("The Authorization header must be: Bearer <token>", presented=True)
    return token


def _expiry(token: str, now: float) -> float:
    """When the token says that it ends; an hour from now where it doesn't say. Not checked: it only shortens what the API server allowed."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        claims = {}
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    return float(expiry) if isinstance(expiry, int | float) else now + OUTAGE_SECONDS
