"""One replica of the operator: its parts, how they start and how they end.

Every replica watches and keeps its cache; the leader's workers run, after a fresh list. Whoever loses the lease ends its process, because nothing else makes sure that no
write of its is under way.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp

from taskfleet import names
from taskfleet.api.modelpool import ModelPool
from taskfleet.controller import keys
from taskfleet.controller.agents import AgentConnections
from taskfleet.controller.autoscaler import Autoscaler
from taskfleet.controller.background import Background
from taskfleet.controller.cache import Cache, Change, Json
from taskfleet.controller.demand import GatewayDemand
from taskfleet.controller.demandrecords import DemandRecords
from taskfleet.controller.devicetime import DeviceTime
from taskfleet.controller.election import Election
from taskfleet.controller.evaluations import JobEvaluations
from taskfleet.controller.events import EventWriter
from taskfleet.controller.fleet import MODELS, Fleet
from taskfleet.controller.gateways import Gateways
from taskfleet.controller.health import Health
from taskfleet.controller.keys import ClassKey, Key, PoolKey, ScalingKey, TaskKey
from taskfleet.controller.measurements import GatewayMeasurements
from taskfleet.controller.metrics import CACHED_OBJECTS, FleetCollector
from taskfleet.controller.packing import PackingReconciler
from taskfleet.controller.pool import PoolReconciler
from taskfleet.controller.queue import WorkQueue
from taskfleet.controller.relist import Relist
from taskfleet.controller.resolutions import Resolutions
from taskfleet.controller.scaledown import ScaleDown
from taskfleet.controller.servingclass import ServingClassReconciler
from taskfleet.controller.settings import OperatorSettings
from taskfleet.controller.taskmodel import TaskModelReconciler
from taskfleet.controller.triggers import keys_of
from taskfleet.controller.trust import TrustSource
from taskfleet.controller.watched import WATCHED
from taskfleet.controller.writer import Writer
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import KubeError
from taskfleet.kube.reflector import Reflector
from taskfleet.kube.resources import ENDPOINT_SLICES, Resource
from taskfleet.kube.tokens import PoolTokens
from taskfleet.logs import fields
from taskfleet.planning.packing_key import PackingKey, key_of_pool

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
STOP_SECONDS = 5.0


class Replica:
    """Made by `open`; `start` returns when the CustomResourceDefinitions are there and the replica may watch."""

    def __init__(
        self, settings: OperatorSettings, *, kube: Kube, session: aiohttp.ClientSession, identity: str, fail: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._kube = kube
        self._session = session
        self._fail = fail
        self._started = False
        self._background = Background(fail)
        self._cache = Cache(self._changed)
        self._fleet = Fleet(self._cache)
        self._queue: WorkQueue[Key] = WorkQueue(
            self._work, keys.kind_of, keys.text_of, keys.tenant_of, keys.is_shared, workers=settings.workers
        )
        self._relist = Relist(kube, self._cache, WATCHED, seconds=settings.relist_seconds, users_seconds=settings.users_relist_seconds)
        self._health = Health(live=self.trouble, ready=lambda: None if self._started else "starting")
        self._demand = GatewayDemand(now=_now, clock=time.monotonic)
        self._device_time = DeviceTime(busy=self._demand.busy_seconds, clock=time.monotonic)
        self._collector = FleetCollector(
            depths=self._queue.depths,
            kinds=keys.KINDS,
            conditions=self._fleet.condition_counts,
            shares=self._fleet.shares,
            scores=self._fleet.scores,
            pools=self._fleet.sizes,
            device_seconds=self._device_time.figures,
        )
        self._election = Election(
            kube,
            namespace=settings.namespace,
            name=settings.lease_name,
            identity=identity,
            lease_seconds=settings.lease_seconds,
            renew_seconds=settings.lease_renew_seconds,
        )
        self._trust = TrustSource(
            kube,
            operator_subject=settings.operator_subject,
            gateway_subject=settings.gateway_subject,
            refresh_seconds=settings.trust_refresh_seconds,
            on_change=self._enqueue_pools,
        )
        self._gateway_slices = Reflector(
            kube, ENDPOINT_SLICES, namespace=settings.namespace, label_selector=f"kubernetes.io/service-name={settings.gateway_service}"
        )
        tokens = PoolTokens(kube, namespace=settings.namespace, service_account=settings.service_account)
        self._agents = AgentConnections(session, tokens, on_change=self._queue.add)
        self._resolutions = Resolutions(self._agents, _now, on_found=self._digest_found, on_failed=self._queue.add)
        self._reconcilers(settings, identity, tokens)

    def _reconcilers(self, settings: OperatorSettings, identity: str, tokens: PoolTokens) -> None:
        again = settings.refused_retry_seconds
        writer = Writer(self._kube, self._cache, may_write=self._election.may_write, refused_retry_seconds=again)
        events = EventWriter(self._kube, instance=identity)
        port, audience = settings.gateway_internal_port, settings.internal_audience
        gateways = Gateways(self._session, tokens, slices=self._slices, port=port, audience=audience)
        self._autoscaler = Autoscaler(
            fleet=self._fleet,
            demand=self._demand,
            records=DemandRecords(fleet=self._fleet, writer=writer),
            agents=self._agents.views,
            refresh=self._agents.refresh,
            failures=self._resolutions.failures,
            device_time=self._device_time,
            enqueue=self._queue.add,
            now=_now,
            clock=time.monotonic,
        )
        self._demand.listen(on_demand=self._autoscaler.demanded, on_heard=self._autoscaler.heard)
        self._measurements = GatewayMeasurements(
            self._session,
            tokens,
            slices=self._slices,
            port=port,
            audience=audience,
            enqueue=self._queue.add,
            exists=self._fleet.has_revision,
            demand=self._demand,
            now=_now,
        )
        self._task_models = TaskModelReconciler(
            fleet=self._fleet,
            writer=writer,
            events=events,
            gateways=gateways,
            resolutions=self._resolutions,
            evaluations=JobEvaluations(
                fleet=self._fleet, writer=writer, kube=self._kube, settings=settings.evaluator_settings, enqueue=self._queue.add
            ),
            measurements=self._measurements,
            enqueue=self._queue.add,
            now=_now,
            gateway_url=settings.gateway_url,
        )
        scale_down = ScaleDown(agents=self._agents, writer=writer)
        self._packing = PackingReconciler(
            fleet=self._fleet,
            writer=writer,
            resolutions=self._resolutions,
            autoscaler=self._autoscaler,
            scale_down=scale_down,
            refuse_pool=self._task_models.refuse_pool,
        )
        self._pools = PoolReconciler(
            fleet=self._fleet,
            writer=writer,
            events=events,
            agents=self._agents,
            resolutions=self._resolutions,
            autoscaler=self._autoscaler,
            scale_down=scale_down,
            trust=self._trust,
            settings=settings.pool_settings,
            now=_now,
            refused_retry_seconds=again,
        )
        self._classes = ServingClassReconciler(fleet=self._fleet, writer=writer, events=events, now=_now)

    @classmethod
    async def open(cls, settings: OperatorSettings, *, identity: str, fail: Callable[[str], None]) -> "Replica":
        """Connects to the API server. `fail` is called with a reason where the process had better end. Raises KubeError."""
        kube = await Kube.connect(user_agent="taskfleet-operator", qps=settings.kube_qps, burst=settings.kube_burst)
        # No limit: every pod of every pool has a long poll open.
        # Agents don't compress; who does wants to send more than may be sent.
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False, auto_decompress=False)
        return cls(settings, kube=kube, session=session, identity=identity, fail=fail)

    async def start(self) -> None:
        """Serves probes, waits for the CustomResourceDefinitions, and stands for election."""
        await self._health.start(self._settings.host, self._settings.probe_port, self._settings.metrics_port)
        self._collector.register()
        await self._definitions()
        self._background.spawn("gateway endpoints", self._gateway_slices.run())
        self._background.spawn("leadership", self._lead())
        self._started = True

    async def stop(self) -> None:
        """Finishes what is in work, gives the lease back, and closes everything."""
        await self._queue.stop(grace_seconds=STOP_SECONDS)
        await self._background.stop()
        await self._resolutions.close()
        await self._agents.close()
        try:
            await self._election.release()
        except KubeError as error:
            log.warning("lease not released, it runs out by itself", extra=fields(why=error.message))
        self._collector.unregister()
        await self._health.stop()
        await self._session.close()
        await self._kube.close()

    def observe(self, resource: Resource, kind_of_event: str | None, body: Json) -> None:
        """Takes in what a watch told. `kind_of_event` is None for an object of a list."""
        if kind_of_event == "DELETED":
            self._cache.remove(resource, body)
        else:
            self._cache.put(resource, body)
        self._relist.heard(resource)
        if kind_of_event is None:
            self._relist.hint(resource)
        CACHED_OBJECTS.labels(resource.kind).set(self._cache.count(resource))

    def trouble(self) -> str | None:
        """Why the process had better be started anew; what liveness answers."""
        if self._queue.dead_workers():
            return "workers have ended"
        waited = self._queue.longest_wait()
        if waited > self._settings.stall_seconds:
            return f"a key has been due or in work for {waited:.0f} s"
        behind = self._relist.behind()
        return f"the watch of {behind} misses changes" if behind else None

    async def _lead(self) -> None:
        await self._election.acquire()
        holding = asyncio.create_task(self._election.hold(), name="lease")
        try:
            await self._trust.first()
            await self._fill()
            self._queue.start()
            self._enqueue_all()
            self._background.spawn("measurements", self._measurements.run())
            self._background.spawn("trust", self._trust.run())
            self._background.spawn("comparison", self._relist.run())
            await holding
        finally:
            holding.cancel()
        self._queue.halt()
        self._fail("the lease is lost")

    async def _fill(self) -> None:
        while True:
            try:
                return await self._relist.fill()
            except KubeError as error:
                log.warning("can't list", extra=fields(why=error.message))
                await asyncio.sleep(RETRY_SECONDS)

    async def _definitions(self) -> None:
        """Returns when the API server serves all our kinds: kopf looks once, and never watches what is not there then."""
        told: set[str] = set()
        while True:
            try:
                served = {item["name"] for item in (await self._kube.get_json(f"/apis/{names.API_VERSION}"))["resources"]}
                missing = {resource.plural for resource in MODELS} - served
            except KubeError as error:
                missing = {error.message}
            if not missing:
                return
            if missing != told:
                log.warning("waiting for CustomResourceDefinitions", extra=fields(missing=sorted(missing)))
                told = missing
            await asyncio.sleep(RETRY_SECONDS)

    async def _work(self, key: Key) -> float | None:
        if isinstance(key, TaskKey):
            return await self._task_models.reconcile(key)
        if isinstance(key, PoolKey):
            return await self._pools.reconcile(key)
        if isinstance(key, ScalingKey):
            return await self._autoscaler.reconcile(key)
        if isinstance(key, PackingKey):
            return await self._packing.reconcile(key)
        await self._classes.reconcile(key)
        return None

    def _changed(self, change: Change) -> None:
        try:
            self._fleet.index(change)
            for key in keys_of(change, self._fleet):
                self._queue.add(key)
                if isinstance(key, PoolKey):
                    self._queue.add(ScalingKey(key.namespace, key.name))
        except Exception:
            # One object that nobody foresaw must not keep the others from being taken in, here or after the restart.
            metadata = change.any["metadata"]
            about = fields(kind=change.resource.kind, name=metadata.get("name"), namespace=metadata.get("namespace", ""))
            log.exception("a change was not understood", extra=about)

    def _digest_found(self, pool: ModelPool, revision: str) -> None:
        """To the one writer of what was found: a base's digest is recorded by packing, a revision's by its TaskModel's key."""
        if not revision:
            self._queue.add(key_of_pool(pool))
            return
        for member in pool.spec.members:
            if member.revision == revision:
                self._queue.add(TaskKey(pool.metadata.namespace, member.task_model))

    def _slices(self) -> list[Json] | None:
        """EndpointSlices of the gateway's Service; None while they are not known."""
        return list(self._gateway_slices.objects.values()) if self._gateway_slices.synced.is_set() else None

    def _enqueue_pools(self) -> None:
        for key in self._fleet.pool_keys():
            self._queue.add(key)

    def _enqueue_all(self) -> None:
        for name in self._fleet.class_names():
            self._queue.add(ClassKey(name))
        for key in self._fleet.task_keys():
            self._queue.add(key)
        self._enqueue_pools()
        for pool in self._fleet.pool_keys():
            self._queue.add(ScalingKey(pool.namespace, pool.name))


def _now() -> datetime:
    return datetime.now(UTC)
