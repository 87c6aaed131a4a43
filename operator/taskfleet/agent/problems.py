"""Errors as OpenAI's clients expect them, and what each is for."""

from typing import NoReturn

import orjson
from aiohttp import web

from taskfleet.agent.tokens import Caller, TokenRefused, TokenVerifier
from taskfleet.api.agent import NO_SUCH_ROUTE, NOT_HERE, NOT_HERE_STATUS

RETRY_AFTER_SECONDS = "1"


def problem(status: int, *, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An OpenAI-shaped error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)


def not_here(model: str, why: str) -> web.Response:
    """Another pod may have it: nothing of this request has reached the engine, or the engine doesn't know the model."""
    return problem(NOT_HERE_STATUS, code=NOT_HERE, message=f"model {model!r} is not served by this pod: {why}")


def no_such_route(path: str) -> web.Response:
    """It would be the same on every pod of the pool: they all run the same engine on the same base."""
    return problem(NO_SUCH_ROUTE, code="no-such-route", message=f"the engine does not answer {path}")


def engine_unavailable(why: str) -> web.Response:
    """The engine can't answer now, and has not seen the request."""
    return problem(503, code="engine-unavailable", message=why, headers={"Retry-After": RETRY_AFTER_SECONDS})


def engine_failed(why: str) -> web.Response:
    """The engine may have begun on the request: whoever repeats it without end could kill one engine after the other with it."""
    return problem(502, code="engine-failed", message=why)


def require(verifier: TokenVerifier, request: web.Request, caller: Caller) -> None:
    """Raises the HTTP error for whoever is not `caller`."""
    try:
        found = verifier.caller(request.headers.get("Authorization"))
    except TokenRefused as error:
        _raise(web.HTTPUnauthorized, 401, str(error), {"WWW-Authenticate": "Bearer"})
    if found is not caller:
        _raise(web.HTTPForbidden, 403, f"this is for the {caller} only", {})


def _raise(kind: type[web.HTTPException], status: int, message: str, headers: dict[str, str]) -> NoReturn:
    answer = problem(status, code="unauthorized" if status == 401 else "forbidden", message=message)
    raise kind(text=answer.text, content_type="application/json", headers=headers)
