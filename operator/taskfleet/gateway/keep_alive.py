"""Signs of life for streaming clients whose request waits for a pod: comments of server-sent events, which clients read over and intermediaries count as traffic.

Only for who asks for them. The first one sends the status 200, and with it goes the chance of an honest one: what fails afterwards is told as an event of the stream, as
everything that fails in the middle of an answer.
"""

from collections.abc import Mapping

from aiohttp import web

from taskfleet.gateway.call import Call
from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.upstream import REQUEST_ID

HEADER = "x-taskfleet-keep-alive"
COMMENTS = "comments"
EVENTS = "text/event-stream"
_COMMENT = b": waiting\n\n"


def wanted(headers: Mapping[str, str]) -> bool:
    """Whether a request's client takes comments. Raises BadRequestError."""
    given = headers.get(HEADER)
    if given is None:
        return False
    if given != COMMENTS:
        raise BadRequestError(f"The header {HEADER} must be {COMMENTS!r}, or left out", param=HEADER, code="invalid_header")
    return True


def stream(request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
    """A stream to the client that has not begun yet."""
    response = web.StreamResponse(headers=headers)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Server"] = "taskfleet"
    if not request.keep_alive:
        response.force_close()
    return response


async def comment(request: web.BaseRequest, call: Call) -> None:
    """Sends one comment; the first one begins the stream. Raises ConnectionResetError where the client is gone."""
    if call.opened is None:
        call.opened = stream(
            request, {"Content-Type": f"{EVENTS}; charset=utf-8", **call.answer_headers, REQUEST_ID: call.request_id, **call.held_headers()}
        )
        await call.opened.prepare(request)
    await call.opened.write(_COMMENT)
