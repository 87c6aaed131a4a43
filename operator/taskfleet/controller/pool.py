"""Carries out the plan of one ModelPool: its children, its agents' document, digests to look up, its status."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from taskfleet import names
from taskfleet.api.agent import DesiredState
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.controller import metrics
from taskfleet.controller.agents import AgentConnections, AgentUnreachableError
from taskfleet.controller.autoscaler import Autoscaler
from taskfleet.controller.cache import Json, Unreadable
from taskfleet.controller.coldstarts import ColdStarts
from taskfleet.controller.events import EventWriter
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey
from taskfleet.controller.resolutions import Resolutions
from taskfleet.controller.scaledown import ScaleDown
from taskfleet.controller.trust import TrustSource
from taskfleet.controller.writer import CHILDREN, RefusedError, Writer
from taskfleet.kube.resources import DEPLOYMENTS, MODEL_POOLS, SERVICES
from taskfleet.logs import fields
from taskfleet.planning import pool as planning
from taskfleet.planning.plans import PoolPlan
from taskfleet.planning.scaling.status import is_wake_up
from taskfleet.planning.snapshot import PoolSnapshot, Refusal
from taskfleet.resources.observed import deployment_view, pod_view
from taskfleet.resources.pool import children
from taskfleet.resources.settings import PoolSettings

log = logging.getLogger(__name__)


class PoolReconciler:
    """One key is one ModelPool."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        writer: Writer,
        events: EventWriter,
        agents: AgentConnections,
        resolutions: Resolutions,
        autoscaler: Autoscaler,
        scale_down: ScaleDown,
        trust: TrustSource,
        settings: PoolSettings,
        now: Callable[[], datetime],
        refused_retry_seconds: float,
    ) -> None:
        self._fleet = fleet
        self._writer = writer
        self._events = events
        self._agents = agents
        self._resolutions = resolutions
        self._autoscaler = autoscaler
        self._scale_down = scale_down
        self._trust = trust
        self._settings = settings
        self._now = now
        self._refused_retry_seconds = refused_retry_seconds
        self._uids: dict[PoolKey, str] = {}
        self._cold_starts = ColdStarts()

    async def reconcile(self, key: PoolKey) -> float | None:
        pool = self._fleet.pool(key)
        if self._fleet.foreign_pool(key) is not None:
            log.warning("ModelPool was not made by the operator and is left alone", extra=fields(pool=str(key)))
        if isinstance(pool, Unreadable):
            log.error("ModelPool can't be read", extra=fields(pool=str(key), why=pool.message))
            return None
        if pool is None or pool.metadata.deletion_timestamp is not None or self._fleet.is_ending(key.namespace):
            self._forget(key)
            return None
        if self._uids.get(key, pool.metadata.uid) != pool.metadata.uid:
            self._forget(key)
        self._uids[key] = pool.metadata.uid
        return await self._carry_out(key, pool)

    async def _carry_out(self, key: PoolKey, pool: ModelPool) -> float | None:
        plan = self._plan(key, None)
        # A registry may take long, so it is asked before the API server is.
        for resolution in plan.resolve:
            self._resolutions.start(pool, resolution)
        refusal = None
        if plan.desired is not None:
            if self._fleet.scaler_of(key):
                deployment = self._fleet.deployment(key)
                pods = [pod_view(body) for body in self._fleet.pods(key, pool.metadata.uid)]
                await self._scale_down.follow(pool, deployment_view(deployment) if deployment is not None else None, pods)
            refusal = await self._apply_children(pool, plan.desired)
            # Children first: a pod that starts now must find the document in its ConfigMap.
            plan = self._plan(key, refusal)
            await self._hand_out(key, plan)
        self._resolutions.keep_only(pool.metadata.uid, frozenset(member.revision for member in pool.spec.members))
        await self._write_status(key, plan)
        if refusal is not None:
            return min(plan.requeue_after or self._refused_retry_seconds, self._refused_retry_seconds)
        return plan.requeue_after

    def _plan(self, key: PoolKey, refusal: Refusal | None) -> PoolPlan:
        pool = self._fleet.pool(key)
        if not isinstance(pool, ModelPool):
            return PoolPlan()
        pods = tuple(pod_view(body) for body in self._fleet.pods(key, pool.metadata.uid))
        self._agents.sync(key, pool.metadata.uid, pods)
        agents = self._agents.views(key)
        deployment = self._fleet.deployment(key)
        return planning.plan(
            PoolSnapshot(
                pool=pool,
                serving_class=self._class_of(pool),
                deployment=deployment_view(deployment) if deployment is not None else None,
                pods=pods,
                agents=agents,
                revisions=tuple(
                    revision
                    for member in pool.spec.members
                    if (revision := self._fleet.revision(key.namespace, member.revision)) is not None
                ),
                failures=self._resolutions.failures(pool.metadata.uid),
                refusal=refusal,
                scaling=self._autoscaler.to_tell(pool),
                last_start=self._cold_starts.look(pool, pods, agents),
            ),
            now=self._now(),
        )

    async def _apply_children(self, pool: ModelPool, desired: DesiredState) -> Refusal | None:
        """Why a child could not be written. The others are applied all the same: what serves must stay right."""
        serving_class = self._class_of(pool)
        if serving_class is None:
            return None
        refusals: list[Refusal] = []
        for child in children(pool, serving_class, self._settings, desired=desired, trust=self._trust.current):
            if self._would_start_among_strangers(pool, child, refusals):
                continue
            try:
                await self._writer.apply_child(child)
            except RefusedError as error:
                refusals.append(error.refusal)
        if not refusals:
            return None
        message = "; ".join(refusal.message for refusal in refusals)
        log.warning("children are refused", extra=fields(pool=pool.metadata.key, why=message))
        return Refusal(refusals[0].reason, message)

    def _would_start_among_strangers(self, pool: ModelPool, child: Json, refusals: list[Refusal]) -> bool:
        """Pods that don't exist yet are not started with an account, documents or a Service that are somebody else's."""
        taken = any(refusal.reason is Reason.NAME_TAKEN for refusal in refusals)
        key = PoolKey(pool.metadata.namespace, pool.metadata.name)
        return taken and child["kind"] == DEPLOYMENTS.kind and self._fleet.deployment(key) is None

    async def _hand_out(self, key: PoolKey, plan: PoolPlan) -> None:
        desired = plan.desired
        if desired is None or not plan.put_to:
            return
        results = await asyncio.gather(*(self._agents.put(key, pod, desired) for pod in plan.put_to), return_exceptions=True)
        for pod, result in zip(plan.put_to, results, strict=True):
            if isinstance(result, AgentUnreachableError):
                # The pod has the document in its ConfigMap, and its next answered poll brings this key back.
                log.warning("document not handed out", extra=fields(pool=str(key), pod=pod, why=str(result)))
            elif isinstance(result, BaseException):
                raise result

    async def _write_status(self, key: PoolKey, plan: PoolPlan) -> None:
        pool = self._fleet.pool(key)
        if plan.status is None or not isinstance(pool, ModelPool):
            return
        if await self._writer.write_status(MODEL_POOLS, pool.metadata, pool.status, plan.status):
            if is_wake_up(pool.status.scaling, plan.status.scaling):
                metrics.WAKE_UPS.labels(key.namespace, key.name).inc()
            await self._events.write(MODEL_POOLS, pool.metadata, plan.events)

    def _class_of(self, pool: ModelPool) -> ServingClass | None:
        found = self._fleet.serving_class(pool.spec.serving_class_name)
        return found if isinstance(found, ServingClass) else None

    def _forget(self, key: PoolKey) -> None:
        uid = self._uids.pop(key, None)
        self._agents.forget(key)
        self._cold_starts.forget(key)
        if uid is not None:
            self._resolutions.forget(uid)
        for resource in (MODEL_POOLS, *CHILDREN):
            self._writer.forget(resource, (key.namespace, key.name))
        self._writer.forget(SERVICES, (key.namespace, names.peers_service(key.name)))
