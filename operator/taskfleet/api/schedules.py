"""Times at which a task has at least so many replicas: said in the words of cron, or learned."""

from typing import Annotated

from pydantic import ConfigDict, Field

from taskfleet.api.fields import DnsLabel, Model, rules

# What crontab(5) and Kubernetes' CronJob have in common: five fields of numbers, names, ranges, lists and steps. No @daily, `?`, `L`, `#` or seconds.
_MINUTE = r"[0-5]?[0-9]"
_HOUR = r"(2[0-3]|[01]?[0-9])"
_DAY = r"(3[01]|[12][0-9]|0?[1-9])"
_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_WEEKDAYS = "SUN|MON|TUE|WED|THU|FRI|SAT"
_MONTH = rf"(1[0-2]|0?[1-9]|{_MONTHS}|{_MONTHS.lower()})"
_WEEKDAY = rf"([0-7]|{_WEEKDAYS}|{_WEEKDAYS.lower()})"


def _list_of(value: str) -> str:
    item = rf"(\*|{value}(-{value})?)(/[1-9][0-9]?)?"
    return rf"{item}(,{item})*"


CRON = "^" + " ".join(_list_of(value) for value in (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)) + "$"

Cron = Annotated[str, Field(max_length=100, pattern=CRON)]
TimeZone = Annotated[
    str,
    Field(
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$",
        # The API server has the zones: it fails on one that it does not know.
        json_schema_extra=rules(("timestamp('2000-01-01T00:00:00Z').getHours(self) >= 0", "must be a time zone of the IANA database")),
    ),
]


class Schedule(Model):
    """From each `start` to the next `end` the task has at least `minReplicas`."""

    model_config = ConfigDict(json_schema_extra=rules(("self.start != self.end", "start and end must differ")))

    name: Annotated[DnsLabel, Field(description="By which statuses and messages name it.")]
    time_zone: Annotated[TimeZone, Field(description="Time zone of start and end, by its IANA name.")] = "Etc/UTC"
    start: Annotated[Cron, Field(description="When it begins: minute, hour, day of month, month, day of week.")]
    end: Annotated[Cron, Field(description="When it ends.")]
    min_replicas: Annotated[int, Field(ge=1, le=256, description="Fewest replicas meanwhile.")]


class Forecast(Model):
    """Replicas for what is usual at a time of day, before it comes."""

    days: Annotated[int, Field(ge=2, le=14, description="How many of the last days it is learned from.")] = 7
    lead_seconds: Annotated[
        int, Field(ge=0, le=7200, description="How long before a rise its replicas are asked for, in steps of a quarter of an hour.")
    ] = 600
