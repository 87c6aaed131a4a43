"""From a request to its answer: choose a revision and a pod, try, go elsewhere, wait.

A request goes to another pod only while nothing has been sent to the client. One that may have reached an engine is repeated once; one that was refused,
as often as its time allows. What waits has a place and a deadline; what can't be answered gets a 503 that says when to come again.
"""

import logging
import time
from collections.abc import Sequence

from aiohttp import web

from taskfleet.api.agent import NO_SUCH_ROUTE
from taskfleet.gateway.call import Call
from taskfleet.gateway.delivery import break_off, refusal_in, relay, whole
from taskfleet.gateway.errors import ApiError, ModelNotFoundError, UnsupportedEndpointError, UpstreamFailedError
from taskfleet.gateway.followup import FollowUp
from taskfleet.gateway.hold import RETRY_AFTER
from taskfleet.gateway.meter import CLIENT_GONE, NO_REVISION, Meter, RevisionMeter
from taskfleet.gateway.outcome import count
from taskfleet.gateway.paths import PATHS
from taskfleet.gateway.pick import pick_pod, pick_revision
from taskfleet.gateway.records import Endpoint
from taskfleet.gateway.routes import RouteTable, Target
from taskfleet.gateway.supervision import Supervision
from taskfleet.gateway.tally import Measurements
from taskfleet.gateway.tracing import AttemptSpan
from taskfleet.gateway.upstream import ElsewhereError, Load, Upstream
from taskfleet.gateway.waiting import Waiting
from taskfleet.logs import fields

log = logging.getLogger(__name__)

REST_SECONDS = 0.5  # a pod that refused is asked last for so long

_NONE: frozenset[str] = frozenset()

# A candidate's failure is counted against it, and the stable revision answers: users are no test.
CANDIDATE_FAILED = "candidate-failed"


class Proxy:
    """Answers requests of callers who may ask."""

    def __init__(
        self,
        *,
        table: RouteTable,
        waiting: Waiting,
        upstream: Upstream,
        meter: Meter,
        measurements: Measurements,
        supervision: Supervision,
        load: Load,
        follow_up: FollowUp,
    ) -> None:
        self._table = table
        self._waiting = waiting
        self._upstream = upstream
        self._meter = meter
        self._measurements = measurements
        self._supervision = supervision
        self._load = load
        self._follow_up = follow_up

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """The response, sent already where it is a stream. Raises ApiError as long as nothing has been sent."""
        code = CLIENT_GONE
        if call.counted and self._table.task(call.task) is not None:
            call.demand = self._measurements.demand(call.task)
        call.demand.enter(call.began)
        try:
            response, code = await self._answer(request, call)
            return response
        except ApiError as error:
            code = error.status
            if call.opened is None:
                error.of_call = call.held_headers()
                raise
            self._meter.errors.labels(str(code)).inc()
            await break_off(request, call, call.opened, error)
            return call.opened
        except ConnectionResetError:
            raise  # the client has left while it waited
        except Exception:
            code = 500
            call.cohort = None  # the gateway's own fault says nothing about a revision
            if call.opened is not None and request.transport is not None:
                # An error's response must not be written into the middle of the stream.
                request.transport.abort()
            raise
        finally:
            self._ended(call, code)

    def _ended(self, call: Call, code: int) -> None:
        now = time.monotonic()
        call.demand.leave(now)
        meter = call.meter
        if meter is None and self._table.task(call.task) is not None:
            meter = self._meter.of(call.task, NO_REVISION)
        if meter is not None:
            meter.ended(code, now - call.began)
        count(call, code, now)
        if call.held_reason is not None:
            self._meter.waited(call.held_reason.value, call.held, code=code, in_vain=call.in_vain)
        if code == 200 and call.transcript is not None:
            self._follow_up.answered(call)
        if call.span is not None:
            call.span.status = code
            if call.held_reason is not None:
                call.span.held(call.held, call.held_reason.value)

    async def _answer(self, request: web.BaseRequest, call: Call) -> tuple[web.StreamResponse, int]:
        while True:
            target, endpoint = self._choose(call) or await self._wait(request, call)
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
        if elsewhere.reason != CANDIDATE_FAILED:
            self._load.rest(target.model, endpoint.address, time.monotonic() + REST_SECONDS)
            self._table.refuses(call.name.namespace, target.pool, endpoint)
        call.tried.setdefault(target.model, set()).add(endpoint.address)
        call.refusals.add(elsewhere.reason)
        call.transcript = None
        log.debug(
            "pod did not answer",
            extra=fields(
                model=call.name.public, revision=target.revision.name, pod=endpoint.address, reason=elsewhere.reason, why=str(elsewhere)
            ),
        )
        self._waiting.give_up(call)
        if elsewhere.executed:
            call.executed += 1
            if call.cohort is not None and call.cohort.revision.uid == target.revision.uid:
                call.cohort_broke = True
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
            call.cohort, call.route = self._measurements.of(route.targets[0].revision), None
            return route.targets
        call.route = route
        picked = pick_revision(route.targets, call.conversation()) if self._supervision.active else route.targets[0]
        if picked is not None and not call.executed:
            call.cohort = self._measurements.of(picked.revision)
        if call.cohort_broke:
            picked = None
        # A candidate that all its pods refuse was revoked, and the stable revision answers: nobody waits for a watch.
        return [target for target in (picked, *route.stable) if target is not None]

    def _choose(self, call: Call) -> tuple[Target, Endpoint] | None:
        targets = self._targets(call)
        # Pods that rest come last, also after the stable revision's: what was just refused is not asked again for every request.
        for resting in (True, False) if self._load.rests(time.monotonic()) else (False,):
            for target in targets:
                excluded = call.tried.get(target.model, _NONE)
                if resting:
                    excluded = excluded | self._load.resting(target.model)
                endpoints = self._table.endpoints(call.name.namespace, target.pool)
                if endpoint := pick_pod(target.model, endpoints, self._load.in_flight, excluded):
                    return target, endpoint
        return None

    async def _wait(self, request: web.BaseRequest, call: Call) -> tuple[Target, Endpoint]:
        return await self._waiting.until(request, call, targets=self._targets(call), choose=self._choose)

    # The answer

    async def _attempt(
        self, request: web.BaseRequest, call: Call, target: Target, endpoint: Endpoint, meter: RevisionMeter
    ) -> tuple[web.StreamResponse, int]:
        upstream_id = call.upstream_id(target)
        body = call.body_for(target, upstream_id)
        if call.route is not None:
            self._follow_up.prepare(call, call.route, target)
        if call.span is None:
            return await self._ask(request, call, target, endpoint, meter=meter, upstream_id=upstream_id, body=body, span=None)
        span = call.span.attempt(address=endpoint.address, revision=target.revision.name, number=call.attempts)
        call.attempts += 1
        code, trouble = CLIENT_GONE, ""
        try:
            response, code = await self._ask(request, call, target, endpoint, meter=meter, upstream_id=upstream_id, body=body, span=span)
            return response, code
        except ElsewhereError as elsewhere:
            trouble = elsewhere.reason
            raise
        except ApiError as error:
            code = error.status
            raise
        finally:
            span.end(code, trouble=trouble)

    async def _ask(
        self,
        request: web.BaseRequest,
        call: Call,
        target: Target,
        endpoint: Endpoint,
        *,
        meter: RevisionMeter,
        upstream_id: str,
        body: bytes,
        span: AttemptSpan | None,
    ) -> tuple[web.StreamResponse, int]:
        call.asked, call.asked_at = target, time.monotonic()
        path, stream, within = PATHS[call.inference.kind], call.inference.stream, call.deadline - call.asked_at
        answer = await self._upstream.ask(
            endpoint,
            path,
            body,
            request_id=upstream_id,
            trace=call.trace if span is None else span.context,
            within=within,
            quiet=min(call.limits.first_byte, within) if stream else within,
        )
        async with answer:
            if answer.status >= 500 and _is_on_trial(call, target):
                raise ElsewhereError(CANDIDATE_FAILED, executed=True, message=f"a candidate's answer {answer.status}")
            if answer.status == NO_SUCH_ROUTE:
                raise UnsupportedEndpointError(call.inference.model, path)
            if stream and answer.status == 200:
                return await relay(request, call, target, answer, meter)
            if call.opened is not None:
                raise refusal_in(await answer.read(call.place.grow), answer.status, target, call)
            return whole(call, target, await answer.read(call.place.grow), answer, meter), answer.status


def _is_on_trial(call: Call, target: Target) -> bool:
    """Has the candidate the request for its share of the traffic, beside a revision that can answer instead?"""
    return call.route is not None and target not in call.route.stable and call.executed == 0
