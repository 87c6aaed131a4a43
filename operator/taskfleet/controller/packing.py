"""Carries out the packing of one key: the only writer of ModelPools and their members."""

import logging
from collections.abc import Callable
from dataclasses import replace

from taskfleet.api.modelpool import ModelPool
from taskfleet.controller.autoscaler import Autoscaler
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import PoolKey, TaskKey
from taskfleet.controller.queue import RetryError
from taskfleet.controller.resolutions import Resolutions
from taskfleet.controller.scaledown import Prepared, ScaleDown
from taskfleet.controller.writer import RefusedError, Writer
from taskfleet.kube.resources import MODEL_POOLS
from taskfleet.logs import fields
from taskfleet.planning.packing import pack
from taskfleet.planning.packing_key import PackingKey
from taskfleet.planning.plans import PackingPlan, PoolDraft
from taskfleet.planning.snapshot import PackingSnapshot, PackingTask, Refusal
from taskfleet.resources.custom_objects import model_pool
from taskfleet.resources.observed import pod_view

log = logging.getLogger(__name__)

# Gateways told a moment ago that nobody asks anything; an agent that had a request since then knows better.
IDLE_SECONDS = 1.0

RefusePool = Callable[[TaskKey, Refusal | None], None]


class PackingReconciler:
    """One key is one packing domain. `refuse_pool` is told why each task's pool could not be written."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        writer: Writer,
        resolutions: Resolutions,
        autoscaler: Autoscaler,
        scale_down: ScaleDown,
        refuse_pool: RefusePool,
    ) -> None:
        self._fleet = fleet
        self._writer = writer
        self._resolutions = resolutions
        self._autoscaler = autoscaler
        self._scale_down = scale_down
        self._refuse_pool = refuse_pool

    async def reconcile(self, key: PackingKey) -> float | None:
        if self._fleet.is_ending(key.namespace):
            return None
        plan = self._plan(key)
        for note in plan.notes:
            log.info(note, extra=fields(namespace=key.namespace, base=key.base_source, servingclass=key.serving_class))
        refused = [error for draft in plan.apply if (error := await self._apply(draft)) is not None]
        for deletion in plan.delete:
            await self._writer.delete(MODEL_POOLS, deletion.name, key.namespace, uid=deletion.uid)
        if refused:
            raise refused[0]
        return None

    def _plan(self, key: PackingKey) -> PackingPlan:
        pools = self._fleet.pools(key.namespace)
        own = [pool for pool in pools if key.pool_index(pool.metadata.name) is not None]
        members = {member.task_model for pool in own for member in pool.spec.members}
        # Of a big namespace only those that can have to do with this key.
        tasks = [
            task
            for task in self._fleet.tasks(key.namespace)
            if task.metadata.name in members or (task.spec.base.source, task.spec.base.revision) == (key.base_source, key.base_revision)
        ]
        found = {pool.metadata.name: reply for pool in own if (reply := self._resolutions.found(pool.metadata.uid)) is not None}
        return pack(
            PackingSnapshot(
                key=key,
                namespace_labels=self._fleet.namespace_labels(key.namespace),
                serving_classes=self._fleet.serving_classes(),
                tasks=tuple(
                    PackingTask(task=task, revisions=self._fleet.revisions(TaskKey(key.namespace, task.metadata.name))) for task in tasks
                ),
                pools=pools,
                claims=self._fleet.claims(key.namespace),
                unreadable=self._fleet.unreadable_tasks(key.namespace),
                base_digests={name: reply.digest for name, reply in found.items()},
                base_versions={name: reply.version for name, reply in found.items() if reply.version is not None},
                replicas={pool.metadata.name: wanted for pool in own if (wanted := self._autoscaler.decided(pool)) is not None},
                scaled_by_others=frozenset(pool.metadata.name for pool in own if self._fleet.scaler_of(_key(pool))),
            )
        )

    async def _apply(self, draft: PoolDraft) -> RefusedError | None:
        """Why it was not written."""
        pool = self._fleet.pool(PoolKey(draft.namespace, draft.name))
        prepared = Prepared()
        if isinstance(pool, ModelPool) and draft.spec.replicas < pool.spec.replicas and not draft.scaled_by_other:
            draft, prepared = await self._prepared(pool, draft)
        refused = None
        try:
            # Where somebody else has replicas, only an apply settles whose they are.
            adopt = not self._fleet.scaler_of(PoolKey(draft.namespace, draft.name))
            await self._writer.apply(MODEL_POOLS, model_pool(draft), adopt=adopt, resource_version=draft.resource_version)
        except RefusedError as error:
            refused = error
            log.warning("pool is refused", extra=fields(pool=f"{draft.namespace}/{draft.name}", why=str(error)))
            await self._release(pool, prepared)
        except RetryError:
            await self._release(pool, prepared)
            raise
        for task in {member.task_model for member in draft.spec.members}:
            self._refuse_pool(TaskKey(draft.namespace, task), refused.refusal if refused is not None else None)
        return refused

    async def _prepared(self, pool: ModelPool, draft: PoolDraft) -> tuple[PoolDraft, Prepared]:
        """The draft, with the replicas that may be written now."""
        pods = [pod_view(body) for body in self._fleet.pods(_key(pool), pool.metadata.uid)]
        found = await self._scale_down.prepare(pool, pods, draft.spec.replicas, idle_seconds=IDLE_SECONDS)
        if isinstance(found, Prepared):
            return draft, found
        log.info("pool keeps its pods", extra=fields(pool=pool.metadata.key, replicas=pool.spec.replicas, why=found.message))
        self._autoscaler.postpone(pool)
        return replace(draft, spec=draft.spec.model_copy(update={"replicas": pool.spec.replicas})), Prepared()

    async def _release(self, pool: object, prepared: Prepared) -> None:
        """Pods that let nothing in any more do so again: they stay."""
        if isinstance(pool, ModelPool) and prepared.closed:
            await self._scale_down.release(pool, prepared)


def _key(pool: ModelPool) -> PoolKey:
    return PoolKey(pool.metadata.namespace, pool.metadata.name)
