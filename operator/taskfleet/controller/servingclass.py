"""Carries out the plan of one ServingClass: its status."""

import logging
from collections.abc import Callable
from datetime import datetime

from taskfleet.api.fields import Metadata
from taskfleet.api.servingclass import ServingClass, ServingClassStatus
from taskfleet.controller.cache import Json, Unreadable
from taskfleet.controller.events import EventWriter
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import ClassKey
from taskfleet.controller.writer import Writer
from taskfleet.kube.resources import SERVING_CLASSES
from taskfleet.logs import fields
from taskfleet.planning import servingclass

log = logging.getLogger(__name__)


class ServingClassReconciler:
    """One key is one ServingClass."""

    def __init__(self, *, fleet: Fleet, writer: Writer, events: EventWriter, now: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._writer = writer
        self._events = events
        self._now = now

    async def reconcile(self, key: ClassKey) -> None:
        found = self._fleet.serving_class(key.name)
        if isinstance(found, Unreadable):
            # TaskModels that name it say that there is no such class; a class of a newer version of the CRD is the likely cause.
            await self._say_unreadable(key, found)
        elif isinstance(found, ServingClass) and found.metadata.deletion_timestamp is None:
            plan = servingclass.plan(found, now=self._now())
            if await self._writer.write_status(SERVING_CLASSES, found.metadata, found.status, plan.status):
                await self._events.write(SERVING_CLASSES, found.metadata, plan.events)

    async def _say_unreadable(self, key: ClassKey, fault: Unreadable) -> None:
        body = self._fleet.serving_class_body(key.name)
        if body is None:
            return
        log.error("ServingClass can't be read", extra=fields(servingclass=key.name, why=fault.message))
        metadata, before = Metadata.model_validate(body["metadata"]), _status_of(body)
        plan = servingclass.unreadable(before, f"can't be read: {fault.message}", generation=metadata.generation, now=self._now())
        if await self._writer.write_status(SERVING_CLASSES, metadata, before, plan.status):
            await self._events.write(SERVING_CLASSES, metadata, plan.events)


def _status_of(body: Json) -> ServingClassStatus:
    """What can be read of the status of a class whose spec can't."""
    try:
        return ServingClassStatus.model_validate(body.get("status") or {})
    except ValueError:
        return ServingClassStatus()
