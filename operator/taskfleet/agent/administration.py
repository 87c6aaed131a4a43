"""What only the operator may ask: the desired document in, the state out, which bytes stand behind a version, and whether an idle pod may go."""

import logging
import math
from collections.abc import Callable

import orjson
from aiohttp import web
from pydantic import ValidationError

from taskfleet.agent.board import Board
from taskfleet.agent.desired import DesiredDocument, Offer
from taskfleet.agent.idle_drain import IdleDrain
from taskfleet.agent.problems import require
from taskfleet.agent.staging import Staging
from taskfleet.agent.tokens import Caller, TokenVerifier
from taskfleet.api.agent import AgentProblem, DesiredState, DrainRequest, ResolveRequest
from taskfleet.api.conditions import Reason
from taskfleet.api.fields import Model
from taskfleet.artifacts.errors import ArtifactError
from taskfleet.logs import fields

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60.0

_STATUS = {
    Reason.SOURCE_NOT_ALLOWED: 403,
    Reason.ARTIFACT_NOT_FOUND: 404,
    Reason.CREDENTIALS_MISSING: 424,
    Reason.SOURCE_UNAVAILABLE: 503,
    Reason.STORE_FULL: 507,
    Reason.RESOLVING: 503,
}
_PERMANENT_STATUS = 422

_REFUSALS = {
    Offer.STALE: "a newer document is in force",
    Offer.OTHER_POOL: "this pod belongs to another pool",
    Offer.CONTRADICTION: "the document changes the base's digest, names one thing twice, or has an adapter without a digest",
}


class Administration:
    """Handlers of the agent's administration."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        document: DesiredDocument,
        board: Board,
        staging: Staging,
        idle_drain: IdleDrain,
        taken_up: Callable[[DesiredState], None],
    ) -> None:
        self._verifier = verifier
        self._document = document
        self._board = board
        self._staging = staging
        self._idle_drain = idle_drain
        self._taken_up = taken_up

    async def put_desired(self, request: web.Request) -> web.Response:
        require(self._verifier, request, Caller.OPERATOR)
        try:
            offered = DesiredState.model_validate_json(await request.read())
        except ValidationError as error:
            return _problem(400, Reason.INVALID_SPEC, f"no desired document: {error.errors(include_input=False)[0]['msg']}", permanent=True)
        try:
            verdict = self._document.offer(offered, replaces_equal=True)
        except OSError as error:
            # What serves goes on, by the document before.
            log.error("desired document can't be kept", extra=fields(error=str(error), generation=offered.generation))  # noqa: TRY400  (no fault of the code)
            return _problem(507, Reason.STORE_FULL, f"the document can't be kept: {error.strerror or error}", permanent=False)
        if verdict in _REFUSALS:
            log.warning("desired document is refused", extra=fields(why=verdict.value, generation=offered.generation))
            return _problem(409, Reason.INVALID_SPEC, _REFUSALS[verdict], permanent=verdict is not Offer.STALE)
        if verdict is Offer.ACCEPTED:
            self._taken_up(offered)
        return _answer(self._board.state())

    async def get_state(self, request: web.Request) -> web.Response:
        require(self._verifier, request, Caller.OPERATOR)
        try:
            after = int(request.query.get("after", "-1"))
            wait = float(request.query.get("wait", "0"))
        except ValueError:
            return _problem(400, Reason.INVALID_SPEC, "after and wait must be numbers", permanent=True)
        seconds = min(max(wait, 0.0), MAX_WAIT_SECONDS) if math.isfinite(wait) else 0.0
        return _answer(await self._board.newer_than(after, seconds=seconds) if "after" in request.query else self._board.state())

    async def resolve(self, request: web.Request) -> web.Response:
        require(self._verifier, request, Caller.OPERATOR)
        try:
            wanted = ResolveRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return _problem(400, Reason.INVALID_SPEC, f"no resolve request: {error.errors(include_input=False)[0]['msg']}", permanent=True)
        try:
            current = self._document.current
            reply = await self._staging.resolve(wanted, current.limits if current is not None else None)
        except ArtifactError as error:
            status = _PERMANENT_STATUS if error.permanent else _STATUS[error.reason]
            return _problem(status, error.reason, str(error), permanent=error.permanent)
        return _answer(reply)

    async def drain(self, request: web.Request) -> web.Response:
        require(self._verifier, request, Caller.OPERATOR)
        try:
            wanted = DrainRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return _problem(400, Reason.INVALID_SPEC, f"no drain request: {error.errors(include_input=False)[0]['msg']}", permanent=True)
        reply = self._idle_drain.ask(wanted)
        return _answer(reply, status=200 if reply.accepted else 409)

    async def undrain(self, request: web.Request) -> web.Response:
        require(self._verifier, request, Caller.OPERATOR)
        self._idle_drain.end()
        return _answer(self._board.state())


def _answer(content: Model, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content.to_json()), content_type="application/json")


def _problem(status: int, reason: Reason, message: str, *, permanent: bool) -> web.Response:
    body = orjson.dumps(AgentProblem(reason=reason, message=message, permanent=permanent).to_json())
    return web.Response(status=status, body=body, content_type="application/json")
