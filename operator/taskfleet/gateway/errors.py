"""Errors as clients see them: OpenAI's shape, an honest status, and Retry-After where waiting helps.

ApiError
├── UnauthenticatedError   401  no token, or one that is not for this gateway
├── NotFoundError          404  no such address
├── MethodNotAllowedError  405  the address answers another method
├── ModelNotFoundError     404  no such model, or one that the caller may not see: the two can't be told apart
├── UnknownAnswerError     404  no answer that this caller could judge, for whatever reason
├── BadRequestError        400  the request itself; `param` names the field
├── TooSlowError           408  the body did not come in time
├── AlreadyVotedError      409  the answer has another verdict
├── TooLargeError          413  the body is longer than the gateway takes
├── UnsupportedMediaError  415  the body is not JSON in plain UTF-8
├── ExpectationError       417  the client expects what the gateway doesn't do
├── UnsupportedEndpointError 404  the model's engine does not answer this address
├── TooManyRequestsError   429  this replica has no room for another request, or no more of this tenant's
├── QueueFullError         429  too many requests wait for a pod already
├── UnavailableError       503  nothing can answer now
├── UpstreamFailedError    502  a pod broke off before it answered
└── UpstreamTimedOutError  504  a pod took too long
"""

from collections.abc import Mapping
from typing import ClassVar

import orjson


class ApiError(Exception):
    """Carries everything of the response. `retry_after` is in whole seconds."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.reason = code or self.code
        self.retry_after = retry_after
        self.of_call: Mapping[str, str] = {}  # headers that tell what the request has been through

    def body(self) -> bytes:
        """OpenAI's error object as JSON."""
        return orjson.dumps({"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.reason}})

    def headers(self) -> dict[str, str]:
        """Headers beside Content-Type."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class UnauthenticatedError(ApiError):
    """`presented`: a token was there and was refused (RFC 6750 tells the two apart)."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    def __init__(self, message: str, *, presented: bool) -> None:
        super().__init__(message)
        self.presented = presented

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="taskfleet"' + (', error="invalid_token"' if self.presented else "")}


class NotFoundError(ApiError):
    """No such address."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFoundError(ApiError):
    """One text for models that don't exist and models that the caller may not see."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model[:256]!r} does not exist or you may not use it", param="model")


class UnknownAnswerError(ApiError):
    """One text for ids that were never given, given to somebody else, or given too long ago."""

    status = 404
    type = "invalid_request_error"
    code = "answer_not_found"

    def __init__(self) -> None:
        super().__init__(
            "There is no answer of this id that you could judge: it was given to nobody, to somebody else, or too long ago", param="id"
        )


class UnsupportedEndpointError(ApiError):
    """The model exists, but its engine does not answer this address: an embedding model asked to chat, or the other way round."""

    status = 404
    type = "invalid_request_error"
    code = "unsupported_endpoint"

    def __init__(self, model: str, path: str) -> None:
        super().__init__(f"The model {model[:256]!r} does not answer {path}", param="model")


class MethodNotAllowedError(ApiError):
    """The address exists for another method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This address answers {allowed} only")
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class BadRequestError(ApiError):
    """The request itself is wrong; it would be wrong again."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class TooSlowError(ApiError):
    """The body did not come in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class AlreadyVotedError(ApiError):
    """The answer has another verdict."""

    status = 409
    type = "invalid_request_error"
    code = "already_voted"


class TooLargeError(ApiError):
    """The body is longer than the gateway takes."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaError(ApiError):
    """The body is not JSON in plain UTF-8. `accept_encoding`: what is read, where the encoding was the trouble (RFC 9110, 12.5.3)."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"

    def __init__(self, message: str, *, accept_encoding: str | None = None) -> None:
        super().__init__(message)
        self.accept_encoding = accept_encoding

    def headers(self) -> dict[str, str]:
        return {} if self.accept_encoding is None else {"Accept-Encoding": self.accept_encoding}


class ExpectationError(ApiError):
    """The client expects what the gateway doesn't do."""

    status = 417
    type = "invalid_request_error"
    code = "expectation_failed"


class TooManyRequestsError(ApiError):
    """The replica has no room for another request, or for no more of this tenant's."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_requests"


class QueueFullError(ApiError):
    """No pod can answer now, and too many requests wait for one already: of the task, its namespace or the replica. Not UnavailableError: it is asked for less, not for later."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class UnavailableError(ApiError):
    """Nothing can answer now; it may soon."""

    status = 503
    type = "server_error"
    code = "model_unavailable"


class UpstreamFailedError(ApiError):
    """A pod broke off before it answered."""

    status = 502
    type = "server_error"
    code = "upstream_failed"


class UpstreamTimedOutError(ApiError):
    """A pod took too long."""

    status = 504
    type = "server_error"
    code = "upstream_timeout"
