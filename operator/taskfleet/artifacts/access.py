"""How sources are reached, and what one artifact may take of time and room."""

import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from taskfleet.artifacts.addresses import Lookup, Network, look_up
from taskfleet.artifacts.errors import SourceUnavailable
from taskfleet.artifacts.partials import Partials


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the Secret's entries and the mounted claims are, which hosts (with their ports) are asked over plain http, and from which networks beside the public
    ones may be fetched.

    `tls` is None for the usual authorities; `lookup` finds the addresses of a host; `partials` keeps beginnings of files. Once `ended` is set, whatever is under way
    stops with SourceUnavailable: a thread can't be ended otherwise.
    """

    credentials_directory: Path
    claims_directory: Path = Path("/claims")
    insecure_hosts: frozenset[str] = field(default_factory=frozenset)
    allowed_networks: tuple[Network, ...] = ()
    tls: ssl.SSLContext | None = None
    lookup: Lookup = look_up
    partials: Partials | None = None
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one artifact may take."""

    max_bytes: int
    max_files: int = 256
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """Until when something may take: `deadline` is in seconds of the monotonic clock."""

    deadline: float
    ended: threading.Event

    @classmethod
    def of(cls, seconds: float, access: Access) -> Self:
        """From now on."""
        return cls(time.monotonic() + seconds, access.ended)

    def remaining(self, host: str) -> float:
        """Seconds that are left. Raises SourceUnavailable, which names the host, where none are."""
        if self.ended.is_set():
            raise SourceUnavailable("we are ending")
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise SourceUnavailable(f"{host} took too long")
        return remaining
