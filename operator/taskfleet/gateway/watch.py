"""Keeps the route table by list and watch of TaskModels, TaskModelRevisions, ModelPools and the pools' EndpointSlices.

While the API server is away the table stays as it is: pods that are there go on being used. The replica takes requests only after the first full sync.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from taskfleet.gateway.meter import Meter
from taskfleet.gateway.records import Key, UnreadableObjectError, pool_record, revision_record, slice_record, task_record
from taskfleet.gateway.routes import RouteTable
from taskfleet.gateway.tally import Measurements
from taskfleet.kube.client import Kube
from taskfleet.kube.reflector import Reflector
from taskfleet.kube.resources import ENDPOINT_SLICES, MODEL_POOLS, TASK_MODEL_REVISIONS, TASK_MODELS
from taskfleet.logs import fields
from taskfleet.names import LABEL_POOL

log = logging.getLogger(__name__)

KubernetesObject = dict[str, Any]

# A silent watch says only at its end that nothing has happened. So it is shorter than a candidate may go on without news (`supervision`), and half of that for one that fails.
WATCH_SECONDS = 25


class RouteWatch:
    """The watches."""

    def __init__(self, kube: Kube, table: RouteTable, meter: Meter, measurements: Measurements) -> None:
        self._table = table
        self._meter = meter
        self._measurements = measurements
        watched = (
            (TASK_MODELS, "", self._put_task, self._remove_task),
            (TASK_MODEL_REVISIONS, "", self._put_revision, self._remove_revision),
            (MODEL_POOLS, "", self._put_pool, self._remove_pool),
            (ENDPOINT_SLICES, LABEL_POOL, self._put_slice, self._remove_slice),
        )
        self._reflectors = tuple(
            Reflector(kube, resource, label_selector=labels, watch_seconds=WATCH_SECONDS, on_upsert=_tolerant(put), on_delete=remove)
            for resource, labels, put, remove in watched
        )
        self._running: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        """Starts watching, in the background."""
        self._running = tuple(asyncio.create_task(reflector.run()) for reflector in self._reflectors)

    async def synced(self) -> None:
        """Returns when all have been listed once."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))

    def heard(self) -> float:
        """When the API server told last that all is up to date: monotonic seconds."""
        return min(reflector.heard for reflector in self._reflectors)

    def trouble(self) -> str | None:
        """Why the process had better be restarted; None while all watches run. That the API server is away is no such reason."""
        dead = [task for task in self._running if task.done()]
        return "a watch has ended" if dead else None

    async def stop(self) -> None:
        """Ends the watches."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _put_task(self, item: KubernetesObject) -> None:
        record = task_record(item)
        if record.deleted:
            self._forget_task(record.key)
        self._table.put_task(record)

    def _remove_task(self, item: KubernetesObject) -> None:
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        self._table.remove_task(key)
        self._forget_task(key)

    def _forget_task(self, key: Key) -> None:
        self._meter.forget_task(key)
        self._measurements.forget_task(key)

    def _put_revision(self, item: KubernetesObject) -> None:
        self._table.put_revision(revision_record(item))

    def _remove_revision(self, item: KubernetesObject) -> None:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        task = (namespace, item["spec"]["taskModelName"])
        self._table.remove_revision(namespace, name)
        self._meter.forget_revision(task, name)
        self._measurements.forget_revision(task, name)

    def _put_pool(self, item: KubernetesObject) -> None:
        self._table.put_pool(pool_record(item))

    def _remove_pool(self, item: KubernetesObject) -> None:
        self._table.remove_pool(item["metadata"]["namespace"], item["metadata"]["name"])

    def _put_slice(self, item: KubernetesObject) -> None:
        if record := slice_record(item):
            self._table.put_slice(record)
        else:
            self._remove_slice(item)

    def _remove_slice(self, item: KubernetesObject) -> None:
        self._table.remove_slice(item["metadata"]["namespace"], item["metadata"]["name"])


def _tolerant(put: Callable[[KubernetesObject], None]) -> Callable[[KubernetesObject], None]:
    """One object that can't be read must not stop the watch of all the others; what was known of it stays."""

    def guarded(item: KubernetesObject) -> None:
        try:
            put(item)
        except (UnreadableObjectError, KeyError, TypeError) as error:
            metadata = item.get("metadata") or {}
            log.warning(
                "object can't be read, keeping what was known",
                extra=fields(kind=item.get("kind"), name=f"{metadata.get('namespace')}/{metadata.get('name')}", why=str(error)),
            )

    return guarded
