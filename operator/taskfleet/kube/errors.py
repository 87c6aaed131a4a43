"""What can go wrong when the API server is asked.

KubeError
├── NotFoundError       404
├── ConflictError       409: somebody else wrote meanwhile, or the object exists already
├── GoneError           410: a resourceVersion that the server no longer has; list again
├── UnauthorizedError   401
├── ForbiddenError      403: RBAC, a quota, an admission plugin, or a namespace that is being deleted; the message says which
├── InvalidError        the object's own fault; the same request fails again
│   └── MisfitError     the stored object does not fit its definition, which changed after it; nothing can be applied to it
└── UnavailableError    no answer, or one that may be another one in a moment
    └── ThrottledError  429, with the server's wish how long to wait
"""

import json
from typing import Any

# The API server answers these with 500 although the object is at fault: server-side apply could not make sense of it (measured on 1.37).
_MISFIT = "failed to create typed live object"
_FAULTS_OF_OBJECT = ("failed to create typed patch object", "failed to create manager for existing fields", ".spec: conversion failed")


class KubeError(Exception):
    """The API server did not do what it was asked. `status` is the HTTP status, 0 where there was no answer; `reason` is the server's word for it."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason


class NotFoundError(KubeError):
    """There is no such object, namespace or kind."""


class ConflictError(KubeError):
    """The resourceVersion is not the current one, another field manager owns the field, or the object exists already."""


class GoneError(KubeError):
    """The resourceVersion is too old to watch or page from."""


class UnauthorizedError(KubeError):
    """The credential was not accepted."""


class ForbiddenError(KubeError):
    """Not allowed: by RBAC, quota, admission, or because the namespace is ending."""


class InvalidError(KubeError):
    """The object can't be accepted as it is."""


class MisfitError(InvalidError):
    """What is stored has a field of another type than the definition says now. Server-side apply refuses to touch it; other writes are possible."""


class UnavailableError(KubeError):
    """The API server could not be reached, or failed by itself."""


class ThrottledError(UnavailableError):
    """Too many requests; `retry_after` in seconds."""

    def __init__(self, message: str, *, status: int, reason: str, retry_after: float) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after = retry_after


_BY_STATUS: dict[int, type[KubeError]] = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    415: InvalidError,
    422: InvalidError,
}


def from_response(status: int, body: bytes, *, retry_after: str | None = None) -> KubeError:
    """The error that an answer of 400 or above stands for. The body of a well-behaved server is a metav1.Status."""
    content = _status_of(body)
    return from_status(content | {"code": status}, retry_after=retry_after)


def from_status(content: dict[str, Any], *, retry_after: str | None = None) -> KubeError:
    """The error that a metav1.Status stands for; watches send it as the object of an ERROR event."""
    status = int(content.get("code") or 500)
    reason = str(content.get("reason") or "")
    message = str(content.get("message") or f"the API server answered {status}")
    if status == 429:
        return ThrottledError(message, status=status, reason=reason, retry_after=_seconds(retry_after))
    if status >= 500 and _MISFIT in message:
        return MisfitError(message, status=status, reason=reason)
    if status >= 500 and any(fault in message for fault in _FAULTS_OF_OBJECT):
        return InvalidError(message, status=status, reason=reason)
    return _BY_STATUS.get(status, UnavailableError)(message, status=status, reason=reason)


def _status_of(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    return {"message": body[:500].decode(errors="replace").strip()}


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
