"""Errors as clients see them: OpenAI's shape, an honest status, and Retry-After where waiting helps.

ApiError
├── UnauthenticatedError   401  no token, or one that is not for this gateway
├── NotFoundError          404  no such address
├── MethodNotAllowedError  405  the address answers another method
├── ModelNotFoundError     404  no such model, or one that the caller may not see: the two can't be told apart
├── BadRequestError        400  the request itself; `param` names the field
├── TooSlowError           408  the body did not come in time
├── TooLargeError          413  the body is longer than the gateway takes
├── TooManyRequestsError   429  this replica has no room for another request
├── UnavailableError       503  nothing can answer now
├── UpstreamFailedError    502  a pod broke off before it answered
└── UpstreamTimedOutError  504  a pod took too long
"""

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


class TooLargeError(ApiError):
    """The body is longer than the gateway takes."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class TooManyRequestsError(ApiError):
    """The replica has no room for another request."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_requests"


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
