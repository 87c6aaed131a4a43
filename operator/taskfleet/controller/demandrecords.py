"""What was asked of the tasks that have a forecast: gathered at each look of the autoscaler, kept in a ConfigMap for each, which is written once an hour at most.

Kept for the leader's time; whoever becomes the leader goes on with what is written. What was seen since is lost, and a quarter of an hour that nobody knows is left out.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256

from taskfleet.api.fields import Metadata
from taskfleet.api.taskmodel import TaskModel
from taskfleet.controller.fleet import Fleet
from taskfleet.controller.keys import TaskKey
from taskfleet.controller.queue import RetryError
from taskfleet.controller.writer import Writer
from taskfleet.kube.resources import CONFIG_MAPS
from taskfleet.logs import fields
from taskfleet.planning.scaling.demand import PoolDemand
from taskfleet.planning.scaling.demandhistory import Day, DemandHistory, read, written
from taskfleet.resources.demandrecord import data_of, demand_record

log = logging.getLogger(__name__)

HOUR_SECONDS = 3600


@dataclass(slots=True, kw_only=True)
class _Record:
    """Of one TaskModel."""

    metadata: Metadata
    history: DemandHistory
    written: Mapping[date, Day]
    hour: int  # the last in which it was written, or begun


class DemandRecords:
    """`seen` at each look, `write` after it."""

    def __init__(self, *, fleet: Fleet, writer: Writer) -> None:
        self._fleet = fleet
        self._writer = writer
        self._records: dict[TaskKey, _Record] = {}

    def seen(self, namespace: str, tasks: tuple[str, ...], demand: PoolDemand | None, *, now: datetime) -> Mapping[str, DemandHistory]:
        """What is known of those of the tasks that have a forecast and are not suspended, with what is asked now."""
        asked = {view.task: view.fast for view in demand.tasks} if demand is not None else {}
        found = {}
        for name in tasks:
            key = TaskKey(namespace, name)
            task = self._fleet.task(key)
            if not isinstance(task, TaskModel) or task.spec.scaling.forecast is None or task.spec.suspend:
                self._records.pop(key, None)
                continue
            record = self._record(key, task.metadata, now)
            is_known = demand is not None and demand.complete
            record.history = record.history.seen(asked.get(name, 0.0), now=now) if is_known else record.history.unseen()
            found[name] = record.history
        return found

    async def write(self, namespace: str, tasks: tuple[str, ...], *, now: datetime) -> None:
        """Writes what is new of the tasks whose hour has come. What can't be written is tried an hour later: a forecast is no reason to stop scaling."""
        for name in tasks:
            key = TaskKey(namespace, name)
            record = self._records.get(key)
            if record is None or record.hour == _hour(key, now):
                continue
            record.hour = _hour(key, now)
            days = record.history.days
            if not record.history.is_news_to(record.written):
                continue
            try:
                await self._writer.apply(CONFIG_MAPS, demand_record(record.metadata, written(days)))
                record.written = days
            except RetryError as error:
                log.warning("demand of the last hour not written", extra=fields(taskmodel=str(key), why=str(error)))

    def _record(self, key: TaskKey, metadata: Metadata, now: datetime) -> _Record:
        record = self._records.get(key)
        if record is None or record.metadata.uid != metadata.uid:
            body = self._fleet.demand_record(key)
            days = read(data_of(body, metadata)) if body is not None else {}
            record = self._records[key] = _Record(metadata=metadata, history=DemandHistory(days=days), written=days, hour=_hour(key, now))
        return record


def _hour(key: TaskKey, now: datetime) -> int:
    """Each task's hours begin at another second, so that not all are written at once."""
    shift = int.from_bytes(sha256(str(key).encode()).digest()[:4], "big") % HOUR_SECONDS
    return int(now.timestamp() + shift) // HOUR_SECONDS
