"""What raises a task's fewest pods for a while: so many, why, and until when."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from taskfleet.api.modelpool import FloorSource, ScalingFloor
from taskfleet.planning.conditions import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """`zone` is the one in which people are told of `until`."""

    replicas: int
    source: FloorSource
    until: datetime | None
    zone: str
    schedule: str = ""

    def told(self, task: str) -> ScalingFloor:
        """As a status has it."""
        return ScalingFloor(
            replicas=self.replicas,
            source=self.source,
            task_model=task,
            schedule=self.schedule or None,
            until=timestamp(self.until) if self.until is not None else None,
        )

    def in_words(self, task: str, *, now: datetime) -> str:
        """`schedule office-hours of invoice-fields keeps 2 until 18:00 Europe/Berlin`, or `forecast for invoice-fields keeps …`."""
        who = f"schedule {self.schedule} of {task}" if self.source is FloorSource.SCHEDULE else f"forecast for {task}"
        return f"{who} keeps {self.replicas}{self._end_in_words(now)}"

    def _end_in_words(self, now: datetime) -> str:
        if self.until is None:
            return ""
        local, today = self.until.astimezone(ZoneInfo(self.zone)), now.astimezone(ZoneInfo(self.zone)).date()
        return f" until {local:%H:%M} {self.zone}" if local.date() == today else f" until {local:%Y-%m-%d %H:%M} {self.zone}"
