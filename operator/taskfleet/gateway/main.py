"""A gateway replica: puts the parts together, starts them in order, and ends without breaking an answer."""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry

from taskfleet import logs
from taskfleet.gateway import feedback
from taskfleet.gateway.answer_ids import AnswerIds, Keys
from taskfleet.gateway.auth import Access, KubernetesAccess, OpenAccess
from taskfleet.gateway.body import BodyReader
from taskfleet.gateway.client_connection import ClientLimits, ClientServer
from taskfleet.gateway.cors import Cors
from taskfleet.gateway.feedback_keys import FeedbackKeys
from taskfleet.gateway.followup import FollowUp
from taskfleet.gateway.hold import Hold
from taskfleet.gateway.internal import InternalApi
from taskfleet.gateway.knocks import Knocks
from taskfleet.gateway.measurement_stream import MeasurementStreams
from taskfleet.gateway.meter import Meter, watch_loop
from taskfleet.gateway.mirror import Mirror
from taskfleet.gateway.places import Places
from taskfleet.gateway.proxy import Proxy
from taskfleet.gateway.routes import RouteTable
from taskfleet.gateway.server import PublicApi
from taskfleet.gateway.settings import AuthMode, GatewaySettings
from taskfleet.gateway.supervision import Supervision
from taskfleet.gateway.tally import Measurements
from taskfleet.gateway.time_limits import TimeLimits
from taskfleet.gateway.tracing import Tracing
from taskfleet.gateway.upstream import Load, PoolTokens, Upstream
from taskfleet.gateway.votes import VoteRate, Votes
from taskfleet.gateway.waiting import Waiting
from taskfleet.gateway.watch import RouteWatch
from taskfleet.kube.client import Kube
from taskfleet.kube.tokens import PoolTokens as KubePoolTokens
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# For a pod's word that it is Ready. While it starts, its agent says no after 1.5 s.
READY_SECONDS = 3.0


def run(settings: GatewaySettings) -> None:
    """Runs until SIGTERM or SIGINT, then finishes what is under way."""
    logs.configure(level=settings.log_level, style=settings.log_style)
    asyncio.run(_serve(settings))


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts that have no connections of their own: what tests put together as well."""

    table: RouteTable
    meter: Meter
    measurements: Measurements
    streams: MeasurementStreams
    supervision: Supervision
    mirror: Mirror
    api: PublicApi


def assemble(
    settings: GatewaySettings,
    *,
    access: Access,
    sender: Upstream,
    registry: CollectorRegistry,
    keys: Keys,
    tracing: Tracing | None = None,
) -> Gateway:
    """Wires table, proxy and public API."""
    meter = Meter(registry)
    hold = Hold(total=settings.max_held_requests, per_namespace=settings.max_held_per_namespace, per_task=settings.max_held_per_task)
    table = RouteTable(on_change=hold.wake)
    places = Places(total=settings.max_open_requests, per_tenant=settings.max_open_per_tenant, max_bytes=settings.max_buffered_body_bytes)
    measurements, supervision = Measurements(), Supervision(time.monotonic)
    streams = MeasurementStreams(measurements, told=supervision.told)
    load = Load()
    mirror = Mirror(table=table, upstream=sender, load=load, measurements=measurements)
    proxy = Proxy(
        table=table,
        waiting=Waiting(
            table=table,
            hold=hold,
            knocks=Knocks(table=table, ask=partial(sender.is_ready, within=READY_SECONDS)),
            meter=meter,
            seconds=settings.hold_seconds,
            comment_seconds=settings.comment_seconds,
            woken=streams.hurry,
        ),
        upstream=sender,
        meter=meter,
        measurements=measurements,
        supervision=supervision,
        load=load,
        follow_up=FollowUp(mirror, supervision),
    )
    ids = AnswerIds(keys.ring, lifetime=settings.feedback_lifetime_seconds)
    votes = feedback.Feedback(
        table=table,
        access=access,
        meter=meter,
        measurements=measurements,
        ids=ids,
        keys=keys,
        votes=Votes(settings.feedback_remembered),
        rate=VoteRate(settings.feedback_per_minute),
    )
    api = PublicApi(
        table=table,
        access=access,
        proxy=proxy,
        meter=meter,
        places=places,
        reader=BodyReader(max_bytes=settings.max_body_bytes, seconds=settings.body_timeout_seconds),
        vote_reader=BodyReader(max_bytes=feedback.MAX_BODY_BYTES, seconds=settings.body_timeout_seconds),
        limits=TimeLimits(request=settings.request_timeout_seconds, first_byte=settings.first_byte_timeout_seconds),
        cors=Cors(settings.origins),
        ids=ids,
        votes=votes if settings.feedback_secret else None,
        tracing=tracing,
    )
    meter.observe(
        held=lambda: hold.count,
        open_requests=lambda: places.open,
        buffered=lambda: places.bytes,
        task_models=table.count,
        supervised=lambda: supervision.active,
    )
    return Gateway(table, meter, measurements, streams, supervision, mirror, api)


def upstream(settings: GatewaySettings, tokens: PoolTokens) -> Upstream:
    """What sends requests to pods."""
    return Upstream(tokens, connect_seconds=settings.connect_timeout_seconds)


def public_server(settings: GatewaySettings, gateway: Gateway) -> ClientServer:
    """What clients connect to."""
    limits = ClientLimits(
        idle=settings.idle_timeout_seconds,
        head=settings.header_timeout_seconds,
        stall=settings.stall_timeout_seconds,
        connections=settings.max_connections,
    )
    return ClientServer(gateway.api.handle, limits=limits, closed=lambda reason: gateway.meter.closed.labels(reason).inc())


def start_tracing(settings: GatewaySettings) -> Tracing | None:
    """Spans, where the administrator wants them."""
    if not settings.otlp_endpoint:
        return None
    return Tracing(endpoint=settings.otlp_endpoint, sample=settings.trace_sample_percent / 100)


async def _serve(settings: GatewaySettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        kube = await Kube.connect(user_agent="taskfleet-gateway", qps=200, burst=400)
        stack.push_async_callback(kube.close)
        tokens: PoolTokens = KubePoolTokens(kube, namespace=settings.namespace, service_account=settings.service_account)
        sender = upstream(settings, tokens)
        stack.callback(sender.close)
        tracing = start_tracing(settings)
        if tracing is not None:
            # In a thread: it waits for the collector.
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        keys = FeedbackKeys(kube, namespace=settings.namespace, secret=settings.feedback_secret)
        gateway = assemble(settings, access=_access(settings, kube), sender=sender, registry=REGISTRY, keys=keys, tracing=tracing)
        stack.callback(gateway.mirror.close)
        watch = RouteWatch(kube, gateway.table, gateway.meter, gateway.measurements)
        gateway.supervision.routes_heard = watch.heard
        ready = False

        def not_ready() -> str | None:
            return "shutting down" if gateway.api.closing else None if ready else "the cluster's objects have not been listed yet"

        internal = InternalApi(
            table=gateway.table,
            access=_reviews(settings, kube, settings.internal_audience),
            operator_subject=settings.operator_subject,
            registry=REGISTRY,
            streams=gateway.streams,
            ready=not_ready,
            live=watch.trouble,
        )
        runner = web.AppRunner(internal.application(), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, settings.host, settings.internal_port).start()

        watch.start()
        stack.push_async_callback(watch.stop)
        for endless in (watch_loop(gateway.meter), gateway.supervision.watch(), keys.run()):
            stack.callback(asyncio.create_task(endless).cancel)
        if not await _before(asyncio.gather(watch.synced(), keys.tried.wait()), stop):
            return
        # What is there now stays: a full collection over 1,000 TaskModels and the libraries takes 50 ms, in which no request moves.
        gc.collect()
        gc.freeze()
        public = web.ServerRunner(public_server(settings, gateway))
        await public.setup()
        stack.push_async_callback(public.cleanup)
        site = web.TCPSite(public, settings.host, settings.port, backlog=1024)
        await site.start()
        ready = True
        log.info("serving", extra=fields(port=settings.port, task_models=gateway.table.count(), auth=settings.auth_mode.value))
        await stop.wait()
        await drain(gateway.api, site, delay=settings.shutdown_delay_seconds, limit=settings.drain_seconds)


async def drain(api: PublicApi, site: web.BaseSite, *, delay: float, limit: float) -> None:
    """Not ready, still taking requests; then no new connections; then nothing until the last answer is out, or `limit` seconds have passed."""
    log.info("shutting down", extra=fields(open_requests=api.open_requests))
    api.closing = True
    await asyncio.sleep(delay)
    await site.stop()
    try:
        async with asyncio.timeout(limit):
            await api.idle()
    except TimeoutError:
        log.warning("answers broken off at the end of the drain", extra=fields(open_requests=api.open_requests))


async def _before(wanted: Awaitable[object], stop: asyncio.Event) -> bool:
    """Whether `wanted` came before `stop`."""
    waits = [asyncio.ensure_future(wanted), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return not stop.is_set()


def _access(settings: GatewaySettings, kube: Kube) -> Access:
    return OpenAccess() if settings.auth_mode is AuthMode.NONE else _reviews(settings, kube, settings.audience)


def _reviews(settings: GatewaySettings, kube: Kube, audience: str) -> KubernetesAccess:
    return KubernetesAccess(kube, audience=audience, timeout=settings.review_timeout_seconds, clock=time.time)
