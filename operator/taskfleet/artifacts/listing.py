"""Sources that are files without a digest of their own: what such a source has to be able to do.

A source of this kind is one function, a `Lister`: it answers an `Inquiry` with the files that it has under a version. It names files and opens them; which of them are
wanted, limits, hashes, resuming and the digest are `fetching`'s, for all sources alike.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts.access import Access, TimeLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which artifact is meant. Two equal orders are answered with the same bytes, as long as the source doesn't change."""

    kind: ArtifactKind
    source: str  # a URL, as `api.fields.SourceUrl` allows it
    version: str
    credentials_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """An order, and how and until when it may be answered."""

    order: Order
    access: Access
    time: TimeLimit


@dataclass(slots=True)
class Stream:
    """A file that is being read.

    `begins_at` is the offset of the first byte: the one that was asked for, or 0 where the source can't go on there, or has other bytes than `validator` names. `size` is
    that of the whole file, where it is said. `validator` names these very bytes to the same source later (a strong ETag); None: they can't be named.
    """

    begins_at: int
    size: int | None
    validator: str | None
    pieces: Iterator[bytes]


# Opens a file for reading from an offset on; with an offset above 0 comes the validator that the earlier stream had. Raises ArtifactError, as the stream's pieces may:
# SourceUnavailable for whatever may be better in a moment, a broken connection above all.
Open = Callable[[int, str | None], AbstractContextManager[Stream]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a source. `size` in bytes and `sha256` (64 hex digits) are what the listing says, if it does; both are checked."""

    name: str
    open: Open
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The files under a version, or one plain tar that holds them. Names may be anything: what may not be served is left out, or refused, by who fetches."""

    files: tuple[RemoteFile, ...] = ()
    tar: RemoteFile | None = None


# Blocks; is run in a thread. Raises ArtifactError: ArtifactNotFound where there is no such version.
Lister = Callable[[Inquiry], Listing]
