"""Who is asking? Checks tokens of ServiceAccounts without the API server, by the issuer's keys that the operator wrote beside the desired document.

A token is good here only if it was minted for this pool: its audience is the pool's UID and nothing else. So one that is captured in a pod opens no other pool.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from taskfleet import names
from taskfleet.api.agent import PoolIdentity, Trust

LEEWAY_SECONDS = 10  # clocks of nodes
MAX_TOKEN_LENGTH = 16_384
MAX_CACHED = 1024

# The one algorithm of each kind of key: what a token's header says is never what decides.
_RSA = "RS256"
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class Caller(StrEnum):
    """Who may ask anything of an agent."""

    OPERATOR = "operator"
    GATEWAY = "gateway"
    PEER = "pool's other pods"


class TokenRefused(Exception):  # noqa: N818  (says what happened, as HTTP does)
    """The token is not good here. The message may be shown to whoever sent it."""


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    expires: float  # seconds since the epoch


class TokenVerifier:
    """Checks `Authorization` headers. Verified tokens are remembered by their hash until they expire, or until keys or audience change."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._trust: Trust | None = None
        self._pool: PoolIdentity | None = None
        self._keys: dict[str, tuple[jwt.PyJWK, str]] = {}
        self._verified: dict[bytes, _Verified] = {}

    def use_trust(self, trust: Trust) -> None:
        """Issuer, keys and subjects to check against from now on."""
        self._trust = trust
        self._keys = _usable_keys(trust.jwks)
        self._verified.clear()

    def use_pool(self, pool: PoolIdentity) -> None:
        """Its UID is the audience. Its own account, which has its name and belongs to the agents of its pods alone, is its peers' subject."""
        if pool != self._pool:
            self._pool = pool
            self._verified.clear()

    def caller(self, authorization: str | None) -> Caller:
        """Who sent this header; raises TokenRefused."""
        scheme, _, token = (authorization or "").partition(" ")
        # Bytes that are no text reach us as lone surrogates, which can't be hashed.
        if scheme.lower() != "bearer" or not token or not token.isascii():
            raise TokenRefused("a bearer token is needed")
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenRefused("the token is too long")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and known.expires + LEEWAY_SECONDS > self._now():
            return known.caller
        verified = self._verify(token)
        while len(self._verified) >= MAX_CACHED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = verified
        return verified.caller

    def _verify(self, token: str) -> _Verified:
        trust, pool = self._trust, self._pool
        if trust is None or pool is None:
            raise TokenRefused("this pod does not know yet whom to trust")
        claims = self._claims(token, trust.issuer, pool.uid)
        # A token with a second audience is good elsewhere too: whoever minted it didn't mean this pool alone.
        if claims["aud"] not in (pool.uid, [pool.uid]):
            raise TokenRefused("the token is not for this pool alone")
        callers = {
            names.account_subject(pool.namespace, pool.name): Caller.PEER,
            # Last: should a subject stand twice, these count.
            trust.operator_subject: Caller.OPERATOR,
            trust.gateway_subject: Caller.GATEWAY,
        }
        caller = callers.get(str(claims["sub"]))
        if caller is None:
            raise TokenRefused("the token's subject is neither the operator nor the gateway nor this pool's own account")
        return _Verified(caller, float(claims["exp"]))

    def _claims(self, token: str, issuer: str, audience: str) -> dict[str, Any]:
        try:
            key, algorithm = self._keys[str(jwt.get_unverified_header(token).get("kid"))]
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key.key,
                algorithms=[algorithm],
                audience=audience,
                issuer=issuer,
                leeway=0,
                options={"require": ["exp", "aud", "iss", "sub"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            # Times are checked here, against the clock that the cache goes by.
            now = self._now()
            if float(claims["exp"]) + LEEWAY_SECONDS <= now or float(claims.get("nbf", 0)) - LEEWAY_SECONDS > now:
                raise TokenRefused("the token has expired, or is not valid yet")
        except KeyError:
            raise TokenRefused("the token is signed by an unknown key") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenRefused(f"the token is not valid here: {type(error).__name__}") from None
        return claims


def _usable_keys(jwks: dict[str, Any]) -> dict[str, tuple[jwt.PyJWK, str]]:
    keys: dict[str, tuple[jwt.PyJWK, str]] = {}
    entries = jwks.get("keys")
    for entry in entries if isinstance(entries, list) else []:
        algorithm = _algorithm(entry) if isinstance(entry, dict) else None
        if algorithm is None or not isinstance(entry.get("kid"), str):
            continue
        try:
            keys[entry["kid"]] = jwt.PyJWK(entry, algorithm=algorithm), algorithm
        except jwt.PyJWTError:
            # Keys that this library can't use verify nothing; the others of the set stay good.
            continue
    return keys


def _algorithm(entry: dict[str, Any]) -> str | None:
    if entry.get("use", "sig") != "sig":
        return None
    return _RSA if entry.get("kty") == "RSA" else _CURVES.get(str(entry.get("crv"))) if entry.get("kty") == "EC" else None
