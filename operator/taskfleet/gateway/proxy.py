"""From a request to its answer: choose a revision and a pod, try, go elsewhere, wait, relay.

A request goes to another pod only while nothing has been sent to the client. One that may have reached an engine is repeated once; one that was refused,
as often as its time allows. What waits has a place and a deadline; what can't be answered gets a 503 that says when to come again.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from aiohttp import ClientConnectionResetError, web

from taskfleet.gateway import request as requests
from taskfleet.gateway.errors import ApiError, ModelNotFoundError, UnavailableError, UpstreamFailedError
from taskfleet.gateway.hold import RETRY_AFTER, Changes, Hold
from taskfleet.gateway.meter import CLIENT_GONE, NO_REVISION, Meter, RevisionMeter
from taskfleet.gateway.model_name import ModelName
from taskfleet.gateway.pick import pick_pod, pick_revision
from taskfleet.gateway.records import Endpoint, Key
from taskfleet.gateway.request import InferenceRequest
from taskfleet.gateway.routes import RouteTable, Target
from taskfleet.gateway.shaping import Kind
from taskfleet.gateway.stream import EventRelay, EventTooLongError, ModelRewriter, usage_of
from taskfleet.gateway.upstream import REQUEST_ID, Answer, ElsewhereError, Load, Upstream
from taskfleet.logs import fields

log = logging.getLogger(__name__)

REVISION_HEADER = "x-taskfleet-revision"
HELD_HEADER = "x-taskfleet-held-seconds"

PATHS = {Kind.CHAT: "/v1/chat/completions", Kind.COMPLETION: "/v1/completions"}

REST_SECONDS = 0.5  # a pod that refused is asked last for so long
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # between rounds over all pods when nothing changes in the routes

_NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class Call:
    """One client's request on its way."""

    name: ModelName
    raw: bytes
    inference: InferenceRequest
    request_id: str
    began: float  # monotonic
    meter: RevisionMeter | None = None  # of the revision that was tried last
    held: float = 0.0  # seconds that it has waited
    give_up: float | None = None  # monotonic; set at the first trouble
    rounds: int = 0  # over all pods, without success
    executed: int = 0  # attempts that may have reached an engine
    tried: dict[str, set[str]] = field(default_factory=dict)  # in this round: addresses by engine model
    prepared_for: str | None = None  # UID of the revision whose settings are in `inference`
    _conversation: str | None = None

    @property
    def task(self) -> Key:
        """The TaskModel's namespace and name."""
        return self.name.namespace, self.name.name

    def body_for(self, target: Target) -> bytes:
        """The body for a revision: its own prompt, defaults and schema. Raises BadRequestError."""
        if self.prepared_for != target.revision.uid:
            if self.prepared_for is not None:
                self.inference = requests.parse(self.raw, self.inference.kind)
            self.inference.prepare(target.revision.shaper)
            self.prepared_for = target.revision.uid
        return self.inference.encode(target.model)

    def conversation(self) -> str:
        """What choices stick to: of the request as the client sent it, whatever a task has put around it since."""
        if self._conversation is None:
            original = self.inference if self.prepared_for is None else requests.parse(self.raw, self.inference.kind)
            self._conversation = original.conversation()
        return self._conversation


class Proxy:
    """Answers requests of callers who may ask."""

    def __init__(self, *, table: RouteTable, changes: Changes, hold: Hold, upstream: Upstream, meter: Meter, hold_seconds: float) -> None:
        self._table = table
        self._changes = changes
        self._hold = hold
        self._upstream = upstream
        self._meter = meter
        self._hold_seconds = hold_seconds
        self._load = Load()

    async def answer(
        self, request: web.BaseRequest, name: ModelName, raw: bytes, inference: InferenceRequest, *, request_id: str
    ) -> web.StreamResponse:
        """The response, sent already where it is a stream. Raises ApiError as long as nothing has been sent."""
        call = Call(name, raw, inference, request_id, time.monotonic())
        code = CLIENT_GONE
        try:
            response, code = await self._answer(request, call)
            return response
        except ApiError as error:
            code = error.status
            raise
        except Exception:
            code = 500
            raise
        finally:
            self._ended(call, code)

    def _ended(self, call: Call, code: int) -> None:
        meter = call.meter
        if meter is None and self._table.task(call.task) is not None:
            meter = self._meter.of(call.task, NO_REVISION)
        if meter is not None:
            meter.ended(code, time.monotonic() - call.began)

    async def _answer(self, request: web.BaseRequest, call: Call) -> tuple[web.StreamResponse, int]:
        while True:
            target, endpoint = self._choose(call) or await self._wait(call)
            meter = call.meter = self._meter.of(call.task, target.revision.name)
            meter.in_flight.inc()
            self._load.enter(endpoint.address)
            try:
                return await self._attempt(request, call, target, endpoint, meter)
            except ElsewhereError as elsewhere:
                self._go_elsewhere(call, target, endpoint, elsewhere)
            finally:
                self._load.leave(endpoint.address)
                meter.in_flight.dec()

    def _go_elsewhere(self, call: Call, target: Target, endpoint: Endpoint, elsewhere: ElsewhereError) -> None:
        self._meter.elsewhere.labels(elsewhere.reason).inc()
        self._load.rest(target.model, endpoint.address, time.monotonic() + REST_SECONDS)
        call.tried.setdefault(target.model, set()).add(endpoint.address)
        log.debug(
            "pod did not answer",
            extra=fields(
                model=call.name.public, revision=target.revision.name, pod=endpoint.address, reason=elsewhere.reason, why=str(elsewhere)
            ),
        )
        self._give_up(call)
        if elsewhere.executed:
            call.executed += 1
            if call.executed > 1:
                raise UpstreamFailedError("The model broke off before it answered, twice", retry_after=RETRY_AFTER)

    # Where to

    def _targets(self, call: Call) -> Sequence[Target]:
        """The revisions to try, the best first. Raises ModelNotFoundError where the task, or the pinned revision, is gone."""
        if self._table.task(call.task) is None:
            raise ModelNotFoundError(call.inference.model)
        if call.name.revision is not None:
            pinned = self._table.pinned(call.name)
            if pinned is None:
                raise ModelNotFoundError(call.inference.model)
            return (pinned,)
        route = self._table.route(call.task)
        if route is None:
            return ()
        if len(route.targets) == 1:
            return route.targets
        picked = pick_revision(route.targets, call.conversation())
        # A candidate that all its pods refuse was revoked, and the stable revision answers: nobody waits for a watch.
        return [target for target in (picked, *route.targets) if target is not None and (target is picked or target.revision.promoted)]

    def _choose(self, call: Call) -> tuple[Target, Endpoint] | None:
        now = time.monotonic()
        for target in self._targets(call):
            endpoints = self._table.endpoints(call.name.namespace, target.pool)
            resting = self._load.resting(target.model, now)
            tried = call.tried.get(target.model, _NONE)
            for excluded in (tried | resting, tried) if resting else (tried,):
                if endpoint := pick_pod(target.model, endpoints, self._load.in_flight, excluded):
                    return target, endpoint
        return None

    async def _wait(self, call: Call) -> tuple[Target, Endpoint]:
        """Waits until a pod can be tried (again). Raises UnavailableError at the deadline, ModelNotFoundError when the task goes meanwhile."""
        if call.name.revision is not None and call.tried and all(target.pool is None for target in self._targets(call)):
            # Nobody is told to load a revision that is out of traffic: waiting would be in vain.
            raise ModelNotFoundError(call.inference.model)
        began = time.monotonic()
        give_up = self._give_up(call)
        # A refusing pod changes its mind without a change of routes (an adapter gets proven), so it is asked again, less and less often.
        pause = LONGEST_PAUSE
        if call.tried:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**call.rounds)
            call.rounds += 1
            call.tried.clear()
        try:
            with self._hold.place(call.task):
                while True:
                    remaining = give_up - time.monotonic()
                    if remaining <= 0:
                        raise UnavailableError(f"No pod can answer for {call.name.public} now", retry_after=RETRY_AFTER)
                    await self._changes.wait(min(pause, remaining))
                    if found := self._choose(call):
                        return found
        finally:
            call.held += time.monotonic() - began

    def _give_up(self, call: Call) -> float:
        if call.give_up is None:
            call.give_up = time.monotonic() + self._hold_seconds
        return call.give_up

    # The answer

    async def _attempt(
        self, request: web.BaseRequest, call: Call, target: Target, endpoint: Endpoint, meter: RevisionMeter
    ) -> tuple[web.StreamResponse, int]:
        body = call.body_for(target)
        answer = await self._upstream.ask(
            endpoint, PATHS[call.inference.kind], body, stream=call.inference.stream, request_id=upstream_id(call.request_id)
        )
        async with answer:
            if call.inference.stream and answer.status == 200:
                return await self._relay(request, call, target, answer, meter)
            return whole(call, target, await answer.read(), answer, meter), answer.status

    async def _relay(
        self, request: web.BaseRequest, call: Call, target: Target, answer: Answer, meter: RevisionMeter
    ) -> tuple[web.StreamResponse, int]:
        relay = EventRelay(engine_model=target.model, public_model=call.inference.model, hide_usage=not call.inference.usage_wanted)
        # Nothing goes to the client before the pod's first bytes: until then another pod can still take over.
        chunk = await answer.chunk()
        if not chunk:
            raise ElsewhereError("broken", executed=True, message="a stream without a single byte")
        meter.first_token.observe(time.monotonic() - call.began)
        response = web.StreamResponse(
            headers={"Content-Type": answer.headers.get("content-type", "text/event-stream"), **_headers(call, target)}
        )
        response.headers["Cache-Control"] = "no-cache"
        if not request.keep_alive:
            response.force_close()
        code = 200
        try:
            await response.prepare(request)
            await _pass_on(relay, chunk, answer, response)
        except (ElsewhereError, EventTooLongError, ApiError) as error:
            code = 502
            await _break_off(request, response, error)
        except (ClientConnectionResetError, ConnectionResetError):
            code = CLIENT_GONE
        except Exception:
            # An error's response must not be written into the middle of this one.
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            if relay.usage:
                meter.used(relay.usage)
        return response, code


async def _pass_on(relay: EventRelay, chunk: bytes, answer: Answer, response: web.StreamResponse) -> None:
    while chunk:
        if events := relay.feed(chunk):
            await response.write(events)
        chunk = await answer.chunk()
    if rest := relay.finish():
        await response.write(rest)
    await response.write_eof()


async def _break_off(request: web.BaseRequest, response: web.StreamResponse, error: Exception) -> None:
    """The status is long sent: an event tells readers, and the missing end of the body tells every HTTP client that the answer is not whole."""
    failure = error if isinstance(error, ApiError) else UpstreamFailedError("The model broke off in the middle of its answer")
    log.info("stream broke off", extra=fields(why=str(error)))
    try:
        await response.write(b"data: " + failure.body() + b"\n\n")
    except (ClientConnectionResetError, ConnectionResetError):
        log.debug("client left first")
    if request.transport is not None:
        request.transport.close()


def whole(call: Call, target: Target, body: bytes, answer: Answer, meter: RevisionMeter) -> web.Response:
    """A complete answer, or an engine's refusal, with the client's name for the model."""
    rewriter = ModelRewriter(engine_model=target.model, public_model=call.inference.model)
    if answer.status == 200:
        try:
            usage = usage_of(orjson.loads(body))
        except orjson.JSONDecodeError:
            usage = None
        if usage:
            meter.used(usage)
        body = rewriter.rewrite(body)
    else:
        # Engines name the model in the message, too.
        body = body.replace(target.model.encode(), call.inference.model.encode())
    headers = {"Content-Type": answer.headers.get("content-type", "application/json"), **_headers(call, target)}
    if retry_after := answer.headers.get("retry-after"):
        headers["Retry-After"] = retry_after
    return web.Response(body=body, status=answer.status, headers=headers)


def _headers(call: Call, target: Target) -> dict[str, str]:
    headers = {REQUEST_ID: call.request_id, REVISION_HEADER: target.revision.name}
    if call.held:
        headers[HELD_HEADER] = f"{call.held:.3f}"
    return headers


def upstream_id(request_id: str) -> str:
    """The request's id with something of our own: engines use it as a key, and two clients may send the same."""
    return f"{request_id}-{os.urandom(6).hex()}"
