"""`taskfleet pool status` as people read it."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from taskfleet.api.modelpool import ScalingFloor, ScalingReason, StartStatus
from taskfleet.cli.pool.report import PoolReport

_COLUMNS = ("POOL", "CLASS", "DESIRED", "READY", "REASON", "MESSAGE", "LAST START", "MEMBERS")
# Of more the rest is counted, unless one pool was asked for.
_NAMED_TASKS = 3


def table(pools: Sequence[PoolReport], *, namespaces: bool = False, all_members: bool = False) -> Table:
    """One row for each pool. `namespaces`: with a column of theirs; `all_members`: names every task, and the parts of the last start."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in (("NAMESPACE",) if namespaces else ()) + _COLUMNS:
        drawn.add_column(column, overflow="fold", no_wrap=column not in {"MESSAGE", "LAST START", "MEMBERS"})
    for pool in pools:
        drawn.add_row(*([pool.namespace] if namespaces else []), *_row(pool, all_members=all_members))
    return drawn


def _row(pool: PoolReport, *, all_members: bool) -> tuple[Text | str, ...]:
    style = "green" if pool.ready_replicas >= pool.desired_replicas else "yellow"
    message = "; ".join(part for part in (pool.message, _floor(pool), pool.trouble) if part)
    return (
        pool.name,
        pool.serving_class,
        str(pool.desired_replicas),
        Text(str(pool.ready_replicas), style),
        pool.reason or "-",
        Text(message or "-", "red" if pool.trouble else ""),
        _start(pool.last_start, parts=all_members),
        _members(pool, all_members=all_members),
    )


def _floor(pool: PoolReport) -> str:
    """Nothing where it is the reason, which says it in the pool's own words."""
    floor: ScalingFloor | None = pool.floor
    if floor is None or pool.reason in {ScalingReason.SCHEDULED, ScalingReason.FORECAST}:
        return ""
    until = f" until {floor.until}" if floor.until else ""
    who = f"schedule {floor.schedule} of" if floor.schedule else "forecast for"
    return f"{who} {floor.task_model} keeps {floor.replicas}{until}"


def _start(start: StartStatus | None, *, parts: bool) -> str:
    """How long the newest pod took, and for what."""
    if start is None:
        return "-"
    told = ", ".join(f"{part.phase.lower()} {part.seconds}" for part in start.phases)
    return f"{start.seconds} s: {told}" if parts and told else f"{start.seconds} s"


def _members(pool: PoolReport, *, all_members: bool) -> str:
    tasks = sorted({member.task_model for member in pool.members})
    named = tasks if all_members or len(tasks) <= _NAMED_TASKS + 1 else tasks[:_NAMED_TASKS]
    rest = len(tasks) - len(named)
    told = ", ".join([*named, *([f"{rest} more"] if rest else [])]) or "-"
    rests = pool.max_resident is not None and pool.max_resident < pool.adapters
    return f"{told}; a pod has {pool.max_resident} of {pool.adapters} adapters loaded at a time" if rests else told
