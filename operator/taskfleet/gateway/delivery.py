"""An answer on its way from a pod to the client: whole, or as a stream."""

import logging
import time

import orjson
from aiohttp import ClientConnectionResetError, web

from taskfleet.gateway.call import Call
from taskfleet.gateway.errors import ApiError, BadRequestError, UpstreamFailedError
from taskfleet.gateway.keep_alive import EVENTS, stream
from taskfleet.gateway.meter import CLIENT_GONE, RevisionMeter
from taskfleet.gateway.routes import Target
from taskfleet.gateway.shaping import Kind
from taskfleet.gateway.stream import EventRelay, EventTooLongError, ModelRewriter, Usage, usage_within
from taskfleet.gateway.upstream import UNCOUNTED_BYTES, Answer, ElsewhereError
from taskfleet.logs import fields

log = logging.getLogger(__name__)

JSON = "application/json"


async def relay(
    request: web.BaseRequest, call: Call, target: Target, answer: Answer, meter: RevisionMeter
) -> tuple[web.StreamResponse, int]:
    """Sends a stream on as it comes; the response is complete then, and the code tells how it ended. Raises ElsewhereError while nothing has been sent."""
    hide_usage = not call.inference.usage_wanted and call.inference.kind is not Kind.RESPONSE
    events = EventRelay(engine_model=target.model, public_model=call.inference.model, hide_usage=hide_usage)
    # Nothing goes to the client before the pod's first bytes: until then another pod can still take over.
    chunk = await answer.chunk()
    if not chunk:
        raise ElsewhereError("broken", executed=True, message="a stream without a single byte")
    meter.first_token.observe(time.monotonic() - call.began)
    if call.span is not None:
        call.span.first_byte()
    response = call.opened or stream(request, {"Content-Type": _type(answer, EVENTS), **call.headers(target)})
    code = 200
    try:
        if not response.prepared:
            await response.prepare(request)
        await _pass_on(events, chunk, answer, response, call)
    except (ElsewhereError, EventTooLongError, ApiError) as error:
        code = error.status if isinstance(error, ApiError) else UpstreamFailedError.status
        await break_off(request, call, response, error)
    except (ClientConnectionResetError, ConnectionResetError):
        code = CLIENT_GONE
    except Exception:
        # An error's response must not be written into the middle of this one.
        if request.transport is not None:
            request.transport.abort()
        raise
    finally:
        if events.usage:
            used(call, meter, events.usage)
    return response, code


async def _pass_on(relay: EventRelay, chunk: bytes, answer: Answer, response: web.StreamResponse, call: Call) -> None:
    transcript = call.transcript
    counted = UNCOUNTED_BYTES
    while chunk:
        if transcript is not None:
            transcript.add(chunk)
        if events := relay.feed(chunk):
            await response.write(events)
        elif relay.pending > counted:
            call.place.grow(relay.pending - counted)
            counted = relay.pending
        chunk = await answer.chunk()
    if rest := relay.finish():
        await response.write(rest)
    await response.write_eof()


async def break_off(request: web.BaseRequest, call: Call, response: web.StreamResponse, error: Exception) -> None:
    """The status is long sent: an event tells readers, and the missing end of the body tells every HTTP client that the answer is not whole."""
    failure = error if isinstance(error, ApiError) else UpstreamFailedError("The model broke off in the middle of its answer")
    log.info("stream broke off", extra=fields(model=call.name.public, request_id=call.request_id, why=str(error)))
    try:
        await response.write(_last_event(call.inference.kind, failure))
    except (ClientConnectionResetError, ConnectionResetError):
        log.debug("client left first")
    if request.transport is not None:
        request.transport.close()


def _last_event(kind: Kind, failure: ApiError) -> bytes:
    if kind is not Kind.RESPONSE:
        return b"data: " + failure.body() + b"\n\n"
    # Events of /v1/responses have types, and clients look at nothing else.
    event = {"type": "error", "code": failure.reason, "message": failure.message, "param": failure.param, "sequence_number": -1}
    return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"


def refusal_in(body: bytes, status: int, target: Target, call: Call) -> ApiError:
    """An engine's refusal as an error, for a stream that has begun already and so has no status any more."""
    try:
        stated = orjson.loads(body)
    except orjson.JSONDecodeError:
        stated = None
    error = stated.get("error", stated) if isinstance(stated, dict) else {}
    message = error.get("message") if isinstance(error, dict) else None
    text = message.replace(target.model, call.inference.model) if isinstance(message, str) else f"The model answered {status}"
    return BadRequestError(text) if status < 500 else UpstreamFailedError(text)


def whole(call: Call, target: Target, body: bytes, answer: Answer, meter: RevisionMeter) -> web.Response:
    """A complete answer, or an engine's refusal, with the client's name for the model."""
    rewriter = ModelRewriter(engine_model=target.model, public_model=call.inference.model)
    if answer.status == 200:
        if usage := usage_within(body):
            used(call, meter, usage)
        if call.transcript is not None:
            call.transcript.add(body)
        body = rewriter.rewrite(body)
    else:
        # Engines name the model in the message, too.
        body = body.replace(target.model.encode(), call.inference.model.encode())
    headers = {"Content-Type": _type(answer, JSON), **call.headers(target)}
    if retry_after := answer.headers.get("retry-after"):
        headers["Retry-After"] = retry_after
    return web.Response(body=body, status=answer.status, headers=headers)


def used(call: Call, meter: RevisionMeter, usage: Usage) -> None:
    """Counts what an answer has cost."""
    meter.used(usage)
    if call.span is not None:
        call.span.used(usage)


def _type(answer: Answer, default: str) -> str:
    # Pods run in their tenants' namespaces: a page of theirs must not look like one of the gateway's.
    given = answer.headers.get("content-type", default)
    return given if given.startswith((JSON, EVENTS)) else "application/octet-stream"
