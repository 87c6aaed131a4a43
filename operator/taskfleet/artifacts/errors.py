"""What can be wrong with an artifact, sorted by what helps.

ArtifactError
├── RetryableArtifactError       the same bytes may be had later
│   ├── SourceUnavailable        the source can't be reached, fails, or is too slow
│   ├── ArtifactNotFound         the source answers, but has no such version
│   ├── StillFetching            the bytes are on their way, and have to be there before anything can be said of them
│   ├── SourceNotAllowed         the source is at an address, or sends us to one, that nothing is fetched from
│   ├── CredentialsMissing       the source wants credentials that the namespace's Secret doesn't have (yet), or refuses those that it has
│   └── StoreFull                the pod's store has no room for it now
└── PermanentArtifactError       the same version will never be served; the source has to change
    ├── ArtifactInvalid          wrong files, base, rank, size or shape
    │   └── ArtifactTooLarge     more bytes than allowed
    ├── DigestMismatch           the bytes are not those of the digest
    └── UnsupportedSource        this version does not fetch from there

`reason` is what goes into conditions. Messages name hosts, files and fields, never a credential.
"""

from typing import ClassVar

from taskfleet.api.conditions import Reason


class ArtifactError(Exception):
    """Anything that is wrong with an artifact; `str()` is one sentence for people."""

    reason: ClassVar[Reason]
    permanent: ClassVar[bool]


class RetryableArtifactError(ArtifactError):
    """The same bytes may be had later."""

    permanent = False


class SourceUnavailable(RetryableArtifactError):  # noqa: N818  (named as the condition's reason, which people alert on)
    """The source can't be reached, fails, or is too slow."""

    reason = Reason.SOURCE_UNAVAILABLE


class ArtifactNotFound(RetryableArtifactError):  # noqa: N818
    """The source answers, but has no such version."""

    reason = Reason.ARTIFACT_NOT_FOUND


class SourceNotAllowed(RetryableArtifactError):  # noqa: N818
    """The source is at an address that nothing is fetched from. Names may resolve to another one later."""

    reason = Reason.SOURCE_NOT_ALLOWED


class StillFetching(RetryableArtifactError):  # noqa: N818
    """The bytes are on their way."""

    reason = Reason.RESOLVING


class CredentialsMissing(RetryableArtifactError):  # noqa: N818
    """The source wants credentials that aren't there, or refuses those that are."""

    reason = Reason.CREDENTIALS_MISSING


class StoreFull(RetryableArtifactError):  # noqa: N818
    """The pod's store has no room for it now: other artifacts may go, or the class gives it a larger volume."""

    reason = Reason.STORE_FULL


class PermanentArtifactError(ArtifactError):
    """The same version will never be served."""

    permanent = True


class ArtifactInvalid(PermanentArtifactError):  # noqa: N818
    """Wrong files, base, rank, size or shape."""

    reason = Reason.ARTIFACT_INVALID


class ArtifactTooLarge(ArtifactInvalid):
    """More bytes than allowed. Where less was allowed than the class's limit, because a store is nearly full, it becomes StoreFull."""


class DigestMismatch(PermanentArtifactError):  # noqa: N818
    """The bytes are not those of the digest."""

    reason = Reason.DIGEST_MISMATCH


class UnsupportedSource(PermanentArtifactError):  # noqa: N818
    """Nothing is fetched from such a source in this version."""

    reason = Reason.UNSUPPORTED_SOURCE
