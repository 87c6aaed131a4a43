"""Kubernetes Events, one for each transition.

They are told to people and kept by nobody: one that the API server does not take is logged, and not tried again.
"""

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from taskfleet.api.fields import Metadata
from taskfleet.controller import metrics
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import KubeError
from taskfleet.kube.resources import EVENTS, Resource
from taskfleet.logs import fields
from taskfleet.planning.plans import Event

log = logging.getLogger(__name__)

CONTROLLER = "taskfleet.dev/operator"
MAX_NOTE = 1024
# The same words about the same object within this time are said once: an object that goes back and forth must not flood the log of events.
SILENCE_SECONDS = 300.0
_REMEMBERED = 10_000


class EventWriter:
    """Writes the events of plans."""

    def __init__(self, kube: Kube, *, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._instance = instance
        self._clock = clock
        self._said: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def write(self, resource: Resource, metadata: Metadata, events: Iterable[Event]) -> None:
        """Writes events about one object; those said a short while ago are left out."""
        for event in events:
            log.log(
                logging.WARNING if event.type == "Warning" else logging.INFO,
                "transition",
                extra=fields(kind=resource.kind, name=metadata.key, reason=event.reason, why=event.message),
            )
            if self._is_new(metadata.uid, event):
                await self._create(resource, metadata, event)

    def _is_new(self, uid: str, event: Event) -> bool:
        key = (uid, event.reason, event.message)
        now = self._clock()
        said = self._said.get(key)
        if said is not None and now - said < SILENCE_SECONDS:
            return False
        self._said[key] = now
        self._said.move_to_end(key)
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return True

    async def _create(self, resource: Resource, metadata: Metadata, event: Event) -> None:
        # Events about cluster-scoped objects stand in the namespace `default`, by convention.
        namespace = metadata.namespace or "default"
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{metadata.name[:200]}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason,
            "note": event.message[:MAX_NOTE],
            "regarding": {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
            },
        }
        try:
            await self._kube.create(EVENTS, body)
        except KubeError as error:
            metrics.EVENTS_DROPPED.inc()
            log.warning("event not written", extra=fields(name=metadata.key, reason=event.reason, why=error.message))
            return
        metrics.EVENTS.labels(event.type, event.reason).inc()
