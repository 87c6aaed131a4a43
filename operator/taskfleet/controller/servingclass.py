"""Carries out the plan of one ServingClass: its status."""

import logging
from collections.abc import Callable
from datetime import datetime

from taskfleet.api.servingclass import ServingClass
from taskfleet.controller.cache import Unreadable
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
            log.error("ServingClass can't be read", extra=fields(servingclass=key.name, why=found.message))
        elif isinstance(found, ServingClass) and found.metadata.deletion_timestamp is None:
            plan = servingclass.plan(found, now=self._now())
            if await self._writer.write_status(SERVING_CLASSES, found.metadata, found.status, plan.status):
                await self._events.write(SERVING_CLASSES, found.metadata, plan.events)
