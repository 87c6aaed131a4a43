"""W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context/): what a client sends is passed on if it is valid, and dropped as a whole if not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# Later versions may add fields behind these four; version ff is forbidden, and so are ids of zeros only.
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MAX_MEMBERS = 32
# The standard asks for 512 characters at least.
_MAX_STATE = 1024
_MAX_PARENT = 128


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Both headers, valid."""

    parent: str
    state: str = ""

    def lines(self) -> str:
        """As header lines of an HTTP request."""
        state = f"{TRACESTATE}: {self.state}\r\n" if self.state else ""
        return f"{TRACEPARENT}: {self.parent}\r\n{state}"


def trace_context(headers: Mapping[str, str]) -> TraceContext | None:
    """The context of a request; None without a valid one."""
    parent = headers.get(TRACEPARENT)
    if parent is None:
        return None
    match = _PARENT.fullmatch(parent) if len(parent) <= _MAX_PARENT else None
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    return TraceContext(parent, _state(headers))


def _state(headers: Mapping[str, str]) -> str:
    getall = getattr(headers, "getall", None)
    given = ",".join(getall(TRACESTATE, ())) if getall else headers.get(TRACESTATE, "")
    if not given or len(given) > _MAX_STATE:
        return ""
    members = [member.strip(" \t") for member in given.split(",")]
    members = [member for member in members if member]
    names = {member.partition("=")[0] for member in members}
    valid = len(members) <= _MAX_MEMBERS and len(names) == len(members) and all(map(_MEMBER.fullmatch, members))
    return ",".join(members) if valid else ""
