"""How long a request may take: the administrator's limits, and a client's own, shorter ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from taskfleet.gateway.errors import BadRequestError

TIMEOUT_HEADER = "x-taskfleet-timeout-seconds"
FIRST_BYTE_HEADER = "x-taskfleet-first-byte-seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """In seconds. `request`: to the end of the answer, waiting included; `first_byte`: until a stream begins, and between two parts of it."""

    request: float
    first_byte: float

    def shortened(self, headers: Mapping[str, str]) -> "TimeLimits":
        """These limits with what a request's headers say. Raises BadRequestError."""
        if TIMEOUT_HEADER not in headers and FIRST_BYTE_HEADER not in headers:
            return self
        return TimeLimits(
            request=_seconds(headers, TIMEOUT_HEADER, self.request), first_byte=_seconds(headers, FIRST_BYTE_HEADER, self.first_byte)
        )


def _seconds(headers: Mapping[str, str], name: str, bound: float) -> float:
    given = headers.get(name)
    if given is None:
        return bound
    try:
        seconds = float(given) if given.isascii() else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= bound:
        raise BadRequestError(
            f"The header {name} must be a number of seconds above 0 and at most {bound:g}", param=name, code="invalid_header"
        )
    return seconds
