"""Ids of answers that say, to the gateway alone, which revision answered whom and when: what a user's verdict is about.

An engine makes its answer's id from the id of the request that it gets. So the gateway sends a token as the end of that, and whatever an engine or a client puts before
it means nothing. The token is signed (HMAC-SHA256, cut to 96 bits: RFC 2104, 5) over itself, the revision's UID and the caller; only what isn't known when it comes
back stands in it. No state is kept until somebody votes.
"""

import base64
import binascii
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

# Key and whether the request was pinned, Unix seconds, something of its own, the revision's mark.
_HEAD = struct.Struct(">BI6s7s")
_MAC_BYTES = 12
_PINNED = 0x80
TOKEN_LENGTH = (_HEAD.size + _MAC_BYTES) * 4 // 3  # base64, without padding
MAX_KEY_NUMBER = _PINNED - 1
# A replica whose clock is behind must not refuse what another one has just signed.
CLOCK_SKEW_SECONDS = 60


class UnknownKeyError(Exception):
    """A key that this replica does not know has signed the token: one that is newer than its last look, or none of ours."""


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """A token as it came back. Nothing in it may be believed before `AnswerIds.genuine` has said so."""

    key: int
    pinned: bool  # the client asked for this very revision, so that it is no part of a comparison
    issued: int  # Unix seconds
    mark: bytes  # of the revision
    head: bytes
    mac: bytes


class KeyRing:
    """Keys by number: the highest signs, all of them are good. None at all until the Secret was read."""

    def __init__(self, keys: Mapping[int, bytes] | None = None) -> None:
        self._keys: Mapping[int, bytes] = {}
        self._newest: tuple[int, bytes] | None = None
        self.put(keys or {})

    @property
    def newest(self) -> tuple[int, bytes] | None:
        """What signs."""
        return self._newest

    @property
    def numbers(self) -> list[int]:
        """Of all keys."""
        return sorted(self._keys)

    def put(self, keys: Mapping[int, bytes]) -> None:
        """These are the keys from now on."""
        self._keys = dict(keys)
        self._newest = max(self._keys.items(), default=None)

    def key(self, number: int) -> bytes:
        """Raises UnknownKeyError."""
        if (key := self._keys.get(number)) is None:
            raise UnknownKeyError
        return key


class Keys(Protocol):
    """Where keys come from; `feedback_keys.FeedbackKeys` in a cluster."""

    @property
    def ring(self) -> KeyRing:
        """Those that are known."""
        ...

    async def reread(self) -> None:
        """Looks for new ones, as often as it thinks right."""
        ...


class AnswerIds:
    """Makes tokens and knows its own. `lifetime` in seconds."""

    def __init__(self, ring: KeyRing, *, lifetime: float) -> None:
        self._ring = ring
        self._lifetime = lifetime

    def make(self, *, revision_uid: str, caller: str, pinned: bool, now: float) -> str:
        """A new token; while there is no key something that only tells requests apart. `caller`: user name, "" where nobody is known."""
        newest = self._ring.newest
        if newest is None:
            return os.urandom(6).hex()
        number, key = newest
        head = _HEAD.pack(number | _PINNED if pinned else number, int(now), os.urandom(6), mark(revision_uid))
        return base64.urlsafe_b64encode(head + _mac(key, head, revision_uid, caller)).decode()

    def genuine(self, token: AnswerToken, *, revision_uid: str, caller: str, now: float) -> bool:
        """Whether one of the gateway's replicas has signed it for this caller and this revision, and not too long ago. Raises UnknownKeyError."""
        expected = _mac(self._ring.key(token.key), token.head, revision_uid, caller)
        return hmac.compare_digest(expected, token.mac) and -CLOCK_SKEW_SECONDS <= now - token.issued <= self._lifetime


def read(answer_id: str) -> AnswerToken | None:
    """The token at the end of an answer's id; None where there can't be one."""
    try:
        raw = base64.b64decode(answer_id[-TOKEN_LENGTH:], altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(raw) != _HEAD.size + _MAC_BYTES:
        return None
    head = raw[: _HEAD.size]
    number, issued, _, revision = _HEAD.unpack(head)
    return AnswerToken(
        key=number & MAX_KEY_NUMBER, pinned=bool(number & _PINNED), issued=issued, mark=revision, head=head, mac=raw[_HEAD.size :]
    )


@lru_cache(maxsize=16384)
def mark(revision_uid: str) -> bytes:
    """By what a token names a revision: seven bytes, of which a fleet has no two alike by chance."""
    return blake2b(revision_uid.encode(), digest_size=7).digest()


def _mac(key: bytes, head: bytes, revision_uid: str, caller: str) -> bytes:
    # No UID has a zero byte in it, so where the caller begins can't be moved.
    return hmac.digest(key, head + revision_uid.encode() + b"\0" + caller.encode("utf-8", "surrogatepass"), "sha256")[:_MAC_BYTES]
